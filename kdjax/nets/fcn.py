"""A fully convolutional network for segmentation: every stage says what its places are of, and finer ones add up."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Layers, Residual, images, stage_taps
from kdjax.types import Array, Net


class _Segmenter(Layers):
    classes: int
    widths: tuple[int, ...]
    counts: tuple[int, ...]
    finest: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = images(inputs, self.dtype)
        x = tap(self, 'stem', self.conv_norm(x, self.widths[0], 3, ('conv1', 'bn1'), train, stride=2, relu=True))
        said = []
        for stage, (width, count) in enumerate(zip(self.widths, self.counts, strict=True), start=1):
            x = self.stage(x, Residual, stage, width, count, train)
            if stage >= self.finest:
                said.append(Conv(self.classes, (1, 1), dtype=self.dtype, name=f'score{stage}')(x))
        whole = said.pop()
        for finer in reversed(said):
            above = jnp.repeat(jnp.repeat(whole, 2, axis=1), 2, axis=2)
            whole = finer + above[:, : finer.shape[1], : finer.shape[2]]
        return tap(self, 'class_map', whole)


def segmenter(
    *,
    classes: int,
    stride: int = 4,
    widths: tuple[int, ...] = (16, 32, 64),
    counts: tuple[int, ...] = (0, 1, 1),
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A residual network whose stages each score the classes; inputs (B, H, W) or (B, H, W, C).

    Logits are (B, ceil(H / stride), ceil(W / stride), classes). Taps: 'class_map', the logits; 'stem', 'stage1',
    'stage1_pre', ... of the backbone.

    Args:
      classes: number of logits of a place.
      stride: of the logits: 2, the stem's, or that of a later stage.
      widths, counts: channels and blocks of the stages, of which the second and later halve the map.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis over which batch statistics are taken; None on one device or under jit sharding.

    Raises:
      UsageError: a stride that no stage has, or numbers that cannot be.

    Reference: Long, Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, sec. 4.2,
    with nearest neighbours in the place of learned upsampling.
    """
    if not widths or len(widths) != len(counts) or min(classes, *widths) < 1 or min(counts) < 0:
        raise UsageError(f'a segmenter needs as many widths as counts and numbers >= 1, got {widths}, {counts} and '
                         f'classes={classes}')  # fmt: skip
    known = [2 ** (stage + 1) for stage in range(len(widths))]
    if stride not in known:
        raise UsageError(f'stride of a segmenter must be one of {known}, got {stride}')
    module = _Segmenter(
        compute_dtype(precision), axis, classes, tuple(widths), tuple(counts), known.index(stride) + 1
    )  # fmt: skip
    return from_linen(module, ('stem', *stage_taps(len(widths)), 'class_map'))
