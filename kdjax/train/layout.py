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

AUTO = 'auto'  # as run.layout: the fastest, by a short measurement
CELLS = 'cells'  # as a layout: cells split over devices, batched on each
UNROLLED = 8  # cells up to which a list of them is tried: every cell is compiled anew
SHORT = 10  # dispatches below which a run is over before a measurement pays


class Times(NamedTuple):
    """What a layout takes, in seconds."""

    compiling: float  # including the first dispatch
    dispatch: float  # of one chunk of steps, warm

    def whole(self, dispatches: int) -> float:
        """Of a run of so many dispatches, compiled anew."""
        return self.compiling + max(dispatches - 1, 0) * self.dispatch


def candidates(cells: int) -> tuple[str, ...]:
    """Layouts worth a measurement for so many cells; the one that compiles fastest first."""
    return ('map', 'vmap', *(('unroll',) if cells <= UNROLLED else ()))


def fastest(
    build: Callable[[str], Step],
    arguments: Callable[[], tuple[Any, ...]],
    *,
    cells: int,
    dispatches: int,
    key: str,
    more: tuple[str, ...] = (),
) -> str:
    """The layout in which a grid is done first, compiling included.

    Args:
      build: layout -> compiled program.
      arguments: makes new arguments of one dispatch; the state among them is donated.
      cells: of the grid.
      dispatches: how many the run has.
      key: of the structure. With the number of cells, the devices and the versions, it names what is remembered.
      more: further layouts that `build` knows.
    """
    if cells == 1:
        return 'unroll'
    first, *others = (*candidates(cells), *more)
    if dispatches < SHORT:
        return first
    address = _address(key, cells, dispatches)
    if address in (known := _remembered()):
        return known[address]['layout']
    times = {first: measure(build(first), arguments)}
    # Where compiling is what takes the time, the layout that compiles fastest cannot be beaten.
    if times[first].whole(dispatches) > 2 * times[first].compiling:
        times |= {layout: measure(build(layout), arguments) for layout in others}
    best = min(times, key=lambda layout: times[layout].whole(dispatches))
    return _remember(address, best, times)


def known(key: str, cells: int, dispatches: int) -> Times | None:
    """What was measured of the chosen layout of a structure, on this machine."""
    entry = _remembered().get(_address(key, cells, dispatches))
    return None if entry is None else Times(**entry['seconds'][entry['layout']])


def measure(program: Step, arguments: Callable[[], tuple[Any, ...]]) -> Times:
    """Times two dispatches: one that compiles, one that does not."""
    seconds = []
    for _ in range(2):
        given = jax.block_until_ready(arguments())
        start = time.perf_counter()
        jax.block_until_ready(program(*given))
        seconds.append(time.perf_counter() - start)
    return Times(*seconds)


@jax.jit
def copied(tree: Any) -> Any:
    """A tree whose buffers may be donated without taking those of `tree`."""
    return jax.tree.map(jnp.copy, tree)


def user_cache() -> Path:
    """Where what can be made again is kept between runs."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'kdjax'


def _address(key: str, cells: int, dispatches: int) -> str:
    return trees.digest([key, cells, dispatches, ledger.machine(), jax.__version__, onednn.target()])


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
