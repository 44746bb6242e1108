"""The laws of DESIGN.md section 10, for every technique that exists."""

import contextlib
import copy
import dataclasses
import functools
import math
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rotation
import world
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax.dataset import UNLABELLED
from kdjax.errors import UsageError
from kdjax.techniques.base import Paper
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import step
from kdjax.train.objective import Objective
from kdjax.types import Net, Outputs, TermInputs

# Large, and finite after the few squarings that a technique may do.
HUGE = 1e4
SPECIMENS = world.specimens()
THIRDS = dict(zip(SPECIMENS, rotation.turns(['specimen'] * len(SPECIMENS), ways=3), strict=True))
ONE_EACH = list({world.kind(name): name for name in SPECIMENS}.values())


def of_specimens(names, params):
    """A test for each, whose first parameter is the specimen: those of one run in one process and share programs."""
    together = [param._replace(marks=[*param.marks, pytest.mark.xdist_group(param.values[0])]) for param in params]
    return pytest.mark.parametrize(names, together)


def specimens(names):
    """A test for each specimen, of which every third has its turn: vectors and oracles of all run every day."""
    return of_specimens('name', [pytest.param(name, marks=THIRDS[name]) for name in names])


def in_turn(names, cases):
    """A test for each case, of which one of every technique has its turn."""
    return of_specimens(names, rotation.params(cases, [world.kind(name) for name, *_ in cases]))


every_specimen = specimens(SPECIMENS)
# For laws that need a program of their own.
each_in_turn = in_turn('name', [(name,) for name in SPECIMENS])
every_technique = pytest.mark.parametrize('kind', world.techniques().values(), ids=world.techniques())
MASK = np.asarray(world.MASK, bool)


def real(tree):
    """The rows of `tree` that are not padding."""
    return jax.tree.map(lambda leaf: leaf[MASK], tree)


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


# ---- what a technique is


@every_technique
def test_a_technique_cites_its_paper_and_shows_each_form(kind):
    assert isinstance(kind.PAPER, Paper)
    assert 1950 <= kind.PAPER.year <= 2030
    shown = list(kind.specimens())
    assert shown, f'{kind.__name__}.specimens() is empty, so no law would be tested'
    assert {getattr(term, 'form', None) for term in shown} >= set(kind.FORMS)


def test_no_two_specimens_share_a_name():
    assert len(SPECIMENS) == sum(len(kind.specimens()) for kind in world.techniques().values())


@every_specimen
def test_values_are_finite_and_not_below_the_minimum(name):
    subject = world.subject(name)
    answer = world.compiled(*subject)
    values = answer.values[name]
    assert values.shape in (MASK.shape, subject.inputs.student.logits.shape[:-1])
    assert finite(answer)
    assert np.all(values >= subject.term.minimum - 1e-6)
    assert answer.loss > subject.term.minimum  # random students differ from random teachers and labels


@every_specimen
def test_knobs_matter(name):
    subject = world.subject(name)
    before = world.compiled(*subject).values[name]
    for knob in set(subject.term.knobs()) - {'weight'}:
        turned = subject.turned(**{knob: 0.5 * subject.term.knobs()[knob] + 0.3})
        assert not np.allclose(world.compiled(*turned).values[name], before, rtol=1e-3), f'{knob} changes nothing'


@every_specimen
def test_a_program_does_not_read_the_knobs_of_its_term(name):
    """Terms that differ in knobs alone are one program, so a knob comes from what it is given, not from the term."""
    subject = world.subject(name)
    blank = copy.copy(subject.term)
    hidden = {knob: property(lambda term, knob=knob: pytest.fail(f'reads self.{knob}')) for knob in blank.knobs()}
    object.__setattr__(blank, '__class__', type('Blank', (type(blank),), hidden))
    params, memory = jax.eval_shape(blank.init, world.KEY, subject.inputs)
    call = functools.partial(blank, step=jnp.int32(0), key=world.KEY)
    assert jax.eval_shape(call, params, memory, subject.inputs, subject.knobs[name])


@every_technique
@pytest.mark.parametrize('bad', [math.nan, math.inf, True, '1'])
def test_a_knob_that_is_no_finite_number_is_refused(kind, bad):
    for knob in kind.specimens()[0].knobs():
        with pytest.raises(UsageError, match=f'{knob} of {kind.__name__} must be .*{bad!r}'):
            dataclasses.replace(kind.specimens()[0], **{knob: bad})


@every_technique
def test_negative_weights_and_unknown_forms_are_refused(kind):
    with pytest.raises(UsageError, match=r'weight of .* must be >= 0, got -0\.5'):
        dataclasses.replace(kind.specimens()[0], weight=-0.5)
    if kind.FORMS:
        with pytest.raises(UsageError, match=f"'papr'.*{kind.__name__}.*{kind.FORMS[0]}"):
            kind(form='papr')


@pytest.mark.parametrize('temperature', [0.0, -4.0])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(UsageError, match=f'temperature of SoftTargets must be > 0, got {temperature}'):
        SoftTargets(temperature=temperature)


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(UsageError, match=f'smoothing of CrossEntropy must be .* {smoothing}'):
        CrossEntropy(smoothing=smoothing)


# ---- what is learned


@specimens(name for name, term in SPECIMENS.items() if term.at_teacher != 'free')
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(name):
    subject = world.subject(name)

    @jax.jit
    def ask(teacher):
        # A tap of the student gives what the tap that it is compared with gives. Both sides are one array: two equal
        # ones may be computed to different last bits, and a norm has slope 1 there already.
        copied = {own: teacher.features[other] for own, other in zip(*subject.term.taps(), strict=True)}
        student = Outputs(teacher.logits, {**subject.inputs.student.features, **copied})
        return world.ask(*subject._replace(inputs=TermInputs(student, teacher, subject.inputs.batch)))

    answer = ask(subject.inputs.teacher)
    assert world.size(answer.student) < 1e-6
    if subject.term.at_teacher == 'zero':
        assert world.size(real(answer.values)) < 1e-5  # of values about 1: sums of rounded logarithms cancel


@specimens(name for name, term in SPECIMENS.items() if term.STUDENT)
def test_gradient_reaches_everything_of_the_student_that_is_read(name):
    subject = world.subject(name)
    gradient = world.compiled(*subject).student
    read = {tap: gradient.features[tap] for tap in subject.term.taps().student} or {'logits': gradient.logits}
    for tap in subject.term.weighing:
        assert world.size(read.pop(tap)) == 0, f'{tap} only weighs, and yet has a gradient'
    for tap, leaf in read.items():
        reached = np.any(np.reshape(leaf, (len(MASK), -1)) != 0, axis=1)
        assert np.array_equal(reached, MASK), f'gradient wrt {tap} reaches the examples {np.flatnonzero(reached)}'


@every_specimen
def test_gradient_reaches_every_learned_parameter(name):
    """A leaf may lack one only where the loss ignores it, as it does a bias before batch normalisation."""
    subject = world.subject(name)
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


def mirror(variables):
    """A network whose variables are its outputs: what a step does to them is what it does to a teacher or student."""
    return Outputs(variables['params']['logits'], variables['params']['features'])


def test_no_gradient_reaches_the_teacher():
    seen = world.padded()
    # Some of every kind: it is the step that stops the gradient, for all terms at once.
    subject = world.placed({name: SPECIMENS[name] for name in ONE_EACH[::8]}, seen)
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
    assert all(moved['features'][tap] for _, term in subject.objective.terms for tap in term.taps().student)
    assert moved['logits']


# ---- tokens


@specimens(name for name, term in SPECIMENS.items() if not (term.scope == 'batch' or any(term.taps())))
def test_a_token_counts_as_an_example_does(name):
    """Logits (B, N, K) give what the same logits give as (B N, K), or the term says that it has no use for tokens."""
    term, long = SPECIMENS[name], world.inputs(2, 12)
    short = jax.tree.map(lambda leaf: leaf.reshape(4, 3, *leaf.shape[1:]), long)
    short = short._replace(batch={**short.batch, 'id': jnp.arange(4), 'view': jnp.zeros(4, jnp.int32)})
    tokens, refusal = None, ''
    try:
        tokens = ask_alone(term, short)
    except UsageError as error:
        refusal = str(error)
    if tokens is None:
        assert any(shape in refusal for shape in ('(4, 3, 10)', '(4, 3)')), f'does not say what it was given: {refusal}'
    else:
        world.assert_close(tokens.reshape(-1), ask_alone(term, long))


def ask_alone(term, inputs):
    params, memory = term.init(world.KEY, inputs)
    return term(params, memory, inputs, term.knobs(), step=jnp.int32(0), key=world.KEY).values


# ---- labels, and what the teacher tells apart


@every_specimen
def test_an_example_without_a_label_is_padding_to_what_reads_labels_and_to_no_other(name):
    subject = world.subject(name)
    batch, nameless = subject.inputs.batch, np.arange(len(MASK)) == np.flatnonzero(MASK)[1]
    unlabelled = {**batch, 'labels': np.where(nameless, UNLABELLED, batch['labels']).astype(np.int32)}
    masked = {**batch, 'mask': np.where(nameless, 0, batch['mask']).astype(np.float32)}
    got, want = (
        world.compiled(*subject._replace(inputs=subject.inputs._replace(batch=seen)))
        for seen in (unlabelled, masked if subject.term.reads_labels else batch)
    )
    world.assert_same_answer(got, want)
    if not subject.term.reads_labels:
        world.assert_close(real(got.values), real(want.values))


@specimens(name for name, term in SPECIMENS.items() if term.reads_labels)
def test_a_term_that_reads_labels_needs_some(name):
    subject = world.subject(name)
    bare = {column: leaf for column, leaf in subject.inputs.batch.items() if column != 'labels'}
    with pytest.raises(UsageError, match=f'term {re.escape(repr(name))} reads labels, and the data have none'):
        subject.objective.init(world.KEY, subject.inputs._replace(batch=bare))


@specimens(name for name, term in SPECIMENS.items() if term.TEACHER)
@pytest.mark.parametrize('classes', [1, world.CLASSES + 3])
def test_a_teacher_of_other_classes_is_refused_or_serves(name, classes):
    subject, inputs = world.subject(name), world.other_classes(classes)
    if not subject.term.OTHER_CLASSES:
        with pytest.raises(UsageError, match=f'term .* of which there are {world.CLASSES} and {classes}; with such'):
            subject.objective.init(world.KEY, inputs)
        return
    with contextlib.suppress(UsageError if classes == 1 else ()):  # one class alone may be too few
        values = jax.eval_shape(functools.partial(answer_to, subject.term), inputs)
        assert values.shape in (MASK.shape, inputs.student.logits.shape[:-1])


def answer_to(term, inputs):
    objective = Objective((('term', term),))
    params, memory = objective.init(world.KEY, inputs)
    return term(params['term'], memory['term'], inputs, term.knobs(), step=jnp.int32(0), key=world.KEY).values


@specimens(name for name, term in SPECIMENS.items() if term.TEACHER and not term.OTHER_CLASSES)
def test_a_term_that_could_have_a_teacher_of_other_classes_says_so(name):
    """The exceptions are those for which a class is a number, kept by a teacher or a label: it is the student's."""
    term = SPECIMENS[name]
    if name.startswith('gradient_attention.') or (name.startswith(('sparse.', 'ranking.')) and term.keep == 0):
        return
    with pytest.raises((UsageError, ValueError, TypeError)):
        jax.eval_shape(functools.partial(ask_alone, term), world.other_classes(world.CLASSES + 3))


# ---- what must not change the answer


@every_specimen
def test_padding_changes_nothing(name):
    subject = world.subject(name)
    clean = world.compiled(*subject)
    labels = subject.inputs.batch['labels']
    batch = {**subject.inputs.batch, 'labels': np.where(MASK, labels, world.CLASSES - 1 - labels)}
    sides = jax.tree.map(
        lambda leaf: np.where(MASK.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, leaf.dtype.type(HUGE)),
        subject.inputs[:2],
    )
    dirty = world.compiled(*subject._replace(inputs=TermInputs(*sides, batch)))
    world.assert_same_answer(dirty, clean)
    world.assert_close(real(dirty.values), real(clean.values))


@every_specimen
def test_the_order_of_examples_does_not_matter(name):
    subject = world.subject(name)
    order = np.random.default_rng(3).permutation(len(MASK))
    straight = world.compiled(*subject)
    shuffled = world.compiled(*subject._replace(inputs=jax.tree.map(lambda leaf: leaf[order], subject.inputs)))
    world.assert_close(shuffled.loss, straight.loss)
    world.assert_close(shuffled.params, straight.params)
    by_row = (straight.student, straight.values)
    world.assert_close((shuffled.student, shuffled.values), jax.tree.map(lambda leaf: np.asarray(leaf)[order], by_row))


@each_in_turn
def test_half_precision_in_single_precision_out(name):
    """From the same rounded inputs: what is left is the technique's own arithmetic."""
    subject = world.subject(name)
    half = world.cast(subject.inputs, jnp.bfloat16)._replace(batch=subject.inputs.batch)
    rough = jax.jit(world.values, static_argnums=0)(*subject._replace(inputs=half))[name]
    exact = world.compiled(*subject._replace(inputs=world.cast(half, jnp.float32))).values[name]
    assert rough.dtype == jnp.float32
    world.assert_close(rough, exact, 1e-2)


@every_specimen
def test_confident_logits_stay_finite(name):
    subject = world.subject(name)
    sides = [
        side._replace(logits=np.random.default_rng(seed).choice(np.float32([-HUGE, HUGE]), side.logits.shape))
        for seed, side in enumerate(subject.inputs[:2])
    ]
    assert finite(world.compiled(*subject._replace(inputs=TermInputs(*sides, subject.inputs.batch))))


@every_specimen
@pytest.mark.parametrize('count', [0, 1])
def test_a_batch_of_padding_or_of_one_example_is_no_trouble(name, count):
    subject = world.subject(name)
    batch = {**subject.inputs.batch, 'mask': (np.arange(len(MASK)) < count).astype(np.float32)}
    answer = world.compiled(*subject._replace(inputs=subject.inputs._replace(batch=batch)))
    assert finite(answer)
    if count == 0:
        assert answer.loss == 0
        assert world.size((answer.params, answer.student)) == 0


@every_specimen
def test_features_and_logits_of_0_stay_finite(name):
    """A dead layer: every norm, variance and correlation is 0."""
    subject = world.subject(name)
    dead = jax.tree.map(lambda leaf: 0 * leaf if leaf.dtype == jnp.float32 else leaf, subject.inputs[:2])
    assert finite(world.compiled(*subject._replace(inputs=TermInputs(*dead, subject.inputs.batch))))


@each_in_turn
def test_compiling_changes_nothing_and_happens_once(name):
    subject = world.subject(name)
    answer = world.compiled(*subject)
    traced = world.TRACES[subject.objective]
    turned = subject.turned(**dict.fromkeys(subject.knobs[name], 0.5))
    world.compiled(*turned)
    assert world.TRACES[subject.objective] == traced, 'a second call with other knobs compiled again'
    world.assert_close(world.values(*subject._replace(inputs=jax.tree.map(jnp.asarray, subject.inputs))), answer.values)


@in_turn(('name', 'devices'), [(name, devices) for name in SPECIMENS for devices in (2, 4)])
def test_several_devices_agree_with_one(name, devices):
    subject = world.subject(name)
    world.assert_same_answer(world.spread(*subject, devices), world.compiled(*subject))


@each_in_turn
def test_gradients_are_those_of_the_value(name):
    """Where what stop_gradient holds constant is held constant in the value too."""
    subject = world.subject(name)
    # What is read behind a stop_gradient stays where it is; that too much is behind one is another law.
    free = [world.size(leaf) > 0 for leaf in jax.tree.leaves(gradients(world.compiled(*subject)))]
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        precise = world.Subject(subject.objective, *world.cast(subject[1:], np.float64))
        leaves, structure = jax.tree.flatten((precise.params, precise.inputs.student))
        rng = np.random.default_rng(0)
        direction = [rng.normal(size=leaf.shape) * moves for leaf, moves in zip(leaves, free, strict=True)]
        compiled = constants_held(precise)

        def ask(distance):
            moved = [leaf + distance * step for leaf, step in zip(leaves, direction, strict=True)]
            params, student = jax.tree.unflatten(structure, moved)
            moved = precise._replace(params=params, inputs=precise.inputs._replace(student=student))
            return jax.device_get(compiled(*moved))

        # One program gives the value and what is claimed to be its gradient.
        claimed = sum(np.sum(a * b) for a, b in zip(jax.tree.leaves(gradients(ask(0.0))), direction, strict=True))
        slope = (ask(1e-6).loss - ask(-1e-6).loss) / 2e-6
        assert slope == pytest.approx(claimed, rel=1e-6, abs=1e-6)


def constants_held(subject):
    """`world.ask`, compiled, in which stop_gradient answers with what it was given at `subject`."""
    noted = []

    def note(x):
        noted.append(x)
        return x

    with mock.patch.object(jax.lax, 'stop_gradient', note):
        objective, params, memory, inputs, knobs = subject

        @jax.jit
        def held(params, memory, inputs, knobs):
            noted.clear()
            objective.shares(params, memory, inputs, knobs, step=jnp.int32(0), key=world.KEY)
            return list(noted)

        constants = held(params, memory, inputs, knobs)
    if not constants:
        return world.compiled

    @functools.partial(jax.jit, static_argnums=0)
    def ask(*subject):
        with mock.patch.object(jax.lax, 'stop_gradient', side_effect=constants):
            return world.ask(*subject)

    return ask


def gradients(answer):
    return answer.params, answer.student


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
