"""What a sweep would cost, before it runs: cells, grids, programs, arithmetic, memory, time."""

import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.table import Table

from kdjax.study import grids
from kdjax.study.context import ARTIFACT
from kdjax.study.sweep import Sweep
from kdjax.study.trace import Traced
from kdjax.train import layout

HEADER = ('stage', 'cells', 'done', 'grids', 'programs', 'steps', 'GFLOP', 'MB of state', 'time')


def table(planned: Sweep, costs: Mapping[str, Traced], rooms: Mapping[str, int], workdir: Path) -> Table:
    """What would run: the networks that teach, then every structure with its grids.

    Time is that of a measurement where this machine has made one for the structure, and else what the arithmetic would
    take at the speed at which this machine multiplies matrices: a lower bound, marked as one.
    """
    shown = Table(title=f'{planned.config.title}: {len(planned.runs)} runs', title_justify='left')
    for column in HEADER:
        shown.add_column(column, justify='left' if column == 'stage' else 'right')
    speed, whole, bound = matmul_speed(), 0.0, False
    for stage in planned.stages.values():
        done = 'done' if (workdir / stage.folder / ARTIFACT).exists() else ''
        cost = costs.get(stage.key)
        flops = cost.flops * stage.reads['fit']['steps'] * stage.reads['members'] if cost else 0.0
        seconds = 0.0 if done else flops / speed
        whole, bound = whole + seconds, bound or seconds > 0
        numbers = (
            (str(stage.reads['fit']['steps']), f'{flops / 1e9:.3g}', f'{cost.bytes / 1e6:.3g}') if cost else ('',) * 3
        )
        shown.add_row(stage.name, '', done, '', '1' if cost else '', *numbers, _time(seconds, True) if seconds else '')
    shelf, programs = grids.Shelf(workdir), 0
    shelf.refresh()
    for structure, cells in planned.structures().items():
        done_cells = sum(cell.key in shelf.places for cell in cells)
        left, size, steps, cost = len(cells) - done_cells, rooms[structure], cells[0].fit.steps, costs[structure]
        sizes = [min(size, left - start) for start in range(0, left, size)]
        dispatches = steps // cells[0].config.run.chunk
        known = [layout.known(structure, number, dispatches) for number in sizes]
        measured = all(times is not None for times in known)
        seconds = (
            sum(times.whole(dispatches) for times in known if times) if measured else left * steps * cost.flops / speed
        )
        whole, bound, programs = whole + seconds, bound or not measured, programs + len(set(sizes))
        shown.add_row(
            f'{"+".join(cells[0].chain)}: {_what(planned, cells[0].key)}', str(len(cells)), str(done_cells), str(len(sizes)),
            str(len(set(sizes))), str(steps), f'{left * steps * cost.flops / 1e9:.3g}',
            f'{min(size, max(left, 1)) * cost.bytes / 1e6:.3g}', _time(seconds, not measured),
        )  # fmt: skip
    total = sum(len(run.cells) for run in planned.runs)
    shared = f'{total - len(planned.cells)} shared' if total > len(planned.cells) else ''
    shown.add_section()
    shown.add_row('all', str(len(planned.cells)), shared, '', str(programs), '', '', '', _time(whole, bound))
    return shown


def matmul_speed(size: int = 512) -> float:
    """FLOP/s of float32 matrix products on the first device, the median of five."""
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(x, x))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(seconds)[2]


def _what(planned: Sweep, key: str) -> str:
    """The method that a cell is first trained for."""
    return next(run.method for run in planned.runs if any(cell.key == key for cell in run.cells))


def _time(seconds: float, bound: bool) -> str:
    mark = '> ' if bound else ''
    return f'{mark}{seconds / 60:.1f} min' if seconds >= 90 else f'{mark}{seconds:.1f} s'
