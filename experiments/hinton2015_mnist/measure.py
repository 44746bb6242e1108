"""What the students of the sweep get wrong on the test set, case by case, and what moving the biases of classes does.

The shift of biases is found on training examples alone; the test set is only counted.
"""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.hinton2015_mnist import bias
from experiments.hinton2015_mnist import config as study
from experiments.hinton2015_mnist.mcnemar import mcnemar
from kdjax import trees
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.recipe.evaluation import TEST_LOGITS
from kdjax.study.sweep import collect, grids
from kdjax.study.sweep.expand import Run, Sweep
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import plain
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

UNSEEN = {'without 3': (3,), '7 and 8': (7, 8)}  # transfer set -> classes whose biases move


class Students(NamedTuple):
    """The trained students of a sweep, and what they say."""

    planned: Sweep
    index: grids.ResultIndex
    datasets: Datasets

    def logits(self, run: Run, split: str) -> np.ndarray:
        """(N, 10) of a finished run."""
        cell, place = run.cells[-1], self.index.places[run.cells[-1].key]
        context = Context(cell.execution, Screen(), StopSignals(), datasets=self.datasets)
        student = trees.take(_cells(place.folder), place.position)
        return context.logits(context.net(cell.inputs.student, cell.inputs), student, cell.inputs, split)

    def labels(self, split: str) -> np.ndarray:
        """(N,) of a split."""
        return self.datasets(self.planned.runs[0].cells[-1].inputs.data).splits[split].labels


def measure(planned: Sweep, workdir: Path, command: str) -> dict[str, Any]:
    """Everything that is shown, of the runs that are finished; JSON-able.

    Args:
      planned: the sweep.
      workdir: where it was run.
      command: with which.
    """
    students = Students(planned, grids.ResultIndex(workdir), Datasets())
    students.index.refresh()
    runs = [run for run in planned.runs if run.cells[-1].key in students.index.places]
    labels = students.labels('test')
    wrong = {id(run): students.logits(run, 'test').argmax(axis=1) != labels for run in runs}
    results = collect.results(planned, workdir, command)
    return plain({
        'seeds': planned.config.seeds,
        'runs': {'finished': len(runs), 'planned': len(planned.runs)},
        'teacher': {'errors': [_teacher_errors(planned, workdir, labels)]},
        'arms': _arms(runs, wrong),
        'mcnemar': _mcnemar(runs, wrong),
        'biases': [
            {'transfer set': transfer, **_corrected(students, _of_transfer(runs, transfer), classes)}
            for transfer, classes in UNSEEN.items()
        ],
        'config': results.config,
        **vars(results.provenance),
    })  # fmt: skip


def _of_transfer(runs: list[Run], transfer: str) -> list[Run]:
    return [run for run in runs if run.point.get('transfer set') == transfer]


def _arms(runs: list[Run], wrong: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    """Test errors of every arm, by seed."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        arm = found.setdefault(str(run.point), {'point': dict(run.point), 'errors': {}})
        arm['errors'][str(run.seed)] = int(wrong[id(run)].sum())
    return list(found.values())


def _mcnemar(runs: list[Run], wrong: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    """Distilled against hard labels at 800 units, for every seed."""

    def chosen(point: Mapping[str, Any]) -> dict[int, np.ndarray]:
        return {run.seed: wrong[id(run)] for run in runs if dict(run.point) == point}

    hard = chosen({'units': 800, 'method': 'hard labels'})
    distilled = chosen({'units': 800, 'method': 'distilled', 'temperature': study.TEMPERATURE, 'transfer set': 'all'})
    return [{'seed': seed, **mcnemar(distilled[seed], hard[seed])._asdict()} for seed in hard if seed in distilled]


def _corrected(students: Students, runs: list[Run], classes: tuple[int, ...]) -> dict[str, Any]:
    """Errors before and after the biases of `classes` have moved, by seed; 'own' counts test cases of these classes."""
    train, test = students.labels('train'), students.labels('test')
    own = np.isin(test, classes)
    found: dict[str, Any] = {'classes': list(classes), 'cases': int(own.sum()), 'shift': [], 'before': [], 'after': []}
    for run in runs:
        shift = bias.matching(students.logits(run, 'train'), train, classes)
        logits = students.logits(run, 'test')
        found['shift'].append(shift)
        for name, said in (('before', logits), ('after', bias.shifted(logits, classes, shift))):
            wrong = said.argmax(axis=1) != test
            found[name].append({'errors': int(wrong.sum()), 'own': int(wrong[own].sum())})
    return found


def _teacher_errors(planned: Sweep, workdir: Path, labels: np.ndarray) -> int:
    (judge,) = set(planned.judges.values())
    return int((np.load(workdir / planned.stages[judge].folder / TEST_LOGITS).argmax(axis=1) != labels).sum())


@functools.lru_cache(maxsize=1)  # runs of a grid come one after the other
def _cells(folder: Path) -> Any:
    return load_variables(folder / 'variables')
