"""Acceptance; what falls short is tried again with another temperature, weight, rate, or more data."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kdjax.errors import unknown
from kdjax.study.recipe import build
from kdjax.study.recipe.context import Artifact, stage_name
from kdjax.study.recipe.stages import chosen_cells


class Criterion(NamedTuple):
    """One demand on a result, and what it got."""

    name: str
    wanted: float
    got: float | None
    met: bool


def judged_size(config: ConfigDict) -> int:
    """The transfer-set size that acceptance looks at."""
    return config.accept.transfer_size or max(config.data.transfer_sizes)


def judge(config: ConfigDict, done: Mapping[str, Artifact]) -> list[Criterion]:
    """Holds the validation result of `accept.method` against the bars that are set.

    Args:
      config: its `accept` part.
      done: artifacts of 'teacher' and of every method's last fit.
    """
    size = judged_size(config)
    result = done[stage_name(config.methods[config.accept.method])].result
    baseline = _accuracy(done[stage_name(config.methods[config.baseline])].result, size)
    teacher = done['teacher'].result['validation']['accuracy']
    return bars(config.accept, _accuracy(result, size), baseline, teacher, result['params'])


def bars(
    accept: ConfigDict, student: float | None, baseline: float | None, teacher: float | None, params: int
) -> list[Criterion]:
    """Holds a student against the bars that are set.

    Args:
      accept: the bars.
      student, baseline, teacher: validation accuracy in [0, 1], the mean over seeds; None where there is none.
      params: of the student.
    """
    found = []
    if accept.accuracy:
        found.append(
            Criterion('accuracy', accept.accuracy, student, student is not None and student >= accept.accuracy)
        )
    if accept.gap_recovered:
        gap = None if student is None or baseline is None or teacher is None or teacher <= baseline else (
            (student - baseline) / (teacher - baseline))  # fmt: skip
        found.append(
            Criterion('gap_recovered', accept.gap_recovered, gap, gap is not None and gap >= accept.gap_recovered)
        )
    if accept.max_params:
        found.append(Criterion('max_params', accept.max_params, params, params <= accept.max_params))
    return found


def attempts(config: ConfigDict) -> Iterator[tuple[dict[str, float], ConfigDict]]:
    """The config itself, then one changed value after the other, at most `retry.attempts` of them.

    Yields:
      What was changed, by name, and the config with that change alone.
    """
    yield {}, config
    lists = ('temperature', 'weight', 'learning_rate', 'transfer_size')
    changes = ((name, value) for name in lists for value in config.retry[name])
    for name, value in itertools.islice(changes, config.retry.attempts):
        yield {name: value}, changed(config, name, value)


def changed(config: ConfigDict, name: str, value: float) -> ConfigDict:
    """A copy of `config` in which the judged method uses `value` for the temperature, weight, learning_rate or
    transfer_size.

    Raises:
      UsageError: `name` is none of these.
    """
    new = copy.deepcopy(config)
    fits = [new.fits[fit] for fit in new.methods[new.accept.method]]
    soft = {term for fit in fits for term in fit.weights if build.term_class(new.terms[term]).TEACHER}
    with new.unlocked():
        if name == 'temperature':
            for term in soft & {term for term in new.terms if 'temperature' in new.terms[term]}:
                new.terms[term].temperature = (value,)
        elif name == 'weight':
            for fit in fits:
                fit.weights.update({term: (value,) for term in soft & set(fit.weights)})
        elif name == 'learning_rate':
            fits[-1].learning_rate = (value,)
        elif name == 'transfer_size':
            new.accept.transfer_size = int(value)
            new.data.transfer_sizes = tuple(sorted({*new.data.transfer_sizes, int(value)}))
        else:
            raise unknown('retry', name, ('temperature', 'weight', 'learning_rate', 'transfer_size'))
    return new


def shortfall(bars: list[Criterion]) -> str:
    """Which bars were missed and by how much, as a sentence."""
    missed = [
        f'{bar.name} is {"unknown" if bar.got is None else f"{bar.got:.4g}"}, wanted '
        f'{"at most" if bar.name == "max_params" else "at least"} {bar.wanted:.4g}'
        + ('' if bar.got is None else f' (off by {abs(bar.got - bar.wanted):.4g})')
        for bar in bars
        if not bar.met
    ]
    return '; '.join(missed) or 'all bars met'


def score(bars: Sequence[Mapping[str, Any]]) -> float:
    """What the best attempt has most of: bars met, then what it got of accuracy and gap."""
    return sum(bar['met'] + 0.1 * (bar['got'] or 0.0) for bar in bars if bar['name'] != 'max_params')


def _accuracy(result: Mapping[str, Any], size: int) -> float | None:
    values = [result['validation_accuracy'][position] for position in chosen_cells(result, size)]
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None
