"""Acceptance, of a student or of the file that it is shipped as; what falls short is tried again with another
temperature, weight, rate, or more data."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.compress import sizes
from kdjax.dataset import Dataset
from kdjax.errors import UsageError, unknown
from kdjax.export import bundle, files, measure
from kdjax.export.bundle import Student
from kdjax.metrics import Metric
from kdjax.study.config import fields
from kdjax.study.recipe import changes, plan, students
from kdjax.study.recipe.build import task
from kdjax.study.recipe.context import Artifact, Context, Datasets
from kdjax.study.recipe.inputs import BY_KEY, Addressed, TrainedStudents
from kdjax.study.recipe.recipe import DataSource, Recipe
from kdjax.study.recipe.resolve import resolve, term_class
from kdjax.study.recipe.stages import CHECKPOINTS, chosen_cells, validation_score
from kdjax.train.checkpoint import load_variables
from kdjax.train.optim import takes_sparsity

RETRIES = ('temperature', 'weight', 'learning_rate', 'sparsity', 'bits', 'transfer_size')


# Bars that are not the more the better.
LIMITS = ('max_params', 'max_kilobytes', 'latency_ms', 'max_ram_kilobytes', 'accuracy_drop')
# Bars on what is shipped, and what they are held against.
SHIPPED = {'max_kilobytes': 'kilobytes', 'latency_ms': 'milliseconds', 'max_ram_kilobytes': 'ram_kilobytes'}
FILE = 'file'  # the stage that measures what is shipped


class Criterion(NamedTuple):
    """One demand on a result, and what it got."""

    name: str
    wanted: float
    got: float | None
    met: bool
    better: str = 'higher'


def judged_size(recipe: Recipe) -> int:
    """The transfer-set size that acceptance looks at."""
    return recipe.config.accept.transfer_size or max(recipe.transfer_sizes)


def judge(recipe: Recipe, done: Mapping[str, Artifact]) -> list[Criterion]:
    """Holds the validation result of `accept.method` against the bars that are set.

    Args:
      recipe: its `accept` part.
      done: artifacts of 'teacher', of every method's last fit, and of FILE where a file is judged.
    """
    accept, size, metric = recipe.config.accept, judged_size(recipe), task(recipe.task).judged
    result, baseline = (done['+'.join(recipe.methods[name])].result for name in (accept.method, recipe.baseline))
    teacher = done['teacher'].result['validation'][metric.name]
    shipped = done[FILE].result if accept.file else {}
    if accept.max_kilobytes and not accept.file:
        shipped = {'kilobytes': _kilobytes(done['+'.join(recipe.methods[accept.method])], size)}
    return criteria(accept, metric, _score(result, size), _score(baseline, size), teacher, result['params'], shipped)


def _kilobytes(artifact: Artifact, size: int) -> float:
    """Of the students of a size the largest, deflated."""
    variables = load_variables(artifact.folder / CHECKPOINTS['last'])
    cells = chosen_cells(artifact.result, size)
    return max(sizes.size_of(trees.take(variables, cell)).deflated for cell in cells) / 1000


def criteria(
    accept: ConfigDict,
    metric: Metric,
    student: float | None,
    baseline: float | None,
    teacher: float | None,
    params: int,
    shipped: Mapping[str, float | None] = MappingProxyType({}),
) -> list[Criterion]:
    """Holds a student against the bars that are set.

    Args:
      accept: the bars.
      metric: the score of the task.
      student, baseline, teacher: the score in validation, the mean over seeds; None where there is none.
      params: of the student.
      shipped: 'kilobytes', 'ram_kilobytes' of 1000 bytes and 'milliseconds' of what is shipped; what is not known is
        not there, or None. With the 'score' of a file, where the student that it is of had its 'own', all lose as much.
    """
    result = []
    if student is not None and shipped:
        student += (shipped.get('score') or 0.0) - (shipped.get('own') or 0.0)
    wanted = bar(accept)
    if wanted is not None:
        met = student is not None and metric.sign * (student - wanted) >= 0
        result.append(Criterion(metric.name, wanted, student, met, metric.better))
    if accept.gap_recovered:
        gap = None
        if student is not None and baseline is not None and teacher is not None:
            whole = metric.sign * (teacher - baseline)
            gap = metric.sign * (student - baseline) / whole if whole > 0 else None
        result.append(
            Criterion('gap_recovered', accept.gap_recovered, gap, gap is not None and gap >= accept.gap_recovered)
        )
    if accept.max_params:
        result.append(Criterion('max_params', accept.max_params, params, params <= accept.max_params, 'lower'))
    for name, of in SHIPPED.items():
        if accept[name]:
            got = shipped.get(of)
            result.append(Criterion(name, accept[name], got, got is not None and got <= accept[name], 'lower'))
    if accept.accuracy_drop:
        drop = None if student is None or baseline is None else metric.sign * (baseline - student)
        met = drop is not None and drop <= accept.accuracy_drop
        result.append(Criterion('accuracy_drop', accept.accuracy_drop, drop, met, 'lower'))
    return result


def bar(accept: ConfigDict) -> float | None:
    """What is asked of the score; None for no bar. 'accuracy' is its name in classification."""
    return accept.score or accept.accuracy or None


def attempts(config: ConfigDict, datasets: Datasets | None = None) -> Iterator[tuple[dict[str, float], Recipe]]:
    """The recipe of the config itself, then with one changed value after the other, at most `retry.attempts` of them.

    Yields:
      What was changed, by name, and the recipe with that change alone.
    """
    datasets = datasets or Datasets()
    first = resolve(config, datasets)
    config = first.config  # with what the data say
    yield {}, first
    changes = ((name, value) for name in RETRIES for value in config.retry[name])
    for name, value in itertools.islice(changes, config.retry.attempts):
        yield {name: value}, resolve(retried(config, name, value), datasets)


def checked(config: ConfigDict, datasets: Datasets) -> list[tuple[dict[str, float], Recipe]]:
    """All attempts, of each of which no shape forbids anything."""
    found = list(attempts(config, datasets))
    for _, recipe in found:
        plan.check_shapes(recipe, datasets(recipe.data))
    return found


def retried(config: ConfigDict, name: str, value: float) -> ConfigDict:
    """A copy of `config` in which the judged method uses `value` for the temperature, weight, learning_rate or
    transfer_size. It is not searched any more.

    Raises:
      UsageError: `name` is none of these.
    """
    fits = config.methods[config.accept.method]
    soft = [(fit, term) for fit in fits for term in config.fits[fit].weights
            if term_class(config.terms[term].kind).TEACHER]  # fmt: skip
    if name == 'temperature':
        terms = {term for _, term in soft if 'temperature' in config.terms[term]}
        return fields.changed(config, {f'terms.{term}.temperature': value for term in sorted(terms)})
    if name == 'weight':
        return fields.changed(config, {f'fits.{fit}.weights.{term}': value for fit, term in soft})
    if name == 'learning_rate':
        return fields.changed(config, {f'fits.{fits[-1]}.learning_rate': value})
    if name in ('sparsity', 'bits'):
        which = [fit for fit in fits if (takes_sparsity(config.fits[fit].optim) if name == 'sparsity'
                                         else config.fits[fit].change.get('kind') == changes.QUANTIZE)]  # fmt: skip
        if not which:
            does = 'prunes' if name == 'sparsity' else 'rounds'
            raise UsageError(f'retry.{name} is of a fit that {does}, and method {config.accept.method!r} has none')
        return fields.changed(config, {f'fits.{fit}.{name}': float(value) for fit in which})
    if name == 'transfer_size':
        sizes = tuple(sorted({*config.data.transfer_sizes, int(value)}))
        return fields.changed(config, {'accept.transfer_size': int(value), 'data.transfer_sizes': sizes})
    raise unknown('retry', name, RETRIES)


def shortfall(bars: list[Criterion]) -> str:
    """Which bars were missed and by how much, as a sentence."""
    missed = [
        f'{bar.name} is {"unknown" if bar.got is None else f"{bar.got:.4g}"}, wanted '
        f'{"at most" if bar.better == "lower" else "at least"} {bar.wanted:.4g}'
        + ('' if bar.got is None else f' (off by {abs(bar.got - bar.wanted):.4g})')
        for bar in bars
        if not bar.met
    ]
    return '; '.join(missed) or 'all bars met'


def score(bars: Sequence[Mapping[str, Any]]) -> float:
    """What the best attempt has most of: bars met, then how much of what was wanted of the score and the gap it got."""
    return sum(bar['met'] + 0.1 * _share(bar) for bar in bars if bar['name'] not in LIMITS)


def _share(bar: Mapping[str, Any]) -> float:
    """What was got in units of what was wanted, the more the better, in (-1, 1)."""
    if bar['got'] is None:
        return -1.0
    ratio = bar['got'] / abs(bar['wanted']) * (-1 if bar.get('better') == 'lower' else 1)
    return ratio / (1 + abs(ratio))


def _score(result: Mapping[str, Any], size: int) -> float | None:
    every = validation_score(result)
    values = [every[position] for position in chosen_cells(result, size)]
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shipped(Addressed):
    """Whose file is measured."""

    data: DataSource = dataclasses.field(metadata=BY_KEY)
    students: TrainedStudents = dataclasses.field(metadata=BY_KEY)
    fits: str  # name of the stage that trained them
    format: str
    size: int  # of their transfer set


def file_stage(recipe: Recipe) -> plan.Stage:
    """The stage of the method that is judged; it needs its last fit. Milliseconds are of the machine that ran it."""
    accept = recipe.config.accept
    fits = '+'.join(recipe.methods[accept.method])
    last = plan.stages_of(recipe)[fits]
    inputs = Shipped(data=recipe.data, students=last.inputs, fits=fits, format=accept.file,
                     size=judged_size(recipe))  # fmt: skip
    key = trees.digest([FILE, accept.file, inputs.size, last.key, plan.VERSION])
    return plan.Stage(FILE, inputs, (fits,), weigh, key)


def weigh(inputs: Shipped, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Writes the file of the student that is best in validation, and measures it."""
    context.screen.stage(FILE)
    student, own = best(inputs, context)
    return weighed(student, own, folder, inputs.format, context.datasets(inputs.data))


def weighed(student: Student, own: float, folder: Path, name: str, dataset: Dataset) -> dict[str, Any]:
    """What `criteria` reads of the file of a student, whose score in validation was its own."""
    path, seen, metrics = files.measurable(student, folder, name, dataset, 'validation')
    found = measure.measured(name, path, seen)
    return {
        'score': metrics[student.task.judged.name],
        'own': own,
        'kilobytes': found.bytes / 1000,
        'milliseconds': found.p50_ms,
        'ram_kilobytes': None if found.ram_bytes is None else found.ram_bytes / 1000,
        'measured': found._asdict(),
    }


def best(inputs: Shipped, context: Context) -> tuple[Student, float]:
    """The student with the best score in validation, and that score.

    Raises:
      UsageError: all diverged.
    """
    artifact, metric = context.done[inputs.fits], context.task(inputs.students).judged
    cell = students.best_cell(artifact.result, inputs.size, metric)
    if cell is None:
        raise UsageError(f'all students of {inputs.fits} diverged: there is no file to measure')
    one = artifact.result['cells'][cell]
    about = students.described(inputs.students, context)
    about |= {'changes': changes.described(inputs.students)} if changes.made(inputs.students) else {}
    about |= {'method': inputs.fits, 'seed': one['seed'], 'candidate': one['candidate'], 'transfer_size': inputs.size,
              'step': artifact.result['history'][-1]['step'], 'metrics': {}}  # fmt: skip
    variables = trees.take(load_variables(artifact.folder / CHECKPOINTS['last']), cell)
    score = validation_score(artifact.result)[cell]
    assert score is not None
    return bundle.build(about, {'params': {}, 'stats': {}, **variables}), score
