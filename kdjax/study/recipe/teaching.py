"""Who teaches a fit: a network, a table of what one said, or nobody; and what such a table depends on."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kdjax import trees
from kdjax.dataset import Shared
from kdjax.study.config.check import cache_name, folds_name
from kdjax.study.recipe import build, pretrained
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import CachedTeacher, GivenTeacher, TrainedStudents, TrainedTeacher, plain, teacher_of
from kdjax.train import cache, teachers
from kdjax.train.checkpoint import load_variables
from kdjax.types import Teacher, Tree

Trained = TrainedTeacher | TrainedStudents


class TeacherSource(NamedTuple):
    """Who teaches a fit: the function, its variables, tables of its outputs and how many padded axes they have, ..."""

    teacher: Teacher
    variables: Tree
    tables: Mapping[str, np.ndarray]
    padded: Mapping[str, int] = {}
    columns: Mapping[str, Any] = {}  # its answers to what examples share, and what it reads where it has other words


NOBODY = TeacherSource(teachers.none(), {}, {})


def teacher_source(context: Context, inputs: Trained) -> TeacherSource:
    """Who teaches a fit: nobody, the student's own average, or a network, whose outputs may be cached."""
    if inputs.source is None:
        return NOBODY
    variables = context.teacher_variables(teacher_of(inputs.source))
    if isinstance(inputs.source, CachedTeacher):
        folder = context.done[cache_name(inputs.source.name)].folder
        tables = cache.load(
            folder / 'tables', address(context, inputs.source, cached_variables(context, inputs.source))
        )
        task, ours = context.task(inputs), context.datasets(inputs.data)
        questions = task.questions(ours)
        if questions:
            kept = {name: np.asarray(tables[teachers.PREFIX + name]) for name in questions}
            if pretrained.other_data(inputs):
                theirs = context.datasets(inputs.source.data)
                kept = {name: task.carried(column, theirs, ours) for name, column in kept.items()}
            answers = {name: Shared(question.rows, kept[name]) for name, question in questions.items()}
            shared = {teachers.PREFIX + name: column for name, column in answers.items()}
            return _asked(context, inputs, variables, shared)
        return TeacherSource(teachers.cached(), variables, tables, cache.load_padded(folder / 'tables'))
    return _asked(context, inputs, variables, {})


def _asked(context: Context, inputs: Trained, variables: Tree, known: Mapping[str, Any]) -> TeacherSource:
    """A network that is asked in every step, beside what is known of it already."""
    columns = pretrained.beside(inputs, context.datasets(inputs.data), context.datasets)
    teacher = asked_teacher(context, inputs)
    if not columns:
        return TeacherSource(teacher, variables, {}, columns=known)
    return TeacherSource(teachers.aligned(teacher), variables, {}, {teachers.ALIGNED: 1}, {**known, **columns})


def asked_teacher(context: Context, inputs: Trained) -> Teacher:
    """The network that teaches a fit, with what its terms read, in the precision that it teaches in."""
    assert inputs.source is not None
    who = teacher_of(inputs.source)
    if isinstance(who, GivenTeacher) or not inputs.fit.asks:
        return teachers.none()
    return teachers.frozen(build.probed(context.teacher_net(who, inputs.teaching), inputs.fit.taps()))


def cached_variables(context: Context, inputs: CachedTeacher) -> Tree:
    """The variables of who says what is cached: the teacher's, or those of its folds with a leading axis."""
    if inputs.folded is None:
        return context.teacher_variables(inputs.teacher)
    return load_variables(context.done[folds_name(inputs.name)].folder / 'variables')


def address(context: Context, inputs: CachedTeacher, variables: Tree) -> cache.Address:
    """What the tables of a cache depend on."""
    teacher = inputs.teacher
    if isinstance(teacher, GivenTeacher):
        said = trees.digest([teacher.outputs, inputs.keep])
        return _address(context, inputs, said)
    how = [plain(teacher.network.args), teacher.members, inputs.precision or teacher.precision]
    if inputs.sparse or inputs.folded:
        how += [inputs.keep, inputs.bound, inputs.folded.folds if inputs.folded else 0]
    return _address(context, inputs, trees.digest([*how, trees.fingerprint(variables)]))


def _address(context: Context, inputs: CachedTeacher, who: str) -> cache.Address:
    teacher = inputs.teacher
    return cache.Address(
        who,
        context.datasets.checksum(teacher.data),
        json.dumps(plain(teacher.data.preprocess), sort_keys=True),
        json.dumps(plain(inputs.augment), sort_keys=True),
        teacher.seed,
        inputs.views,
    )
