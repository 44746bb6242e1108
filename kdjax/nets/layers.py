"""Layers as the published networks of the distillation literature have them: their padding, names and initial weights.

The names of layers are those of the published implementations, with '_' for '.': what PyTorch calls
'layer1.0.conv1.weight' is 'kernel' of 'layer1_0/conv1' here. The classifier is 'head' in all networks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv, finished
from kdjax.errors import UsageError
from kdjax.nets.base import ROWS, repeated, tap
from kdjax.types import Array, Tree

Initializer = Callable[..., Array]  # an initialiser: (key, shape, dtype) -> array

# Normal with variance 2 / fan_out (He, Zhang, Ren, Sun, 2015, eq. 14). The fan of a grouped convolution counts all its
# outputs and its own inputs.
he_normal: Initializer = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
# What PyTorch gives convolutions and linear layers by default: uniform within +-1 / sqrt(fan_in).
fan_in_uniform: Initializer = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
EPSILON = 1e-5  # of batch normalisation


def uniform(bound: float) -> Initializer:
    """Uniform within +-bound."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def images(inputs: Array, dtype: Any) -> Array:
    """Images with a channel axis, whether given as (B, H, W) or (B, H, W, C)."""
    return (inputs[..., None] if inputs.ndim == 3 else inputs).astype(dtype)


class Dropout(nn.Module):
    """Dropout that is the same however a batch lies on devices: a row's mask is that of its place in the whole batch.

    Attributes:
      rate: probability of dropping a number; what is kept is scaled up.
      axis: name of the device axis that the batch is split over, as networks are told it; None where it is whole.
      whole: axes of the input, beside the first, along which all or nothing is dropped.

    Reference: Srivastava et al., Dropout, JMLR 2014.
    """

    rate: float
    axis: str | None
    whole: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """`x` (B, ...)."""
        if not 0 <= self.rate <= 1:
            raise UsageError(f'a rate of dropout must be in [0, 1], got {self.rate!r}')
        if not train or not self.rate:
            return x
        if self.rate >= 1:
            return jnp.zeros_like(x)
        keep = 1 - self.rate
        shape = tuple(1 if place in self.whole else size for place, size in enumerate(x.shape))[1:]
        mask = jax.vmap(lambda key: jax.random.bernoulli(key, keep, shape))(self._keys(x.shape[0]))
        return jnp.where(mask, x / keep, jnp.zeros((), x.dtype))

    def _keys(self, count: int) -> Array:
        """A key for every row."""
        places = jnp.arange(count)
        if self.axis is not None:
            places += count * jax.lax.axis_index(self.axis)
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng(ROWS), places)


class Layers(nn.Module):
    """A module that makes its layers with few words.

    Attributes:
      dtype: of activations.
      axis: name of the device axis over which batch statistics are taken, or None.
    """

    dtype: Any
    axis: str | None

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        name: str,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        start: Initializer = he_normal,
    ) -> Array:
        """A convolution with size // 2 zeros on every side, where 'SAME' would put fewer before than after."""
        layer = Conv(
            width, (size, size), (stride, stride), padding=size // 2, feature_group_count=groups, use_bias=bias,
            kernel_init=start, dtype=self.dtype, name=name,
        )  # fmt: skip
        return layer(x)

    def norm(self, x: Array, name: str, train: bool) -> Array:
        """Batch normalisation; running statistics keep 0.9 of themselves, as with PyTorch's momentum of 0.1."""
        layer = nn.BatchNorm(not train, momentum=0.9, epsilon=EPSILON, axis_name=self.axis, dtype=self.dtype, name=name)
        return layer(x)

    def conv_norm(
        self,
        x: Array,
        width: int,
        size: int,
        names: tuple[str, str],
        train: bool,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        start: Initializer = he_normal,
        after: Array | None = None,
        relu: bool = False,
    ) -> Array:
        """A convolution and its normalisation, called `names`, plus `after`, and a ReLU if asked for.

        Outside training normalisation is part of the convolution's kernel and bias.
        """
        conv, norm = names
        if train or self.is_initializing():
            x = self.norm(
                self.conv(x, width, size, conv, stride=stride, groups=groups, bias=bias, start=start), norm, train
            )
            x = x if after is None else after + x
            return nn.relu(x) if relu else x
        layer: Tree = self.get_variable('params', conv)
        own: Tree = self.get_variable('params', norm)
        stats: Tree = self.get_variable('batch_stats', norm)
        scale = own['scale'] * jax.lax.rsqrt(stats['var'] + EPSILON)
        shift = own['bias'] + (layer.get('bias', 0.0) - stats['mean']) * scale
        kernel, around = (layer['kernel'] * scale).astype(self.dtype), (size // 2, size // 2)
        return finished(
            x, kernel, shift, after, strides=(stride, stride), pads=(around, around), groups=groups, relu=relu
        )

    def head(
        self, x: Array, classes: int, kernel: Initializer = fan_in_uniform, bias: Initializer | None = None
    ) -> Array:
        """The classifier; by default with PyTorch's initial weights and biases."""
        bias = bias or uniform(x.shape[-1] ** -0.5)
        return nn.Dense(classes, kernel_init=kernel, bias_init=bias, dtype=self.dtype, name='head')(x)

    def stages(
        self, x: Array, block: Callable[..., 'Residual'], widths: Sequence[int], counts: Sequence[int], train: bool
    ) -> Array:
        """Stages of residual blocks; the second and later halve the map. Taps 'stage1_pre', 'stage1', ..."""
        for stage, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            x = self.stage(x, block, stage, width, count, train)
        return x

    def stage(
        self, x: Array, block: Callable[..., 'Residual'], stage: int, width: int, count: int, train: bool
    ) -> Array:
        """One of `stages`, by its number."""
        for place in range(count):
            stride = 2 if stage > 1 and place == 0 else 1
            name = f'layer{stage}_{place}'
            own = repeated(block)(dtype=self.dtype, axis=self.axis, width=width, stride=stride, name=name)
            # The last ReLU is left out, for the tap; to initial weights all blocks are alike.
            x = own(x, train, place < count - 1 or self.is_initializing())
        return tap(self, f'stage{stage}', nn.relu(tap(self, f'stage{stage}_pre', x)))


class Residual(Layers):
    """Two 3x3 convolutions and the way around them, and then a ReLU, if it is not left to who reads before it."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Array, train: bool, relu: bool) -> Array:
        y = self.conv_norm(x, self.width, 3, ('conv1', 'bn1'), train, stride=self.stride, relu=True)
        around = self.around(x, self.width, train)
        return self.conv_norm(y, self.width, 3, ('conv2', 'bn2'), train, after=around, relu=relu)

    def around(self, x: Array, width: int, train: bool) -> Array:
        """The input, convolved where its shape is not that of the output."""
        if self.stride == 1 and x.shape[-1] == width:
            return x
        return self.conv_norm(x, width, 1, ('downsample_0', 'downsample_1'), train, stride=self.stride)


class Bottleneck(Residual):
    """1x1 to `width` channels, 3x3 with the stride, 1x1 to 4 `width`."""

    @nn.compact
    def __call__(self, x: Array, train: bool, relu: bool) -> Array:
        y = self.conv_norm(x, self.width, 1, ('conv1', 'bn1'), train, relu=True)
        y = self.conv_norm(y, self.width, 3, ('conv2', 'bn2'), train, stride=self.stride, relu=True)
        around = self.around(x, 4 * self.width, train)
        return self.conv_norm(y, 4 * self.width, 1, ('conv3', 'bn3'), train, after=around, relu=relu)


def attention(module: nn.Module, layer: int, parts: Sequence[Array], heads: int) -> Array:
    """What tokens read from each other, head by head, before it is mixed. (B, N, D)

    Taps of `module`: 'query1', 'key1', 'value1' (B, N, D) over all heads, 'attention1' (B, heads, N, N), scores before
    the softmax, for the layer 1.

    Args:
      module: the transformer, in whose compact method this is called.
      layer: its number, from 1 on.
      parts: queries, keys and values, (B, N, D) each.
      heads: of attention; divides D.
    """
    tapped = [tap(module, f'{name}{layer}', x) for name, x in zip(('query', 'key', 'value'), parts, strict=True)]
    scores = attention_scores(tapped[0], tapped[1], heads)
    return mixed(tap(module, f'attention{layer}', scores), tapped[2])


def attention_scores(query: Array, key: Array, heads: int) -> Array:
    """Scaled products of queries (B, N, D) and keys (B, M, D), head by head, before the softmax. (B, heads, N, M)"""
    query, key = (x.reshape(*x.shape[:2], heads, x.shape[2] // heads) for x in (query, key))
    return jnp.einsum('bnhd,bmhd->bhnm', query, key) / query.shape[-1] ** 0.5


def mixed(scores: Array, value: Array, dropped: Callable[[Array], Array] = lambda weights: weights) -> Array:
    """Values (B, M, D), head by head, each as much as the softmax of scores (B, heads, N, M) says. (B, N, D)

    `dropped` is what becomes of the weights on the way, such as dropout.
    """
    weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)), axis=-1)
    parts = value.reshape(*value.shape[:2], scores.shape[1], -1)
    found = jnp.einsum('bhnm,bmhd->bnhd', dropped(weights.astype(scores.dtype)), parts)
    return found.reshape(*found.shape[:2], value.shape[2])


def attention_taps(depth: int) -> tuple[str, ...]:
    """Taps of so many layers of a transformer: 'query1', 'key1', 'value1', 'attention1', 'hidden1', ..."""
    parts = ('query', 'key', 'value', 'attention', 'hidden')
    return tuple(f'{part}{layer}' for layer in range(1, depth + 1) for part in parts)


def stage_taps(count: int) -> tuple[str, ...]:
    """Taps of `count` stages with their pre-activations: 'stage1_pre', 'stage1', ..."""
    return tuple(f'stage{stage}{end}' for stage in range(1, count + 1) for end in ('_pre', ''))


def max_norm(params: Tree, limit: float) -> Tree:
    """Parameters with the weights into each unit scaled down to the Euclidean norm `limit` where they exceed it.

    A unit's weights are what leads to one index of the last axis of a 'kernel'; biases and scales stay.

    Reference: Srivastava et al., Dropout, JMLR 2014, sec. 5.1.
    """

    def limited(path: Any, leaf: Array) -> Array:
        if path[-1].key != 'kernel':
            return leaf
        norm = jnp.sqrt(jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True))
        return leaf * jnp.minimum(1, limit / jnp.maximum(norm, 1e-12))

    return jax.tree_util.tree_map_with_path(limited, params)
