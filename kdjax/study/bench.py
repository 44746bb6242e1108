"""How fast the fits of a config train on this machine, in every layout of a grid and way of asking the teacher.

Nothing that is measured depends on what networks have learned: teachers are new ones, and nothing is kept but numbers.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kdjax.errors import UsageError
from kdjax.study.recipe import build, dry_run, feeding, grid_program, plan, teaching
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.recipe.grid_program import GridProgram
from kdjax.study.recipe.inputs import GivenTeacher, TrainedStudents, teacher_of
from kdjax.study.recipe.recipe import Recipe
from kdjax.study.recipe.resolve import resolve
from kdjax.study.recipe.teaching import NOBODY, TeacherSource
from kdjax.study.report import document, figure_style
from kdjax.study.sweep import cost_estimate
from kdjax.train import layout, ledger, teachers
from kdjax.train.grid import Step
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals
from kdjax.types import Teacher, Tree

ROUNDS = 5
TURN = 0.5  # seconds that a turn lasts at least
TABLES = 2**31  # bytes of a cache beyond which it is left out
SLOWEST = 20.0  # seconds of one dispatch beyond which a contender is not measured further


class BenchCase(NamedTuple):
    """One way to train the grid of a fit."""

    fit: str
    teacher: str  # 'none', 'online' or 'cached'
    layout: str
    cells: int
    batch: int
    flops: float  # of a step of all cells
    steps: int  # of a dispatch
    program: Step
    grid: GridProgram

    @property
    def called(self) -> str:
        """For a reader."""
        taught = '' if self.teacher == 'none' else f', {self.teacher}'
        return f'{self.fit}{taught}: {self.cells} x {self.layout}'

    def facts(self) -> dict[str, Any]:
        """What is written down."""
        return {name: value for name, value in self._asdict().items() if name not in ('program', 'grid')}


class Measured(NamedTuple):
    """What it took."""

    first: float  # seconds of the first dispatch, compiling included
    steps: list[float]  # seconds per step, by round


def run(config: ConfigDict, workdir: Path, command: str) -> None:
    """Measures, prints the table, and writes it to the workdir: bench/bench.json, bench.md, bench.png.

    Raises:
      UsageError: whatever keeps the config from training, or nothing that could be measured.
    """
    datasets = Datasets()
    recipe = resolve(config, datasets)
    with StopSignals() as stop, Screen() as screen:
        context = Context(recipe.execution, screen, stop, datasets=datasets)
        limit = cost_estimate.matmul_speed()
        measured = [(one, measure(one)) for one in _shown(bench_cases(recipe, context), screen)]
        measured = _rounds([each for each in measured if each[1].first < SLOWEST], screen)
    if not measured:
        raise UsageError(f'no grid whose dispatch takes less than {SLOWEST:g} s; lower run.chunk or run.cells')
    said = table(config.title, measured, limit)
    numbers = {
        'title': config.title, 'command': command, 'matmul_gflops': limit / 1e9, 'versions': ledger.versions(),
        'machine': ledger.machine(), 'git_commit': ledger.git_commit(),
        'rows': [{**one.facts(), 'first': took.first, 'seconds': took.steps} for one, took in measured],
    }  # fmt: skip
    folder = workdir / 'bench'
    folder.mkdir(parents=True, exist_ok=True)
    ledger.replace(folder / 'bench.json', json.dumps(ledger.plain(numbers), indent=1) + '\n')
    ledger.replace(folder / 'bench.md', document.markdown([said]))
    ledger.replace(folder / 'bench.png', figure_png(measured))
    screen.show(document.terminal([said]))
    screen.show(f'numbers and figure: {folder}')


def bench_cases(recipe: Recipe, context: Context) -> list[BenchCase]:
    """Every last fit of a method, asked and looked up, in every layout."""
    cases = []
    stages = plan.stages_of(recipe)
    for chain in _last_fits(recipe):
        inputs, run = stages[plan.stage_name(chain)].inputs, recipe.execution
        fit = inputs.fit
        if any(term.adopts for _, term in fit.objective.terms):
            continue  # what an earlier fit learned is not there
        cells = fit.cells(inputs.transfer_sizes, inputs.seeds)[: run.cells]
        data = grid_program.students_data(context, inputs, cells)
        data = data._replace(views=dataclasses.replace(data.views, views=1 if data.views.consistent else 2))
        for mode, source, flops in _sources(context, inputs, len(cells)):
            whole = fit.spec.accumulate * feeding.together(context.task(inputs))
            running = context.training(len(cells), fit.batch_size // whole)
            grid = grid_program.grid_program(running, inputs, cells, data, source)
            cases += [
                BenchCase(fit.name, mode, chosen, len(cells), fit.batch_size, flops, min(run.chunk, fit.steps),
                          grid.compiled(chosen), grid)
                for chosen in (layout.candidates(len(cells)) if len(cells) > 1 else ('unroll',))
            ]  # fmt: skip
    return cases


def _last_fits(recipe: Recipe) -> list[tuple[str, ...]]:
    """A chain for every fit that ends a method."""
    chains: dict[str, tuple[str, ...]] = {}
    for chain in recipe.methods.values():
        chains.setdefault(chain[-1], chain)
    return list(chains.values())


def measure(one: BenchCase) -> Measured:
    """Compiles a contender and runs it once."""
    return Measured(layout.measure(one.program, one.grid.arguments, one.steps).compiling, [])


def table(title: str, measured: Sequence[tuple[BenchCase, Measured]], limit: float) -> document.Table:
    """What was measured; the limit is that of matrix products, in FLOP/s."""

    def row(one: BenchCase, took: Measured) -> tuple[str, ...]:
        step = statistics.median(took.steps)
        return (
            one.called, f'{took.first:.1f}', f'{1e3 * step:.2f}',
            f'{1e3 * min(took.steps):.2f} to {1e3 * max(took.steps):.2f}', f'{one.batch / step:,.0f}',
            f'{one.cells * one.batch / step:,.0f}', f'{100 * one.flops / step / limit:.0f}',
        )  # fmt: skip

    header = ('fit', 'first s', 'ms/step', 'range', 'images/s', 'x cells', '%')
    says = (
        f'{title}: median and range of {ROUNDS} turns; first: compiling and one dispatch; x cells: images times '
        f'students in a second; %: of {limit / 1e9:.0f} GFLOP/s, at which this machine multiplies matrices in float32'
    )
    return document.Table(says, 'lrrrrrr', header, tuple(row(*each) for each in measured))


def figure_png(measured: Sequence[tuple[BenchCase, Measured]]) -> bytes:
    """Images times students in a second, by contender."""
    figure = figure_style.blank(5.8, 0.8 + 0.28 * len(measured))
    axes = figure_style.dress(figure.subplots(), '', 'images x students in a second')
    axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
    kinds = list(dict.fromkeys(one.teacher for one, _ in measured))
    axes.barh(
        [one.called for one, _ in measured],
        [one.cells * one.batch / statistics.median(took.steps) for one, took in measured],
        color=[figure_style.COLOURS[kinds.index(one.teacher)] for one, _ in measured],
    )
    axes.invert_yaxis()
    return figure_style.png(figure)


def _rounds(measured: Sequence[tuple[BenchCase, Measured]], screen: Screen) -> list[tuple[BenchCase, Measured]]:
    """Turns, A B C A B C, so that a machine that gets slower does so for everybody."""
    screen.stage('turns', ROUNDS * len(measured))
    for turn in range(ROUNDS):
        for place, (one, took) in enumerate(measured):
            took.steps.append(_turn(one))
            screen.step(turn * len(measured) + place + 1)
    return list(measured)


def _turn(one: BenchCase) -> float:
    """Seconds per step of as many dispatches as fill a turn."""
    state, teacher, batches, knobs = jax.block_until_ready(one.grid.arguments(one.steps))
    start, dispatches = time.perf_counter(), 0
    while dispatches == 0 or time.perf_counter() - start < TURN:
        state, _ = jax.block_until_ready(one.program(state, teacher, batches, knobs))
        dispatches += 1
    return (time.perf_counter() - start) / (dispatches * one.steps)


def _shown(listed: Sequence[BenchCase], screen: Screen) -> Iterator[BenchCase]:
    """The contenders, as each is compiled."""
    screen.stage('compiled', len(listed))
    for place, one in enumerate(listed):
        yield one
        screen.step(place + 1)


def _sources(context: Context, inputs: TrainedStudents, cells: int) -> list[tuple[str, TeacherSource, float]]:
    """The ways of asking the teacher that a fit has, with the FLOPs of a step of all cells."""
    dataset, fit = context.datasets(inputs.data), inputs.fit
    if inputs.source is None:
        return [('none', NOBODY, cells * dry_run.trace(inputs, dataset).flops)]
    who = teacher_of(inputs.source)
    if isinstance(who, GivenTeacher):
        raise UsageError(f'a bench holds asking a teacher against looking up what it says, and {who.name}.outputs can '
                         'only be looked up')  # fmt: skip
    inputs = dataclasses.replace(inputs, source=who)
    online = dry_run.trace(inputs, dataset).flops
    # What is written in a step is each network's own, and can be looked up by nobody
    cached = online if fit.writes else online - dry_run.asking(inputs, dataset)
    example = build.alone(context.example(inputs))
    variables = jax.jit(context.teacher_net(who).init)(jax.random.key(inputs.seed), example)
    teacher = teaching.asked_teacher(context, inputs)
    asked = [('online', TeacherSource(teacher, variables, {}), online + (cells - 1) * cached)]
    tables = None if fit.writes else _tables(teacher, variables, context, inputs)
    if tables is None:
        return asked
    return [*asked, ('cached', TeacherSource(teachers.cached(), {}, tables), cells * cached)]


def _tables(
    teacher: Teacher, variables: Tree, context: Context, inputs: TrainedStudents
) -> dict[str, np.ndarray] | None:
    """A cache of one view of every example, of noughts; None where it is too large, or nothing can be looked up."""
    if inputs.views.mix or not inputs.views.consistent:
        return None
    examples, example = context.datasets(inputs.data).splits['train'].size, context.example(inputs)
    outputs = jax.eval_shape(teacher, variables, {'inputs': build.alone(example)})
    shapes = {'logits': outputs.logits, **outputs.features}
    sizes = [examples * leaf.size * leaf.dtype.itemsize for leaf in shapes.values()]
    if sum(sizes) > TABLES:
        return None
    return {
        teachers.PREFIX + name: np.zeros((examples, 1, *leaf.shape[1:]), leaf.dtype) for name, leaf in shapes.items()
    }
