"""Sweeps in which every seed has a teacher of its own: what is known of their runs, and paired questions about them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pages import difference
from kdjax.study.report import document, formatting, statistics
from kdjax.study.sweep import grids
from kdjax.study.sweep.expand import Run, Sweep
from kdjax.train.ledger import plain

SEED = 'of seed'  # the axis

Results = Mapping[str, Any]
More = Callable[[Run, Any], Mapping[str, Any]]


class Question(NamedTuple):
    """A claim that the mean of one arm is above that of another, or below it."""

    says: str
    left: Mapping[str, Any]  # point, without the seed
    right: Mapping[str, Any]
    metric: str = 'accuracy'
    sign: int = 1  # -1 where the claim is that it is lower
    of: str = 'student'  # or 'teacher'


def results(planned: Sweep, workdir: Path, more: More = lambda run, place: {}) -> dict[str, Any]:
    """By arm and seed the metrics of student and teacher on the test split, after the last step; JSON-able.

    Args:
      planned: the sweep, of one seed for each value of the axis SEED.
      workdir: where it was run; its report says how.
      more: of a run and of where its student lies.
    """
    index = grids.ResultIndex(workdir)
    index.refresh()
    report = json.loads((workdir / 'report' / 'summary.json').read_text())
    arms: dict[str, dict[str, Any]] = {}
    for run in planned.runs:
        key = run.cells[-1].key
        place, point = index.places[key], {name: value for name, value in run.point.items() if name != SEED}
        arm = arms.setdefault(str(point), {'point': point, 'seeds': {}})
        arm['seeds'][str(run.point[SEED])] = {
            'student': place.record['last'], 'teacher': report['teachers'][planned.judges[key]]['metrics'],
            **more(run, place),
        }  # fmt: skip
    seeds = {len(arm['seeds']) for arm in arms.values()}
    return plain({
        'seeds': max(seeds), 'runs': {'finished': len(planned.runs), 'planned': len(planned.runs)},
        'arms': list(arms.values()), **report['provenance'],
    })  # fmt: skip


def values(
    found: Results, point: Mapping[str, Any], metric: str = 'accuracy', of: str = 'student'
) -> dict[int, float | None]:
    """A metric of an arm by seed: shares in percent, KL in thousandths of a nat."""
    seeds = next(arm['seeds'] for arm in found['arms'] if arm['point'] == dict(point))
    factor = {'nll': 1, 'kl': 1000}.get(metric, 100)
    return {int(seed): one[of] and factor * one[of][metric] for seed, one in seeds.items()}


def asked(found: Results, says: str, questions: Mapping[str, Sequence[Question]]) -> document.Table:
    """Paired differences by the column that they are in, and whether each claim holds.

    Args:
      found: of `results`.
      says: what the table is of; how it was tested is added.
      questions: by the name of a column the same claims in the same order.
    """
    tests = {name: [_test(found, one) for one in each] for name, each in questions.items()}
    adjusted = iter(statistics.holm([test.p for each in tests.values() for test in each]))
    words = {name: [_word(one, test, next(adjusted)) for one, test in zip(questions[name], each, strict=True)]
             for name, each in tests.items()}  # fmt: skip
    claims = [one.says for one in next(iter(questions.values()))]
    rows = []
    for place, claim in enumerate(claims):
        cells = [cell for name in questions for cell in (difference(tests[name][place]), words[name][place])]
        rows.append((claim, *cells))
    header = ('', *(title for name in questions for title in (name, '')))
    count = sum(map(len, tests.values()))
    how = (f"{says}: paired differences with 95 % intervals; a claim holds, or the contrary does, where p < 0.05 in a "
           f"paired t test with Holm's correction over the {count} of this table")  # fmt: skip
    return document.Table(how, 'l' + 'rl' * len(questions), header, tuple(rows))


def _test(found: Results, one: Question) -> statistics.Test:
    left, right = (values(found, point, one.metric, one.of) for point in (one.left, one.right))
    return statistics.paired(left, right)


def _word(one: Question, test: statistics.Test, p: float | None) -> str:
    words = ('holds', 'the contrary', formatting.NOTHING)
    return statistics.verdict(test.mean, p, one.sign, words)
