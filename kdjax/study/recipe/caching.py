"""The cache stage, what a teacher says of every view of every training example, computed once; or read from a file."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.dataset import leaves, taken
from kdjax.errors import UsageError
from kdjax.study.config.check import cache_name
from kdjax.study.recipe import build, feeding, teaching
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import CachedTeacher, GivenTeacher, TeachingNetwork
from kdjax.study.recipe.recipe import Fit, Recipe, TeacherSpec, Views
from kdjax.study.recipe.stages import folds_of
from kdjax.tasks.base import Question, Task
from kdjax.tasks.evaluation import answers
from kdjax.techniques.distributions import EnsembleTerm
from kdjax.train import cache, given, probes, teachers
from kdjax.types import Net, Outputs, Tree


def read_outputs(inputs: GivenTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Measures a teacher that is a table of answers."""
    context.screen.stage(inputs.name)
    metrics = context.given_metrics(inputs, 'validation')
    return {
        'validation': metrics,
        'fingerprint': inputs.outputs,
        'data_checksum': context.datasets.checksum(inputs.data),
    }


def cache_teacher(inputs: CachedTeacher, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Computes a teacher's outputs on every view of every training example; of folds each example's by its own.

    Where the task has questions that examples share, the teacher answers those.
    """
    teacher = inputs.teacher
    if isinstance(teacher, GivenTeacher):
        return _given(inputs, teacher, context, folder)
    if context.task(teacher).questions(context.datasets(teacher.data)):
        return _answer(inputs, teacher, context, folder)
    variables = teaching.cached_variables(context, inputs)
    net = build.probed(context.teacher_net(teacher, inputs.precision), inputs.probes)
    columns = feeding.columns(context.datasets(teacher.data).splits['train'], teacher.column, None)
    options: dict[str, Any] = {'taps': inputs.taps, 'preprocess': build.preprocess(teacher.data)}
    augment, teach = build.augment(inputs.augment), teachers.frozen(net)

    def ask(variables: Tree, columns: Mapping[str, Tree], **more: Any) -> dict[str, np.ndarray]:
        return cache.compute(teach, variables, columns, augment, teacher.seed, inputs.views, **options, **more)

    context.screen.stage(cache_name(inputs.name), inputs.views * (inputs.folded.folds if inputs.folded else 1))
    outputs = _some_outputs(net, variables, columns, inputs, context)
    keep, width = _kept(inputs, outputs)
    if inputs.folded is None:
        tables = ask(variables, columns, keep=keep, progress=context.screen.step)
    else:
        tables = _by_fold(ask, variables, columns, folds_of(inputs.folded, context), keep, inputs.views, context)
    address = teaching.address(context, inputs, variables)
    cache.save(folder / 'tables', tables, address, cache.padded_axes(outputs, inputs.taps))
    said = {'bytes': sum(table.nbytes for table in tables.values())}
    return {**said, 'kept': keep, 'hidden_nats': width} if keep else said


def _answer(inputs: CachedTeacher, teacher: TeachingNetwork, context: Context, folder: Path) -> dict[str, Any]:
    """The answers to what examples share, by the name of the question, (R, ...)."""
    task = context.informed_task(teacher)
    questions = task.questions(context.datasets(teacher.data))
    variables = teaching.cached_variables(context, inputs)
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], variables)
    context.screen.stage(cache_name(inputs.name), len(questions))
    replies = {}
    for done, (name, question) in enumerate(questions.items(), start=1):
        ask = answers(task, context.teacher_net(teacher, inputs.precision), question.split,
                      preprocess=build.preprocess(teacher.data))  # fmt: skip
        replies[name] = trees.take(ask(one), 0)
        context.screen.step(done)
    return _keep(task, questions, replies, folder, teaching.address(context, inputs, variables))


def _keep(
    task: Task, questions: Mapping[str, Question], replies: Mapping[str, Tree], folder: Path, address: cache.Address
) -> dict[str, Any]:
    """Saves what the task keeps of replies to its questions, and says it."""
    tables: dict[str, np.ndarray] = {}
    said: dict[str, Any] = {}
    for name, question in questions.items():
        kept = task.keep(replies[name], question.split)
        tables[teachers.PREFIX + name] = kept.column
        tables |= {f'{teachers.PREFIX}{name}/{what}': table for what, table in kept.tables.items()}
        said |= {name: kept.said} if kept.said else {}
    cache.save(folder / 'tables', tables, address)
    return {'bytes': sum(table.nbytes for table in tables.values()), **said}


def _given(inputs: CachedTeacher, teacher: GivenTeacher, context: Context, folder: Path) -> dict[str, Any]:
    """The answers of a file, the same for every view of an example."""
    dataset = context.datasets(teacher.data)
    questions = context.task(teacher).questions(dataset)
    context.screen.stage(cache_name(inputs.name), 1)
    tables = given.tables(teacher.path, dataset, questions, inputs.taps, inputs.keep)
    address = teaching.address(context, inputs, {})
    if questions:
        replies = {name: tables[teachers.PREFIX + name] for name in questions}
        return _keep(context.informed_task(teacher), questions, replies, folder, address)
    tables = {name: np.broadcast_to(table[:, None], (len(table), inputs.views, *table.shape[1:]))
              for name, table in tables.items()}  # fmt: skip
    cache.save(folder / 'tables', tables, address)
    return {'bytes': sum(table.nbytes for table in tables.values())}


def _some_outputs(
    net: Net, variables: Tree, columns: Mapping[str, Tree], inputs: CachedTeacher, context: Context
) -> Outputs:
    """The teacher's outputs on a hundredth of the examples, at least 16 and at most 512."""
    teacher = inputs.teacher
    if inputs.folded is not None:
        variables = trees.take(variables, 0)
    count = len(next(leaf for _, leaf in leaves(columns)))
    some = taken(columns, np.linspace(0, count - 1, min(count, max(16, min(512, count // 100)))).astype(int))
    seen = build.preprocess(teacher.data)(some['inputs'])
    return jax.jit(functools.partial(net.apply, train=False, key=None))(variables, seen)[0]


def _kept(inputs: CachedTeacher, outputs: Outputs) -> tuple[int, float | None]:
    """How many classes are kept of what a teacher says, 0 for all; and how many nats may be hidden then.

    Raises:
      UsageError: more are to be kept than there are.
    """
    classes = outputs.logits.shape[-1]
    if not inputs.sparse:
        return 0, None
    if inputs.keep:
        return inputs.keep, cache.hidden_width(outputs, inputs.keep) if inputs.keep <= classes else None
    keep = 1
    while keep < classes and cache.hidden_width(outputs, keep) > inputs.bound:
        keep = min(2 * keep, classes)
    return keep, cache.hidden_width(outputs, keep)


def _by_fold(
    ask: Callable[..., dict[str, np.ndarray]],
    variables: Tree,
    columns: Mapping[str, Tree],
    fold: np.ndarray,
    keep: int,
    views: int,
    context: Context,
) -> dict[str, np.ndarray]:
    """The tables of all examples, each asked of the network that was not trained on it."""
    result: dict[str, np.ndarray] = {}
    for place in range(int(fold.max()) + 1):
        own = np.flatnonzero(fold == place)
        tables = ask(trees.take(variables, place), taken(columns, own), keep=keep, ids=own)
        for name, table in tables.items():
            result.setdefault(name, np.empty((len(fold), *table.shape[1:]), table.dtype))[own] = table
        context.screen.step(views * (place + 1))
    return result


def check_source(recipe: Recipe, fit: Fit) -> None:
    """Raises UsageError where a teacher has learned from other data than those that it is to answer for, where a term
    would listen to fewer teachers than there are, or a block to none."""
    _check_heard(recipe, fit)
    source = recipe.teachers.get(fit.teacher)
    if source is not None and source.fit.upstream != fit.upstream:
        places = {True: 'upstream', False: 'from `data`'}
        raise UsageError(f'fit {fit.name!r} learns {places[fit.upstream]} and its teacher {fit.teacher!r} '
                         f'{places[source.fit.upstream]}: name one that knows the same data, or let one start as that '
                         'network (pretrained)')  # fmt: skip


def _check_heard(recipe: Recipe, fit: Fit) -> None:
    """Raises UsageError where a term would listen to fewer teachers than there are, or a block to none."""
    source = recipe.teachers.get(fit.teacher)
    there = 1 if source is None else len(source.team) or source.members
    for name, term in fit.objective.terms:
        if isinstance(term, EnsembleTerm) and term.members < there:
            raise UsageError(f'term {name!r} listens to members={term.members} of the {there} networks of '
                             f'{fit.teacher!r}: set terms.{name}.members={there}, or let fewer teach')  # fmt: skip
    for cut in fit.spec.blockwise:
        reading = [name for name, term in fit.objective.terms if cut in term.taps().student]
        if reading and all(min(fit.knobs[f'{name}.weight']) == 0 for name in reading):
            raise UsageError(f'fit {fit.name!r} is cut at {cut!r}, and what is before the cut would learn nothing with '
                             f'a weight of 0 of {", ".join(map(repr, reading))}')  # fmt: skip


def check_together(recipe: Recipe, spec: TeacherSpec) -> None:
    """Raises UsageError where several networks, who answer with the mean of their probabilities, say none."""
    learns = recipe.upstream if spec.fit.upstream and recipe.upstream else recipe
    task = build.task(learns.task)
    if (spec.members > 1 or spec.team) and not task.SOFTMAX:
        field = f'team={spec.team}' if spec.team else f'members={spec.members}'
        raise UsageError(f'{spec.name}.{field} answer with the mean of their probabilities of classes, and networks of '
                         f'{type(task).__name__} say none by a softmax: let one network teach')  # fmt: skip


def check_views(recipe: Recipe, fit: Fit) -> None:
    """Raises UsageError where students see what their teacher cannot speak of."""
    if not fit.teacher:
        return
    spec = recipe.teachers.get(fit.teacher)
    if spec and spec.keep and spec.mode == 'online':
        raise UsageError(f"{fit.teacher}.keep is of what is cached: set mode='cached' of {fit.teacher!r}, or keep=0")
    if spec and spec.outputs and _seen_otherwise(recipe.views):
        raise UsageError(
            f'{fit.teacher}.outputs are answers to examples as they are, and students see {recipe.views.views} views '
            'of each: set data.views=1, or data.consistent=False for a teacher that sees another view than they'
        )
    if recipe.views.mix and spec and spec.mode == 'cached':
        raise UsageError(
            f'data.mix makes new examples in every step, so what {fit.teacher!r} tells fit {fit.name!r} cannot be '
            f"cached: set mode='online' of {fit.teacher!r}"
        )
    drawn = sorted({*fit.taps()} & {tap for probe in probes.PROBES for tap in probe.taps})
    if drawn and not recipe.views.consistent:
        raise UsageError(f'fit {fit.name!r} compares {drawn} at the pixels of the student: set data.consistent=True')


def _seen_otherwise(views: Views) -> bool:
    """Whether students are to see what their teacher sees, and that is not the examples as they are."""
    return views.consistent and views.views > 1 and views.augment != {'kind': 'augment.identity'}
