"""What detectors read: the maps of a residual network by their strides, and a pyramid of several of them."""

import itertools
from collections.abc import Mapping

import jax.numpy as jnp

from kdjax.cpu.convolution import Conv
from kdjax.cpu.pooling import max_pool
from kdjax.errors import UsageError, unknown
from kdjax.nets.base import tap
from kdjax.nets.layers import Layers, Residual, images
from kdjax.nets.torch_weights import PUBLISHED
from kdjax.types import Array, Names

STEMS = {'small': 2, 'imagenet': 4}  # and their strides
PRIOR = 0.01  # probability of a class at first: nearly all cells are background
# A file of a backbone, such as a ResNet of ImageNet, has a classifier that is of no use, and none of the rest.
NAMES: Names = PUBLISHED._replace(
    spare=('head_',), fresh=tuple(f'{part}/{module}' for part in ('params', 'stats') for module in ('neck', 'detect'))
)


class Pyramid(Layers):
    """A network that begins with a residual network and a feature pyramid; arguments as of `gfl.detector`."""

    stem: str
    first: int
    widths: tuple[int, ...]
    counts: tuple[int, ...]
    neck: int

    def backbone(self, inputs: Array, train: bool) -> dict[int, Array]:
        """The maps of the stages, by their strides."""
        size = 7 if self.stem == 'imagenet' else 3
        x = images(inputs, self.dtype)
        x = tap(self, 'stem', self.conv_norm(x, self.first, size, ('conv1', 'bn1'), train, stride=2, relu=True))
        if self.stem == 'imagenet':
            x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        found = {}
        for stage, (width, count) in enumerate(zip(self.widths, self.counts, strict=True), start=1):
            x = self.stage(x, Residual, stage, width, count, train)
            found[STEMS[self.stem] * 2 ** (stage - 1)] = x
        return found

    def merged(self, maps: Mapping[int, Array]) -> list[Array]:
        """Maps by ascending strides in as many channels each, with what coarser ones say (Lin et al., 2017, sec. 3)."""
        found: list[Array] = []
        for number, (_, x) in reversed(list(enumerate(maps.items(), start=1))):
            own = Conv(self.neck, (1, 1), dtype=self.dtype, name=f'neck_lateral{number}')(x)
            if found:
                above = jnp.repeat(jnp.repeat(found[0], 2, axis=1), 2, axis=2)
                own = own + above[:, : own.shape[1], : own.shape[2]]
            found.insert(0, own)
        return found

    def smoothed(self, x: Array, number: int) -> Array:
        """A map that was merged, by its number from 1 on."""
        return Conv(self.neck, (3, 3), dtype=self.dtype, name=f'neck_out{number}')(x)


def check(strides: tuple[int, ...], stem: str, widths: tuple[int, ...], counts: tuple[int, ...], neck: int) -> None:
    """Raises UsageError for an unknown stem, numbers below 1, or strides that no stages have."""
    if stem not in STEMS:
        raise unknown('stem', stem, STEMS, ' of a detector')
    if len(widths) != len(counts) or min(*widths, neck) < 1 or min(counts) < 0:
        raise UsageError(f'a detector needs as many widths as counts, and numbers >= 1, got {widths}, {counts} and '
                         f'neck={neck}')  # fmt: skip
    known = [STEMS[stem] * 2**k for k in range(len(widths))]
    if (
        not strides
        or any(stride not in known for stride in strides)
        or any(2 * one != other for one, other in itertools.pairwise(strides))
    ):
        raise UsageError(f'strides of a detector must follow each other among those of its stages, {known}, got '
                         f'{tuple(strides)}')  # fmt: skip
