"""Laws of what a term says of itself, and of what it teaches whom."""

import copy
import functools
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.techniques.base import Term
from kdjax.testing import world
from kdjax.testing.invariance import REAL, finite, real
from kdjax.testing.world import Subject
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree


def values_are_finite_and_not_below_the_minimum(subject: Subject) -> None:
    """One per example or token; random students differ from random teachers and labels."""
    answer = world.compiled(*subject)
    values = answer.values[subject.name]
    shapes = REAL.shape, subject.inputs.student.logits.shape[:-1]
    assert values.shape in shapes, f'values {values.shape} must be one of {shapes}'
    assert finite(answer), 'values, gradients or memory are not finite'
    assert np.all(values >= subject.term.minimum - 1e-6), f'a value is below the minimum {subject.term.minimum}'
    assert answer.loss > subject.term.minimum, 'the loss is at its minimum though student and teacher differ'


def knobs_matter(subject: Subject) -> None:
    """Each changes the values; `weight` is the objective's."""
    before = world.compiled(*subject).values[subject.name]
    for knob in set(subject.term.knobs()) - {'weight'}:
        turned = subject.turned(**{knob: 0.5 * subject.term.knobs()[knob] + 0.3})
        after = world.compiled(*turned).values[subject.name]
        assert not np.allclose(after, before, rtol=1e-3), f'{knob} changes nothing'


def a_program_reads_what_its_term_says_and_knobs_as_given(subject: Subject) -> None:
    """Terms that differ in knobs alone are one program, so a knob comes from what it is given, not from the term."""
    blank = copy.copy(subject.term)

    def refused(term: Term, knob: str) -> NoReturn:
        raise AssertionError(f'reads self.{knob}; a knob is read from `knobs`')

    hidden = {knob: property(functools.partial(refused, knob=knob)) for knob in blank.knobs()}
    object.__setattr__(blank, '__class__', type('Blank', (type(blank),), hidden))
    params, memory = jax.eval_shape(blank.init, world.KEY, subject.inputs)
    unread: Any = None
    student, teacher = (
        side if reads else side._replace(logits=unread)
        for side, reads in zip(subject.inputs[:2], blank.reads_logits, strict=True)
    )
    seen = TermInputs(student, teacher, subject.inputs.batch)

    def call(params: Tree, memory: Tree, step: Any, key: Any) -> TermOut:
        return blank(params, memory, seen, subject.knobs[subject.name], step=step, key=key)

    step, key = (jnp.int32(0) if blank.COUNTS else None), (world.KEY if blank.DRAWS else None)
    try:
        jax.eval_shape(call, params, memory, step, key)
    except (AttributeError, TypeError, UsageError) as error:
        said = f'DRAWS={blank.DRAWS}, COUNTS={blank.COUNTS}, reads_logits={blank.reads_logits}'
        raise AssertionError(f'reads a key, a step or logits, though it says {said}: {error}') from error


def a_student_equal_to_its_teacher_has_nothing_to_learn(subject: Subject) -> None:
    """Where the term says so: the gradient is 0, and with `at_teacher` of 'zero' the value too."""

    @jax.jit
    def ask(teacher: Outputs) -> world.Answer:
        # A tap of the student gives what the tap that it is compared with gives. Both sides are one array: two equal
        # ones may be computed to different last bits, and a norm has slope 1 there already. Taps of the student that
        # are compared with none come last.
        copied = {own: teacher.features[other] for own, other in zip(*subject.term.taps(), strict=False)}
        student = Outputs(teacher.logits, {**subject.inputs.student.features, **copied})
        return world.ask(*subject._replace(inputs=TermInputs(student, teacher, subject.inputs.batch)))

    answer = ask(subject.inputs.teacher)
    assert world.size(answer.student) < 1e-6, 'a student equal to its teacher has a gradient'
    if subject.term.at_teacher == 'zero':  # of values about 1: sums of rounded logarithms cancel
        assert world.size(real(answer.values)) < 1e-5, 'a student equal to its teacher has a value'


def gradient_reaches_everything_of_the_student_that_is_read(subject: Subject) -> None:
    """Every real example of each tap, or of the logits where there is none, and no padding."""
    gradient = world.compiled(*subject).student
    read = {tap: gradient.features[tap] for tap in subject.term.taps().student} or {'logits': gradient.logits}
    for tap in subject.term.weighing:
        assert world.size(read.pop(tap)) == 0, f'{tap} only weighs, and yet has a gradient'
    for tap, leaf in read.items():
        reached = np.any(np.reshape(leaf, (len(REAL), -1)) != 0, axis=1)
        assert np.array_equal(reached, REAL), f'gradient wrt {tap} reaches the examples {np.flatnonzero(reached)}'


def gradient_reaches_every_learned_parameter(subject: Subject) -> None:
    """A leaf may lack one only where the loss ignores it, as it does a bias before batch normalisation."""
    answer = world.compiled(*subject)
    leaves, structure = jax.tree.flatten(subject.params)
    gradients = jax.tree_util.tree_leaves_with_path(answer.params)
    reached = [world.size(leaf) > 1e-5 * world.size(answer.params) for _, leaf in gradients]
    for index, (path, _) in enumerate(gradients):
        if not reached[index]:
            moved = [leaf + 1 if other == index else leaf for other, leaf in enumerate(leaves)]
            after = world.compiled(*subject._replace(params=jax.tree.unflatten(structure, moved)))
            label = jax.tree_util.keystr(path)
            assert np.allclose(after.loss, answer.loss, rtol=1e-4), f'{label} matters, yet has no gradient'
            layer = [ok for (other, _), ok in zip(gradients, reached, strict=True) if other[:-1] == path[:-1]]
            assert any(layer), f'nothing in the layer of {label} is trained'


def a_token_counts_as_an_example_does(subject: Subject) -> None:
    """Logits (B, N, K) give what the same logits give as (B N, K), or the term says that it has no use for tokens."""
    term, long = subject.term, world.inputs(2, 12)
    short = jax.tree.map(lambda leaf: leaf.reshape(4, 3, *leaf.shape[1:]), long)
    short = short._replace(batch={**short.batch, 'id': jnp.arange(4), 'view': jnp.zeros(4, jnp.int32)})
    tokens, refusal = None, ''
    try:
        tokens = ask_alone(term, short)
    except UsageError as error:
        refusal = str(error)
    if tokens is None:
        said = any(shape in refusal for shape in ('(4, 3, 10)', '(4, 3)'))
        assert said, f'does not say what it was given: {refusal}'
    else:
        world.assert_close(tokens.reshape(-1), ask_alone(term, long))


def labels_are_needed(subject: Subject) -> None:
    """Without any, one line says so."""
    bare = {column: leaf for column, leaf in subject.inputs.batch.items() if column != 'labels'}
    said = _refusal(subject, subject.inputs._replace(batch=bare))
    assert said == f'term {subject.name!r} reads labels, and the data have none', f'without labels: {said}'


def a_teacher_of_one_class_is_refused_or_serves(subject: Subject) -> None:
    """It serves what may have one of other classes, unless one class is too few for it."""
    _of_classes(subject, 1)


def a_teacher_of_more_classes_is_refused_or_serves(subject: Subject) -> None:
    """It serves what may have one of other classes."""
    _of_classes(subject, world.CLASSES + 3)


def _of_classes(subject: Subject, classes: int) -> None:
    inputs = world.other_classes(classes)
    said = _refusal(subject, inputs)
    if not subject.term.OTHER_CLASSES:
        wanted = f'of which there are {world.CLASSES} and {classes}; with such'
        assert wanted in said, f'a teacher of {classes} classes: {said or "is not refused"}'
    elif not said:
        values = jax.eval_shape(functools.partial(ask_alone, subject.term), inputs)
        assert values.shape in (REAL.shape, inputs.student.logits.shape[:-1]), f'values are {values.shape}'
    else:
        assert classes == 1, f'a teacher of {classes} classes is refused: {said}'


def _refusal(subject: Subject, inputs: TermInputs) -> str:
    """What the start says against inputs; '' where it has nothing against them."""
    try:
        jax.eval_shape(subject.objective.init, world.KEY, inputs)
        jax.eval_shape(functools.partial(ask_alone, subject.term), inputs)
    except UsageError as error:
        return str(error)
    return ''


def ask_alone(term: Term, inputs: TermInputs) -> Array:
    """Values of a term that is freshly initialised."""
    params, memory = term.init(world.KEY, inputs)
    knobs: Any = term.knobs()
    return term(params, memory, inputs, knobs, step=jnp.int32(0), key=world.KEY).values
