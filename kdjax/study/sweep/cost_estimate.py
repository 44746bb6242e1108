"""What a sweep would cost, before it runs: cells, grids, programs, arithmetic, memory, time."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdjax.study.recipe.dry_run import Traced
from kdjax.study.recipe.plan import Stage
from kdjax.study.sweep import grids
from kdjax.study.sweep.expand import FitTask, Sweep
from kdjax.train import layout
from kdjax.train.storage import ARTIFACT

HEADER = ('stage', 'done', 'grids', 'compiled', 'steps', 'GFLOP', 'MB', 'time')


def table(planned: Sweep, costs: Mapping[str, Traced], rooms: Mapping[str, int], workdir: Path) -> Table:
    """What would run: the networks that teach, then every structure with its grids.

    Time is that of a measurement where this machine has made one for the structure, and else what the arithmetic would
    take at the speed at which this machine multiplies matrices: a lower bound, marked as one.
    """
    shown = Table(
        title=f'{planned.config.title}: {len(planned.runs)} runs', title_justify='left', box=SIMPLE_HEAD, pad_edge=False
    )
    for column in HEADER:
        shown.add_column(column, justify='left' if column == 'stage' else 'right', no_wrap=True)
    speed = matmul_speed()
    lines = [_teaching(stage, costs.get(stage.key), speed, workdir) for stage in planned.stages.values()]
    index = grids.ResultIndex(workdir)
    index.refresh()
    for structure, cells in planned.structures().items():
        left = [cell for cell in cells if cell.key not in index.places]
        called = cells[0].fit.name
        lines.append(_line(called, structure, cells, left, rooms[structure], costs[structure], speed))
    for line in lines:
        shown.add_row(*line.shown())
    shown.add_section()
    shown.add_row(
        'all', f'{sum(line.done for line in lines)} of {sum(line.cells for line in lines)}',
        str(sum(line.grids for line in lines)),
        str(sum(line.programs for line in lines)), '', f'{sum(line.flops for line in lines) / 1e9:.3g}', '',
        _time(sum(line.seconds for line in lines), any(line.bound for line in lines)),
    )  # fmt: skip
    return shown


class _Line(NamedTuple):
    """One row of the table, in numbers."""

    stage: str
    cells: int
    done: int
    grids: int
    programs: int
    steps: int
    flops: float
    bytes: float
    seconds: float
    bound: bool  # whether it takes at least that long

    def shown(self) -> tuple[str, ...]:
        return (
            self.stage, f'{self.done} of {self.cells}', str(self.grids), str(self.programs), str(self.steps or ''),
            f'{self.flops / 1e9:.3g}', f'{self.bytes / 1e6:.3g}', _time(self.seconds, self.bound),
        )  # fmt: skip


def _teaching(stage: Stage, cost: Traced | None, speed: float, workdir: Path) -> _Line:
    """A network that teaches, or what is made of one."""
    done = int((workdir / stage.folder / ARTIFACT).exists())
    if cost is None:
        return _Line(stage.name, 1, done, 0, 0, 0, 0.0, 0.0, 0.0, False)
    steps, members = stage.inputs.fit.steps, stage.inputs.members
    flops = 0.0 if done else cost.flops * steps * members
    return _Line(
        stage.name, members, done * members, 1 - done, 1 - done, steps, flops, cost.bytes * members, flops / speed,
        not done,
    )  # fmt: skip


def _line(
    called: str,
    structure: str,
    cells: Sequence[FitTask],
    left: Sequence[FitTask],
    room: int,
    cost: Traced,
    speed: float,
) -> _Line:
    """A structure: its cells as grids of at most `room`."""
    steps = cells[0].fit.steps
    sizes = [min(room, len(left) - start) for start in range(0, len(left), room)]
    chunk = max(1, min(cells[0].execution.chunk, steps))
    known = [times for size in sizes if (times := layout.known(structure, size, steps, chunk))]
    flops = len(left) * steps * cost.flops
    bound = len(known) < len(sizes)
    seconds = flops / speed if bound else sum(times.whole(steps) for times in known)
    return _Line(
        called, len(cells), len(cells) - len(left), len(sizes), len(set(sizes)), steps, flops,
        max(sizes, default=0) * cost.bytes, seconds, bound,
    )  # fmt: skip


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


def _time(seconds: float, bound: bool) -> str:
    mark = '> ' if bound else ''
    return f'{mark}{seconds / 60:.1f} min' if seconds >= 90 else f'{mark}{seconds:.1f} s'
