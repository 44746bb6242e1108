"""The laws of DESIGN.md section 10, for every technique that exists, or for those that --term names."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax.errors import UsageError
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.testing import meaning, world
from kdjax.testing.suite import LAWS, about_itself
from kdjax.train import step
from kdjax.types import Net, Outputs

SPECIMENS = world.specimens()
ONE_EACH = list({world.kind(name): name for name in SPECIMENS}.values())


def of_specimens(names, params):
    """A test for each, whose first parameter is the specimen: those of one run in one process and share programs."""
    together = [param._replace(marks=[*param.marks, pytest.mark.xdist_group(param.values[0])]) for param in params]
    return pytest.mark.parametrize(names, together)


def in_turn():
    """Every law with every specimen that it concerns: an eighth have their turn, of laws that need a program of their
    own a sixteenth. What techniques answer is held to vectors and oracles every day."""
    eighths = dict(zip(SPECIMENS, rotation.turns([''] * len(SPECIMENS), ways=8), strict=True))
    for law in LAWS:
        names = [name for name, term in SPECIMENS.items() if law.concerns(term)]
        sixteenths = dict(zip(names, rotation.turns([''] * len(names), ways=16), strict=True))
        turns = sixteenths if law.own_program else eighths
        yield from (pytest.param(name, law, marks=turns[name], id=f'{name}-{law.name}') for name in names)


every_technique = pytest.mark.parametrize('kind', world.techniques().values(), ids=world.techniques())


@of_specimens(('name', 'law'), list(in_turn()))
def test_law(name, law):
    law.check(world.subject(name))


@every_technique
def test_a_technique_says_what_it_is(kind):
    about_itself(kind)


def test_no_two_specimens_share_a_name():
    assert len(SPECIMENS) == sum(len(kind.specimens()) for kind in world.techniques().values())


@every_technique
def test_what_learns_nothing_says_how(kind):
    """What `PLAIN` says: with these fields, of which none is unknown, there is nothing to learn or to remember."""
    if kind.PLAIN is None:
        return
    plain = [dataclasses.replace(term, **kind.PLAIN) for term in kind.specimens()]
    same = {'layer': 'map', 'layers': ('map', 'map')}  # of one width on both sides
    named = {field.name for field in dataclasses.fields(kind)} & set(same) - set(kind.PLAIN)
    shapes = []
    for term in [*plain, *(dataclasses.replace(plain[0], **{name: same[name]}) for name in named)]:
        try:
            shapes.append(jax.eval_shape(term.init, world.KEY, world.padded()))
        except UsageError:  # of widths that differ, without anything learned
            continue
    assert shapes
    assert all(not jax.tree.leaves(shape) for shape in shapes)


@pytest.mark.parametrize('temperature', [0.0, -4.0])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(UsageError, match=f'temperature of SoftTargets must be > 0, got {temperature}'):
        SoftTargets(temperature=temperature)


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(UsageError, match=f'smoothing of CrossEntropy must be .* {smoothing}'):
        CrossEntropy(smoothing=smoothing)


def mirror(variables):
    """A network whose variables are its outputs: what a step does to them is what it does to a teacher or student."""
    return Outputs(variables['params']['logits'], variables['params']['features'])


def test_no_gradient_reaches_the_teacher():
    seen = world.padded()
    # Some of every kind: it is the step that stops the gradient, for all terms at once.
    subject = world.placed({name: SPECIMENS[name] for name in ONE_EACH[::16]}, seen)
    student, teacher_vars = ({'params': side._asdict(), 'stats': {}} for side in (seen.student, seen.teacher))
    knobs = {'seed': jnp.uint32(0), 'terms': subject.knobs, 'optim': {}}
    parts = {
        'net': Net(lambda key, inputs: student, lambda variables, *_, **__: (mirror(variables), {}), ()),
        'teacher': lambda variables, batch: mirror(variables),
        'objective': subject.objective,
        'tx': optax.with_extra_args_support(optax.sgd(0.1)),
    }
    state = jax.jit(functools.partial(step.init_state, **parts))(knobs, teacher_vars, seen.batch, student)

    def loss(teacher_vars):
        after, logs = step.train_step(state, teacher_vars, seen.batch, knobs, **parts)
        return logs['loss'], after

    (total, after), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True, allow_int=True))(teacher_vars)
    assert np.isfinite(total)
    assert world.size([leaf for leaf in jax.tree.leaves(gradient) if leaf.dtype != jax.dtypes.float0]) == 0
    moved = jax.tree.map(lambda a, b: world.size(a - b) > 0, after.params['student'], student['params'])
    read = [term.taps().student for _, term in subject.objective.terms]  # some of it for weights alone
    assert all(any(moved['features'][tap] for tap in taps) for taps in read if taps)
    assert moved['logits']


def own_classes():
    """Terms whose teacher must be of the student's classes, but those for which a class is a number, kept by a teacher
    or a label: it is the student's."""
    named = ('sparse.', 'ranking.')
    return [
        (name,) for name, term in SPECIMENS.items()
        if term.TEACHER and not term.OTHER_CLASSES
        and not name.startswith('gradient_attention.') and not (name.startswith(named) and term.keep == 0)
    ]  # fmt: skip


@of_specimens('name', rotation.params(own_classes(), [place // 4 for place in range(len(own_classes()))]))
def test_a_term_that_could_have_a_teacher_of_other_classes_says_so(name):
    with pytest.raises((UsageError, ValueError, TypeError)):
        jax.eval_shape(
            functools.partial(meaning.ask_alone, SPECIMENS[name]), world.other_classes(world.CLASSES + 3)
        )  # fmt: skip


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    chosen=st.lists(st.sampled_from(sorted(SPECIMENS)), min_size=3, max_size=3, unique=True),
    weights=st.tuples(*[st.floats(0, 10, width=32)] * 3),
)
def test_any_terms_sum(chosen, weights):
    terms = {name: dataclasses.replace(SPECIMENS[name], weight=w) for name, w in zip(chosen, weights, strict=True)}
    together = world.compiled(*world.placed(terms, world.padded()))
    alone = [world.compiled(*world.subject(name).turned(weight=term.weight)) for name, term in terms.items()]
    world.assert_close(together.loss, sum(answer.loss for answer in alone))
    world.assert_close(together.student, jax.tree.map(lambda *parts: sum(parts), *(one.student for one in alone)))
