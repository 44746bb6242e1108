"""Vision transformers as published: ViT and DeiT, with or without the token that learns from a teacher."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout, attention, attention_taps, fan_in_uniform, images, uniform
from kdjax.types import Array, Net

# Published as truncated, but at +-2, a hundred deviations out.
START = nn.initializers.normal(0.02)


class _DeiT(nn.Module):
    classes: int
    width: int
    depth: int
    heads: int
    patch: int
    distilled: bool
    drop_path: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = tap(self, 'embedding', self._embedded(images(inputs, self.dtype)))
        for layer in range(1, self.depth + 1):
            x = x + self._dropped(self._attention(self._normed(x, f'blocks_{layer - 1}_norm1'), layer), layer, train)
            x = x + self._dropped(self._mlp(self._normed(x, f'blocks_{layer - 1}_norm2'), layer), layer, train)
            x = tap(self, f'hidden{layer}', x)
        x = self._normed(x, 'norm')
        logits = self._dense(self.classes, 'head')(tap(self, 'penult', x[:, 0]))
        if not self.distilled:
            return logits
        taught = self._dense(self.classes, 'head_dist')(tap(self, 'penult_dist', x[:, 1]))
        taught = tap(self, 'distill_logits', taught)
        return logits if train else (logits + taught) / 2

    def _embedded(self, images: Array) -> Array:
        """Class token, token of the teacher, patches row by row, each with its learned position. (B, N, D)"""
        count, height, width = images.shape[:3]
        if height % self.patch or width % self.patch:
            raise UsageError(f'patch {self.patch} of a deit must divide the map {height}x{width}')
        size, bound = (self.patch, self.patch), (self.patch**2 * images.shape[-1]) ** -0.5
        patches = Conv(
            self.width, size, size, padding='VALID', kernel_init=fan_in_uniform, bias_init=uniform(bound),
            dtype=self.dtype, name='patch_embed_proj',
        )(images).reshape(count, -1, self.width)  # fmt: skip
        names = ('cls_token', 'dist_token') if self.distilled else ('cls_token',)
        tokens = [self.param(name, START, (1, 1, self.width)).astype(self.dtype) for name in names]
        x = jnp.concatenate([*(jnp.broadcast_to(token, (count, 1, self.width)) for token in tokens), patches], axis=1)
        return x + self.param('pos_embed', START, (1, *x.shape[1:])).astype(self.dtype)

    def _attention(self, x: Array, layer: int) -> Array:
        joint = self._dense(3 * self.width, f'blocks_{layer - 1}_attn_qkv')(x)
        mixed = attention(self, layer, jnp.split(joint, 3, axis=-1), self.heads)
        return self._dense(self.width, f'blocks_{layer - 1}_attn_proj')(mixed)

    def _mlp(self, x: Array, layer: int) -> Array:
        inner = nn.gelu(self._dense(4 * self.width, f'blocks_{layer - 1}_mlp_fc1')(x), approximate=False)
        return self._dense(self.width, f'blocks_{layer - 1}_mlp_fc2')(inner)

    def _dropped(self, x: Array, layer: int, train: bool) -> Array:
        """Stochastic depth: the whole branch of an example, the more often the deeper."""
        rate = self.drop_path * (layer - 1) / max(self.depth - 1, 1)
        return Dropout(rate, self.axis, whole=(1, 2))(x, train)

    def _normed(self, x: Array, name: str) -> Array:
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)(x)

    def _dense(self, width: int, name: str) -> nn.Module:
        return nn.Dense(width, kernel_init=START, dtype=self.dtype, name=name)


def deit(
    *,
    classes: int,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    patch: int = 16,
    distilled: bool = False,
    drop_path: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """ViT as published, and DeiT; inputs (B, H, W) or (B, H, W, C), in the literature (B, 224, 224, 3).

    | size  | width | heads |
    |-------|-------|-------|
    | tiny  | 192   | 3     |
    | small | 384   | 6     |
    | base  | 768   | 12    |

    There are N = 1 + HW / patch^2 tokens of width D, the class token first; one more, second, where `distilled`.
    A distilled network has two classifiers. In training the logits are those of the class token, and the teacher's
    words are for 'distill_logits'; in use they are the mean of both, as in the authors' code.

    Taps, as of `vit.vit`: 'embedding' (B, N, D); of each layer from 1 on, 'query1', 'key1', 'value1' (B, N, D) over all
    heads, 'attention1' (B, heads, N, N), scores before the softmax, 'hidden1' (B, N, D); and 'penult' (B, D). Where
    `distilled`, also 'penult_dist' (B, D) and 'distill_logits' (B, K).

    Args:
      classes: number of logits.
      width: D.
      depth: number of layers.
      heads: of attention; divides the width.
      patch: pixels along a side of a patch; divides the map.
      distilled: whether there is a token that learns from a teacher.
      drop_path: probability that an example skips a branch of the last layer in training, falling linearly to 0 at the
        first (the literature trains with 0.1).
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which branches are dropped.

    Raises:
      UsageError: a number below 1, a width that the heads do not divide, or (in `init`) a map that patches do not fill.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; Touvron et al., Training Data-Efficient
    Image Transformers and Distillation through Attention, ICML 2021, sec. 4 and table 1.
    """
    for name, value in {'width': width, 'depth': depth, 'heads': heads, 'patch': patch}.items():
        if value < 1:
            raise UsageError(f'{name} of a deit must be at least 1, got {value}')
    if width % heads:
        raise UsageError(f'heads {heads} of a deit must divide its width {width}')
    module = _DeiT(classes, width, depth, heads, patch, distilled, drop_path, axis, compute_dtype(precision))
    second = ('penult_dist', 'distill_logits') if distilled else ()
    return from_linen(module, ('embedding', *attention_taps(depth), 'penult', *second))
