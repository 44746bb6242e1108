"""The cells of a sweep as grids: how they are divided, who trains which, and what a trained one leaves.

A grid has a folder, an address and an artifact, as a stage has. The division is written down once for a sweep and kept,
so that processes which join later, or after a crash, find the same grids; a grid that was begun is gone on with.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import trees
from kdjax.cost import compression, compressions
from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.study.recipe import changed, changes, evaluation, execute, plan, shapes, stages, students
from kdjax.study.recipe.context import Context, number
from kdjax.study.recipe.dry_run import Traced
from kdjax.study.recipe.evaluation import TEST_LOGITS
from kdjax.study.recipe.grid_program import WarmStart
from kdjax.study.recipe.inputs import BY_KEY, Addressed, TrainedStudents, plain
from kdjax.study.recipe.recipe import DataSource
from kdjax.study.recipe.shapes import example
from kdjax.study.recipe.stages import GridOptions, Rung, best_step
from kdjax.study.sweep.expand import FitTask, Sweep
from kdjax.train import ledger, loop, storage
from kdjax.train.checkpoint import load_variables
from kdjax.train.storage import ARTIFACT
from kdjax.types import Tree

NAME = 'grid'
DIVISIONS = 'divisions'  # folder of the divisions that were made


class CellResult(NamedTuple):
    """Where a finished cell lies."""

    folder: Path
    position: int  # among the cells of its grid
    record: Mapping[str, Any]
    grid: Mapping[str, Any]  # the result of its grid: what a student costs, the checksum of the data


class ResultIndex:
    """The finished cells of a workdir; grids are read once each."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._read: set[str] = set()
        self.places: dict[str, CellResult] = {}

    def refresh(self) -> None:
        """Looks for grids that were finished since, by whichever process."""
        for path in sorted(self._workdir.glob(f'{NAME}-*/{ARTIFACT}')):
            if path.parent.name not in self._read:
                self._read.add(path.parent.name)
                result = execute.read_artifact(path)['result']
                records = result.get('cells')
                if not isinstance(records, list) or not all('key' in record for record in records):
                    raise UsageError(f'{path} is damaged (without its cells); {storage.of_stage(path.parent)}')
                for position, record in enumerate(records):
                    self.places[record['key']] = CellResult(path.parent, position, record, result)

    def begun(self) -> list[list[str]]:
        """Keys of the cells of every grid that was begun and not finished."""
        manifests = [path for path in sorted(self._workdir.glob(f'{NAME}-*/manifest.json'))
                     if not (path.parent / ARTIFACT).exists()]  # fmt: skip
        return [cells_of(path) for path in manifests]


def cells_of(manifest: Path) -> list[str]:
    """Keys of the cells of a grid, of what its manifest says."""
    return list(execute.read_manifest(manifest)['reads'].get('cells', ()))


def room(cell: FitTask, cost: Traced, dataset: Dataset) -> int:
    """How many cells of a structure one grid may have, by memory and by `run.cells`.

    A cell takes its state four times over (before and after a step, gradients, the best so far), a chunk of its batches
    and, at most, half of what a step moves: what it writes is read again.
    """
    run = cell.execution
    batches = run.chunk * cell.fit.batch_size * trees.nbytes(example(cell.inputs, dataset))
    needs = 4 * cost.bytes + batches + cost.moved / 2
    return max(1, min(run.cells, int(_memory(run.memory) / needs)))


def divide(
    sweep: Sweep, finished: Sequence[str], begun: Sequence[Sequence[str]], rooms: Mapping[str, int]
) -> list[list[str]]:
    """The cells that are not finished, as grids: those begun as they are, the rest in the order of the rows."""
    done = set(finished)
    grids = [list(cells) for cells in begun if set(cells) <= set(sweep.cells) - done]
    done.update(*grids)
    for structure, cells in sweep.structures().items():
        judges: dict[str | None, list[str]] = {}
        for cell in cells:
            if cell.key not in done:
                judges.setdefault(sweep.judges.get(cell.key), []).append(cell.key)
        size = rooms[structure]
        grids += [keys[start : start + size] for keys in judges.values() for start in range(0, len(keys), size)]
    return grids


def division(
    sweep: Sweep, workdir: Path, index: ResultIndex, rooms: Callable[[], Mapping[str, int]]
) -> list[list[str]]:
    """The grids of a sweep as they were divided when it was first run; written by whoever comes first.

    Raises:
      UsageError: what was written is damaged.
    """
    folder = workdir / DIVISIONS
    folder.mkdir(exist_ok=True)
    path = folder / f'{trees.digest(sorted(sweep.cells))}.json'
    with claimed(folder, wait=True):
        storage.clean(folder)
        index.refresh()
        if not path.exists():
            grids = divide(sweep, list(index.places), index.begun(), rooms())
            ledger.replace(path, json.dumps(grids))
    advice = 'delete it to have the sweep divided anew'
    divided = storage.read_json(path, advice, kind=list)
    cells = [key for keys in divided for key in keys] if all(isinstance(keys, list) for keys in divided) else []
    if not {*sweep.cells} - {*index.places} <= {*map(str, cells)} <= {*sweep.cells} or not all(divided):
        raise UsageError(f'{path} lacks cells that are not trained yet, or has others; {advice}')
    return divided


@contextlib.contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has `folder` to itself; the claim goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lock').open('a') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@dataclasses.dataclass(frozen=True)
class TrainedGrid(Addressed):
    """The cells of a grid, by keys, each of which hashes all that its cell reads."""

    cells: tuple[str, ...]
    fit: str
    data: DataSource = dataclasses.field(metadata=BY_KEY)


def stage(cells: Sequence[FitTask], index: ResultIndex, called: str, rung: Rung | None = None) -> plan.Stage:
    """A grid as a stage: run it with `launch.execute`.

    Args:
      cells: of one structure.
      shelf: has the cells that these start from.
      called: by the screen.
      rung: which part of the fit; all of it if left out. The last part of a fit is a grid like any other.
    """

    def run(inputs: TrainedGrid, context: Context, folder: Path, key: str) -> dict[str, Any]:
        return _train(
            context, folder, key, cells, index, GridOptions(called, cells[0].structure, tolerant=True, rung=rung)
        )

    keys, part = [cell.key for cell in cells], [rung.until, rung.identity, rung.kept] if rung else None
    needs = tuple(need.name for need in cells[0].needs)
    name = NAME if rung is None or rung.until == cells[0].fit.steps else 'rung'
    inputs = TrainedGrid(tuple(keys), cells[0].fit.name, cells[0].inputs.data)
    return plan.Stage(name, inputs, needs, run, trees.digest([keys, part, plan.VERSION]))


def _train(
    context: Context, folder: Path, key: str, cells: Sequence[FitTask], index: ResultIndex, manner: GridOptions
) -> dict[str, Any]:
    first = cells[0]
    drawn = [cell.drawn for cell in cells]
    start = _start(cells, index) if first.before else None
    fitted = stages.fit_students(context, folder, key, first.inputs, drawn, start, manner)
    judge = context.done.get('examine')
    logits = np.load(storage.intact(judge.folder / TEST_LOGITS)) if judge else None
    inputs = first.inputs
    net = context.fitted_net(inputs)
    measure = context.evaluator(net, inputs, 'test', logits, context.judge)
    last = measure(fitted.variables)
    same = trees.equal(fitted.variables, fitted.best)  # where only the end was validated
    metrics = {'last': last, 'best': last if same else measure(fitted.best)}
    known = {**students.described(inputs, context), **({'head': plain(inputs.fit.head)} if inputs.fit.head else {}),
             **({'changes': changes.described(inputs)} if changes.made(inputs) else {})}  # fmt: skip
    storage.write_json(folder / students.STUDENTS, ledger.plain(known))
    fitted = fitted._replace(history=[*_earlier(manner.rung), *fitted.history])
    variables = jax.device_get(fitted.variables)
    several = [trees.take(variables, position) for position in range(len(cells))]
    sized = _sizes(several, inputs, context) if first.sized else [{}] * len(cells)
    return ledger.plain({
        'cells': [{'key': cell.key, **_record(fitted, metrics, position, context.task(inputs).judged),
                   **sized[position], **({'parts': fitted.parts} if fitted.parts else {})}
                  for position, cell in enumerate(cells)],
        'cost': evaluation.costs(net, several[0], inputs, context),
        'data_checksum': context.datasets.checksum(inputs.data),
    })  # fmt: skip


def _sizes(students: Sequence[Tree], inputs: TrainedStudents, context: Context) -> list[dict[str, Any]]:
    """The size of every student; where each has a rank of its own, what it costs too, with the factors that it uses."""
    example = context.example(inputs)
    if not changes.ranked(inputs):
        return [{'size': size} for size in compressions(context.changed_net(inputs), students, example)]
    make = functools.partial(context.net, inputs=inputs)
    built = [changed.as_built(make, inputs.network, inputs, student) for student in students]
    costs: dict[str, Any] = {}
    for net, variables in built:
        if _shapes(variables) not in costs:
            costs[_shapes(variables)] = evaluation.costs(net, variables, inputs, context)
    return [{'size': compression(*one, example), 'cost': costs[_shapes(one[1])]} for one in built]


def _shapes(variables: Tree) -> str:
    return str([leaf.shape for leaf in jax.tree.leaves(variables)])


def _earlier(rung: Rung | None) -> list[dict[str, Any]]:
    """Validation of the cells in the parts of their fit before."""
    if rung is None or rung.folder is None:
        return []
    cells = execute.read_artifact(rung.folder / ARTIFACT)['result']['cells']
    kept = [cells[position]['history'] for position in rung.kept]
    return [
        {name: lines[0][name] if name == 'step' else [line[name] for line in lines] for name in lines[0]}
        for lines in zip(*kept, strict=True)
    ]


def _record(
    fitted: loop.Fitted, metrics: Mapping[str, Mapping[str, np.ndarray]], cell: int, score: Metric
) -> dict[str, Any]:
    """What a trained cell is known by. Of one that diverged only how it went there."""
    # As the ledger writes them: a resumed grid has read some of its lines there, and equals must stay equals.
    history = ledger.plain([
        {name: line[name] if name == 'step' else number(line[name][cell]) for name in line} for line in fitted.history
    ])  # fmt: skip
    record: dict[str, Any] = {
        'history': history, 'anatomy': [_look(line, cell) for line in fitted.anatomy],
        'failure': None, 'last': None, 'best': None,
    }  # fmt: skip
    if cell in fitted.failures:
        return {**record, 'failure': {name: fitted.failures[cell][name] for name in ('step', 'term')}}
    for which, values in metrics.items():
        record[which] = {name: number(of[cell]) for name, of in values.items()}
    record['best']['step'] = best_step(history, None, score)
    return record


def _look(line: Mapping[str, Any], cell: int) -> dict[str, Any]:
    """One look at the gradients of one cell: {'step', 'norms': {term: ...}, 'cosines': {'a|b': ...}}."""
    parts = {
        kind: {
            name.removeprefix(start): number(values[cell]) for name, values in line.items() if name.startswith(start)
        }
        for kind, start in (('norms', 'norm/'), ('cosines', 'cosine/'))
    }
    return {'step': line['step'], **parts}


def _start(cells: Sequence[FitTask], index: ResultIndex) -> WarmStart:
    """Where cells of a later fit start: each from the student of its own run's fit before."""
    inputs = cells[0].inputs
    since = changes.dense_since(inputs) if inputs.fit.own_dense else 1

    def gathered(name: str, ago: int = 1) -> Tree:
        places = [index.places[cell.way[-ago]] for cell in cells]
        loaded = {folder: load_variables(folder / name) for folder in dict.fromkeys(place.folder for place in places)}
        rows = [trees.take(loaded[place.folder], place.position) for place in places]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    terms = all((index.places[cell.way[-1]].folder / 'terms').exists() for cell in cells)
    ways = changes.chain(inputs)[-1 - since : -1]
    starts = [changed.alone(gathered('variables', since - place), each.fit) for place, each in enumerate(ways)]
    return WarmStart(starts[-1], gathered('terms') if terms else {},
                     changed.dense(starts) if inputs.fit.own_dense else None)  # fmt: skip


def ready(cells: Sequence[FitTask], index: ResultIndex) -> bool:
    """Whether all that a grid starts from is there."""
    return all(cell.before is None or cell.before in index.places for cell in cells)


def _memory(gigabytes: float) -> float:
    """Bytes that a grid may take."""
    return gigabytes * 1e9 if gigabytes else shapes.device_bytes() / 2
