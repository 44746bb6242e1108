"""Small vision transformer: patches and a class token, pre-norm blocks with their own queries, keys and values."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout, attention, attention_taps, images
from kdjax.types import Array, Net


class _ViT(nn.Module):
    classes: int
    width: int
    depth: int
    heads: int
    patch: int
    mlp_ratio: int
    dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = tap(self, 'embedding', self._embedded(images(inputs, self.dtype)))
        for layer in range(1, self.depth + 1):
            x = x + self._dropped(self._attention(self._normed(x, f'norm{layer}a'), layer), train)
            x = x + self._dropped(self._mlp(self._normed(x, f'norm{layer}b'), layer), train)
            x = tap(self, f'hidden{layer}', x)
        x = tap(self, 'penult', self._normed(x[:, 0], 'norm'))
        return self._dense(self.classes, 'head')(x)

    def _embedded(self, images: Array) -> Array:
        """Class token, then patches row by row, each with its learned position. (B, N, D)"""
        height, width = images.shape[1:3]
        if height % self.patch or width % self.patch:
            raise UsageError(f'patch {self.patch} of a vit must divide the map {height}x{width}')
        size = (self.patch, self.patch)
        patches = Conv(self.width, size, size, padding='VALID', dtype=self.dtype, name='patches')(images)
        patches = patches.reshape(patches.shape[0], -1, self.width)
        start = nn.initializers.normal(0.02)
        token = self.param('class_token', start, (1, 1, self.width)).astype(self.dtype)
        positions = self.param('positions', start, (1, patches.shape[1] + 1, self.width)).astype(self.dtype)
        return jnp.concatenate([jnp.broadcast_to(token, (patches.shape[0], 1, self.width)), patches], 1) + positions

    def _attention(self, x: Array, layer: int) -> Array:
        parts = [self._dense(self.width, f'to_{part}{layer}')(x) for part in ('query', 'key', 'value')]
        return self._dense(self.width, f'mix{layer}')(attention(self, layer, parts, self.heads))

    def _mlp(self, x: Array, layer: int) -> Array:
        inner = nn.gelu(self._dense(self.mlp_ratio * self.width, f'mlp{layer}a')(x))
        return self._dense(self.width, f'mlp{layer}b')(inner)

    def _normed(self, x: Array, name: str) -> Array:
        return nn.LayerNorm(dtype=self.dtype, name=name)(x)

    def _dense(self, width: int, name: str) -> nn.Module:
        return nn.Dense(width, dtype=self.dtype, name=name)

    def _dropped(self, x: Array, train: bool) -> Array:
        return Dropout(self.dropout, self.axis)(x, train)


def vit(
    *,
    classes: int,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    patch: int = 2,
    mlp_ratio: int = 2,
    dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Pre-norm transformer over image patches; inputs (B, H, W) or (B, H, W, C).

    A class token comes first and is what the head reads, rather than the mean of patches, because methods from language
    models (Patient KD) read position 0. So there are N = 1 + HW / patch^2 tokens of width D.

    Taps: 'embedding' (B, N, D); of each layer from 1 on, 'query1', 'key1', 'value1' (B, N, D) over all heads,
    'attention1' (B, heads, N, N), scores before the softmax, 'hidden1' (B, N, D); and 'penult' (B, D).

    Args:
      classes: number of logits.
      width: D.
      depth: number of layers.
      heads: of attention; divides the width.
      patch: pixels along a side of a patch; divides the map.
      mlp_ratio: units of a layer's MLP over D.
      dropout: probability of dropping a unit of what a block adds, in training.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, or (in `init`) a map that patches do not fill.
    """
    for name, value in {'width': width, 'depth': depth, 'heads': heads, 'patch': patch, 'mlp_ratio': mlp_ratio}.items():
        if value < 1:
            raise UsageError(f'{name} of a vit must be at least 1, got {value}')
    if width % heads:
        raise UsageError(f'heads {heads} of a vit must divide its width {width}')
    module = _ViT(classes, width, depth, heads, patch, mlp_ratio, dropout, axis, compute_dtype(precision))
    return from_linen(module, ('embedding', *attention_taps(depth), 'penult'))
