"""Which layout a grid trains fastest in, on this machine: measured once for each structure, and remembered."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax import trees
from kdjax.cpu import onednn
from kdjax.train import ledger
from kdjax.train.grid import Step
from kdjax.train.pace import fitting

AUTO = 'auto'  # as run.layout: the fastest, by a short measurement
CELLS = 'cells'  # as a layout: cells split over devices, batched on each
UNROLLED = 8  # cells up to which a list of them is tried: every cell is compiled anew
SHORT = 10  # dispatches below which a run is over before a measurement pays


class Times(NamedTuple):
    """What a layout takes, in seconds."""

    compiling: float  # including the first dispatch
    step: float  # warm
    steps: int  # of the dispatches that were measured

    def whole(self, steps: int) -> float:
        """Of a run of so many steps, compiled anew."""
        return self.compiling + max(steps - self.steps, 0) * self.step


def candidates(cells: int) -> tuple[str, ...]:
    """Layouts worth a measurement for so many cells; the one that compiles fastest first."""
    return ('map', 'vmap', *(('unroll',) if cells <= UNROLLED else ()))


def fastest(
    build: Callable[[str], Step],
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    cells: int,
    steps: int,
    chunk: int,
    key: str,
    more: tuple[str, ...] = (),
    told: Callable[[str], None] = lambda layout: None,
) -> str:
    """The layout in which a grid is done first, compiling included.

    Args:
      build: layout -> compiled program.
      arguments: makes new arguments of one dispatch of so many steps; the state among them is donated.
      cells: of the grid.
      steps: of the run.
      chunk: steps of a dispatch, at most. Where those of the first layout take more than a second, others are measured
        in shorter ones.
      key: of the structure. With the number of cells, the devices and the versions, it names what is remembered.
      more: further layouts that `build` knows.
      told: is told which one is being measured.
    """
    if cells == 1:
        return 'unroll'
    first, *others = (*candidates(cells), *more)
    if steps // chunk < SHORT:
        return first
    address = _address(key, cells, steps, chunk)
    if address in (known := _remembered()):
        return known[address]['layout']
    told(first)
    times = {first: measure(build(first), arguments, chunk)}
    # Where compiling is what takes the time, the layout that compiles fastest cannot be beaten.
    if times[first].whole(steps) > 2 * times[first].compiling:
        few = fitting(times[first].step, chunk)
        for layout in others:
            told(layout)
            times[layout] = measure(build(layout), arguments, few)
    best = min(times, key=lambda layout: times[layout].whole(steps))
    return _remember(address, best, times)


def known(key: str, cells: int, steps: int, chunk: int) -> Times | None:
    """What was measured of the chosen layout of a structure, on this machine."""
    entry = _remembered().get(_address(key, cells, steps, chunk))
    return None if entry is None else Times(**entry['seconds'][entry['layout']])


def measure(program: Step, arguments: Callable[[int], tuple[Any, ...]], steps: int) -> Times:
    """Times two dispatches of so many steps: one that compiles, one that does not."""
    seconds = []
    for _ in range(2):
        given = jax.block_until_ready(arguments(steps))
        start = time.perf_counter()
        jax.block_until_ready(program(*given))
        seconds.append(time.perf_counter() - start)
    return Times(seconds[0], seconds[1] / steps, steps)


@jax.jit
def copied(tree: Any) -> Any:
    """A tree whose buffers may be donated without taking those of `tree`."""
    return jax.tree.map(jnp.copy, tree)


def user_cache() -> Path:
    """Where what can be made again is kept between runs."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'kdjax'


def _address(key: str, cells: int, steps: int, chunk: int) -> str:
    return trees.digest([key, cells, steps, chunk, ledger.machine(), jax.__version__, onednn.target()])


def _store() -> Path:
    return user_cache() / 'layouts.json'


def _remembered() -> dict[str, Any]:
    try:
        return json.loads(_store().read_text())
    except (OSError, json.JSONDecodeError):  # not there, or not ours: it is measured again
        return {}


def _remember(address: str, layout: str, times: Mapping[str, Times]) -> str:
    """Writes a choice down; of two processes that measured at once, both go by the first."""
    known = _remembered()
    if address not in known:
        entry = {'layout': layout, 'seconds': {name: measured._asdict() for name, measured in times.items()}}
        _store().parent.mkdir(parents=True, exist_ok=True)
        ledger.replace(_store(), json.dumps({**known, address: entry}, indent=1))
        return layout
    return known[address]['layout']
