"""What tasks of speech share: their inputs are clips, and networks cost by the second of audio."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.dataset import Dataset, is_column
from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.tasks.base import Task
from kdjax.types import Array, Net, Tree

COLUMNS = {'audio', 'samples', 'hidden'}  # of inputs made by `data.audio.clips`
STATES = 'states'  # the tap of what networks of speech know of every frame
PROBED = 256  # frames of the clip in which a receptive field is looked for
COSTS = (
    Metric('int8_kb', 'parameters at one byte each', 'kB', 'lower', 1, 'int8'),
    Metric('mmac_per_second', 'multiply-adds of a second of audio, in millions', '', 'lower', 2, 'MMAC per s'),
    Metric('ms_per_second', 'time of a second of audio, one clip at a time', 'ms', 'lower', 2, 's of audio'),
    Metric('ms_per_second_batch', 'time of a second of audio, in large batches', 'ms', 'lower', 3, 's of audio, batch'),
    Metric('field_ms', 'receptive field', 'ms', 'lower', 0, 'field'),
    Metric('ahead_ms', 'look-ahead', 'ms', 'lower', 0, 'ahead'),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechTask(Task):
    """A task whose examples are clips, `data.audio.clips`.

    Costs are by the second of audio: kB at int8, multiply-adds, milliseconds; and, of networks that read less than all
    of a clip, what the tap 'states' reads of the frames about its own, and later than it. A multiply-add counts as two
    operations.
    """

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            inputs = split.column('inputs')
            if is_column(inputs) or set(inputs) != COLUMNS:
                raise UsageError(f'{type(self).__name__} needs inputs made by data.audio.clips, {sorted(COLUMNS)}; '
                                 f'split {name!r} has others')  # fmt: skip
        super().check(dataset)

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return COSTS

    def costs_in_use(
        self, net: Net, variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]
    ) -> dict[str, float]:
        found = by_second(variables, example, flops, latency_ms)
        field = receptive_field(net, variables, example['frames'].shape[-1])
        if field is None:
            return found
        hop_ms = float(example['hop_ms'])
        return {**found, 'field_ms': field.frames * hop_ms, 'ahead_ms': field.ahead * hop_ms}


def by_second(variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]) -> dict[str, float]:
    """The first four of COSTS; the arguments are those of `Task.costs_in_use`."""
    seconds = len(example['mask']) * float(example['hop_ms']) / 1e3
    most = max(latency_ms, key=int)
    return {
        'int8_kb': trees.count(variables['params']) / 1e3,
        'mmac_per_second': flops / 2e6 / seconds,
        'ms_per_second': latency_ms['1'] / seconds,
        'ms_per_second_batch': latency_ms[most] / int(most) / seconds,
    }


class Field(NamedTuple):
    """What an output of a network reads of the frames about it."""

    frames: int  # from the first that it reads to the last
    ahead: int  # how many come after the one that it stands on


def receptive_field(net: Net, variables: Tree, bands: int) -> Field | None:
    """The receptive field of the middle output of the tap 'states'; None where it has no end, or there is no such tap.

    Each frame of a clip of noise is changed, one after the other, and the outputs that change with it have read it.
    """
    if STATES not in net.taps:
        return None
    read, stride = _dependence(net, variables, bands)
    own = len(read) // 2
    places = np.flatnonzero(read[own])
    if not len(places) or places[0] == 0 or places[-1] == PROBED - 1:
        return None
    return Field(int(places[-1] - places[0] + 1), int(places[-1] - own * stride))


def _dependence(net: Net, variables: Tree, bands: int) -> tuple[np.ndarray, int]:
    """Which outputs read which frames, (T', T), and how many frames an output stands for."""

    @jax.jit
    def changed(variables: Tree, key: Array) -> Array:
        noise, other = jax.random.normal(key, (2, PROBED, bands))
        frames = jnp.where(jnp.eye(PROBED + 1, PROBED, dtype=bool)[..., None], 9 * other, noise)
        mask = jnp.ones((PROBED + 1, PROBED), jnp.float32)
        inputs = {'frames': frames, 'mask': mask, 'hop_ms': mask[:, 0]}
        states = net.apply(variables, inputs, train=False, key=None)[0].features[STATES]
        return jnp.any(states[:PROBED] != states[PROBED], axis=-1)

    # Twice, since a unit may be off; and one clip is left as it is.
    read = np.any([changed(variables, jax.random.key(seed)) for seed in range(2)], axis=0).T
    return read, -(-PROBED // len(read))
