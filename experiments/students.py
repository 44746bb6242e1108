"""The students of a finished sweep, their scores on the test set and what they take: for pages on compression."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdjax import trees
from kdjax.compress import sizes
from kdjax.study.sweep import grids
from kdjax.study.sweep.expand import Sweep
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import plain
from kdjax.types import Tree


class Student(NamedTuple):
    """One run: where it stands in the sweep, its accuracy on the test set (None where it diverged), its weights."""

    point: Mapping[str, Any]
    seed: int
    accuracy: float | None
    variables: Tree


def students(planned: Sweep, workdir: Path) -> Iterator[Student]:
    """Those whose runs are finished, after the last step."""
    index = grids.ResultIndex(workdir)
    index.refresh()
    for run in planned.runs:
        place = index.places.get(run.cells[-1].key)
        if place is not None:
            last = place.record['last']
            variables = trees.take(_cells(place.folder), place.position)
            yield Student(dict(run.point), run.seed, last and last['accuracy'], variables)


def results(
    planned: Sweep, workdir: Path, more: Callable[[Student], Mapping[str, Any]] = lambda student: {}
) -> dict[str, Any]:
    """Everything that a page shows, JSON-able: by arm and seed the accuracy, the sizes, and what is measured beside.

    Args:
      planned: the sweep.
      workdir: where it was run; its report says how.
      more: of every student.
    """
    arms: dict[str, dict[str, Any]] = {}
    for student in students(planned, workdir):
        arm = arms.setdefault(str(student.point), {'point': student.point, 'seeds': {}})
        size = sizes.size_of(student.variables)._asdict()
        arm['seeds'][str(student.seed)] = {'accuracy': student.accuracy, 'sizes': size, **more(student)}
    report = json.loads((workdir / 'report' / 'summary.json').read_text())
    return plain({
        'seeds': planned.config.seeds,
        'runs': {'finished': sum(len(arm['seeds']) for arm in arms.values()), 'planned': len(planned.runs)},
        'teachers': report['teachers'],
        'arms': list(arms.values()),
        **report['provenance'],
    })  # fmt: skip


def arm(found: Mapping[str, Any], **point: Any) -> Mapping[str, Any]:
    """What is known of an arm, by seed; {} where nothing of it is finished."""
    chosen = [arm['seeds'] for arm in found['arms'] if arm['point'] == point]
    return chosen[0] if chosen else {}


def accuracies(seeds: Mapping[str, Any]) -> dict[int, float | None]:
    """Percent, by seed."""
    return {
        int(seed): None if one['accuracy'] is None else 100 * one['accuracy'] for seed, one in seeds.items()
    }  # fmt: skip


def where(found: Mapping[str, Any]) -> str:
    """How the numbers came about, in a line."""
    machine, runs, seconds = found['machine'], found['runs'], found['seconds']
    done = 'all' if runs['finished'] == runs['planned'] else f'{runs["finished"]} of'
    return (
        f'{found["seeds"]} seeds; {done} {runs["planned"]} runs; {machine["processor"]}, {machine["cores"]} cores, JAX '
        f'{found["versions"]["jax"]}; {sum(seconds.values()) / 60:.0f} minutes in all stages, beside other work; '
        f'configuration {found["config_hash"]}; {found["command"]}.'
    )


@functools.lru_cache(maxsize=1)  # runs of a grid come one after the other
def _cells(folder: Path) -> Any:
    return load_variables(folder / 'variables')
