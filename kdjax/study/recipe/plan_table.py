"""The plan as a table: stages in order, with their cells, parameters, steps, arithmetic, memory and hours."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from kdjax import trees
from kdjax.dataset import Dataset, bucket_of, widths
from kdjax.study.recipe import feeding
from kdjax.study.recipe.dry_run import Traced
from kdjax.study.recipe.inputs import FoldedTeacher, TrainedStudents, TrainedTeacher
from kdjax.study.recipe.plan import cells_of, check_shapes, stages_of
from kdjax.study.recipe.recipe import Fit, GridCell, Recipe
from kdjax.train import parallel
from kdjax.train.storage import ARTIFACT


def table(recipe: Recipe, dataset: Dataset, workdir: Path) -> Table:
    """What would run: stages in order, their cells, steps and cost; and hours, where `run.tflops` says how fast."""
    costs, shown = check_shapes(recipe, dataset), Table(title=Text(recipe.title), title_justify='left')
    hours = ('hours',) if recipe.execution.tflops else ()
    counted = ('cells', 'params', 'steps', 'GFLOP', 'MB of state', *hours)
    for column in ('stage', 'needs', *counted, 'state'):
        shown.add_column(column, justify='left' if column in ('stage', 'needs', 'state') else 'right')
    trained = []
    for stage in stages_of(recipe).values():
        state = 'done' if (workdir / stage.folder / ARTIFACT).exists() else 'to run'
        inputs, between = stage.inputs, [''] * len(counted)
        if isinstance(inputs, TrainedTeacher | FoldedTeacher | TrainedStudents):
            fit = inputs.teacher.fit if isinstance(inputs, FoldedTeacher) else inputs.fit
            trained.append(Trained.of(recipe, fit, cells_of(inputs), costs[fit.name], dataset.splits['train'].size))
            between = trained[-1].shown()
        shown.add_row(stage.name, ', '.join(stage.needs), *between, state)
    said = [_padding(recipe, dataset)] if recipe.buckets.widths else []
    shown.caption = '; '.join([*said, *_on_devices(recipe, trained)]) or None
    return shown


class Trained(NamedTuple):
    """What a stage that trains takes."""

    cells: int
    streams: int  # cells with an order of examples of their own
    devices: int  # that share the work
    fit: Fit
    cost: Traced
    kept: int  # bytes of the state on each device, of one cell
    tflops: float  # of a device; 0 where nobody said

    @classmethod
    def of(cls, recipe: Recipe, fit: Fit, cells: Sequence[GridCell], cost: Traced, examples: int) -> 'Trained':
        """Of a fit with such cells, where there are so many examples."""
        run, devices = recipe.execution, parallel.all_devices()
        runner = parallel.chosen(run.runner, devices, len(cells), fit.batch_size // fit.spec.accumulate)
        own = len({feeding.draw_of(cell, examples, recipe.order == feeding.SHARED) for cell in cells})
        return cls(len(cells), own, 1 if runner == 'single' else len(devices), fit, cost, cost.kept(runner), run.tflops)

    @property
    def flops(self) -> float:
        """Of all its steps and cells."""
        return self.cells * self.fit.steps * self.cost.flops

    @property
    def seconds(self) -> float:
        """That its steps take."""
        return self.flops / (self.devices * self.tflops * 1e12)

    def shown(self) -> list[str]:
        """Cells of the table, from 'cells' to 'hours'."""
        parameters = trees.count(self.cost.state.params['student'])
        return [
            str(self.cells), f'{parameters:,}'.replace(',', ' '), str(self.fit.steps), f'{self.flops / 1e9:.3g}',
            f'{self.cells * self.kept / 1e6:.3g}', *([f'{self.seconds / 3600:.3g}'] if self.tflops else []),
        ]  # fmt: skip


def _on_devices(recipe: Recipe, trained: Sequence[Trained]) -> list[str]:
    """What each of several devices keeps, and how fast examples must come."""
    run, said = recipe.execution, []
    if trained and (count := max(one.devices for one in trained)) > 1:
        teacher = max(parallel.kept_bytes(one.cost.teacher, run.runner, parallel.all_devices()) for one in trained)
        chunk = max(one.streams * one.cost.batch * run.chunk / one.devices for one in trained)
        said.append(f'on each of {count} devices: that state, {teacher / 1e6:.3g} MB of a network that teaches and '
                    f'{chunk / 1e6:.3g} MB of a dispatch of {run.chunk} steps, and what layers compute')  # fmt: skip
    if run.tflops and trained:
        hours = sum(one.seconds for one in trained) / 3600
        said.append(f'{hours:.3g} hours of steps at {run.tflops:g} TFLOP/s a device')
    if run.tflops and run.stream:
        rate = max(one.streams * one.fit.batch_size * one.fit.steps / one.seconds for one in trained)
        said.append(f'{rate:,.0f} examples a second are to be read'.replace(',', ' '))
    return said


def _padding(recipe: Recipe, dataset: Dataset) -> str:
    """What share of the tokens of a batch is padding."""
    train = dataset.splits['train']
    lengths = np.asarray(train.column('length'))
    known = widths(recipe.buckets.widths, int(lengths.max()))
    wide = np.asarray(known)[bucket_of(lengths, known)]
    one, several = (1 - lengths.sum() / total for total in (lengths.max() * len(lengths), wide.sum()))
    each = ', '.join(map(str, known))
    return f'{several:.0%} of the tokens are padding, with one width {one:.0%}; widths {each}, a program each'
