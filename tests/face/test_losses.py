"""Losses as functions: each is its term, with arrays in the place of taps."""

import dataclasses
import inspect
import pickle
import pydoc
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rotation

import kdjax
from kdjax import losses, terms
from kdjax.errors import UsageError
from kdjax.face.arguments import COLUMN, own_fields, read_by, readings
from kdjax.techniques.base import Term
from kdjax.testing import world
from kdjax.train.objective import shown
from kdjax.types import Outputs, TermInputs

KEY = jax.random.key(3)
PLAIN = {name: kind for kind in terms.kinds().values() if (name := losses.snake_case(kind.__name__)) in dir(losses)}
STUDENT, TEACHER = np.random.default_rng(0).normal(0, 2, (2, 4, 10)).astype(np.float32)
LABELS = np.asarray([3, 1, -1, 9], np.int32)
# Of fields that name columns, which are given by keyword, those of the laws' world.
WORLD = {
    'heat': 'centre_heat', 'wanted': 'centre_size', 'lengths': 'transcript_length', 'classes': 'anchor_class',
    'targets': 'anchor_edges', 'anchors': 'anchor_valuable', 'tokens': 'written', 'mixed': 'teacher_share',
}  # fmt: skip


def cases():
    """Of every class one term for each set of arrays that its terms read, by the name of the function."""
    for name, kind in PLAIN.items():
        fitting = readings(kind)[1:]  # the default may be of other widths than what the world has
        if len(set(layers := getattr(fitting[0], 'layers', ()))) < len(
            layers
        ):  # one array twice would hide an exchange
            fitting = [dataclasses.replace(term, layers=('hidden1', 'hidden2')) for term in fitting]
        yield from {
            frozenset(slot.argument for slot in read_by(term)): (name, term) for term in reversed(fitting)
        }.values()


def arrays(term):
    """What a term reads, by argument."""
    inputs = world.drawn(1, 4)
    given = {}
    for slot in read_by(term):
        outputs = getattr(inputs, slot.side)
        tagger = hasattr(term, 'crf') or hasattr(term, 'blank')  # whose logits are of tokens
        several = ['emissions'] if tagger else ['anchor_logits'] if 'classes' in term.COLUMNS else []
        features = [outputs.features[tap] for tap in slot.taps or several] or [outputs.logits]
        given[slot.argument] = features if slot.many else features[0]
    if (
        type(term).init is not Term.init and 'student_features' in given
    ):  # without anything learned both sides have one width
        given['student_features'] = jax.tree.map(lambda leaf: leaf[::-1], given['teacher_features'])
    if term.reads_labels:
        column = 'tags' if 'student_emissions' in given else 'transcripts' if hasattr(term, 'blank') else 'labels'
        given[COLUMN] = inputs.batch[column]
    return given | {field: inputs.batch[WORLD[field]] for field in term.COLUMNS if field in WORLD}


def asked(term, given, knobs, key):
    """The term's own answer: unreduced, 0 where there is no label."""
    sides = {'student': Outputs(None, {}), 'teacher': Outputs(None, {})}
    for slot in read_by(term):
        value, outputs = given[slot.argument], sides[slot.side]
        if slot.taps:
            pairs = zip(slot.taps, value if slot.many else [value], strict=True)
            sides[slot.side] = outputs._replace(features={**outputs.features, **dict(pairs)})
        else:
            sides[slot.side] = outputs._replace(logits=value)
    batch = {'mask': jnp.ones(4), 'view': jnp.zeros(4, jnp.int32), 'id': jnp.arange(4)}
    if COLUMN in given:
        batch |= {COLUMN: given[COLUMN]}
        batch |= {'token_mask': jnp.ones(given[COLUMN].shape)} if given[COLUMN].shape == (4, world.TOKENS) else {}
    batch |= {getattr(term, field): given[field] for field in term.COLUMNS if field in WORLD}
    inputs = TermInputs(**sides, batch=shown('term', term, batch))
    values = term({}, {}, inputs, knobs, step=7, key=key).values
    if not term.reads_labels:
        return values
    mask = inputs.batch['mask']
    mask = jnp.max(mask, axis=1) if mask.ndim > values.ndim else mask
    return jnp.where(mask > 0, values, 0)


def in_turn():
    """Every fourth of them."""
    found = list(cases())
    turns = rotation.turns([''] * len(found), ways=4)
    return [pytest.param(*case, marks=turn, id=case[0]) for case, turn in zip(found, turns, strict=True)]


@pytest.mark.parametrize(('name', 'term'), in_turn())
def test_a_function_is_its_term_whose_numbers_are_traced(name, term):
    given = arrays(term)
    knobs = {knob: jnp.float32(value) for knob, value in term.knobs().items() if knob != 'weight'}
    fields = {field: getattr(term, field) for field in own_fields(type(term)) if field not in knobs}
    loss = getattr(losses, name)
    options = {'step': 7} if type(term).COUNTS else {}

    def called(given, knobs, key):
        return loss(**given, **knobs, **fields, **options, **({'key': key} if type(term).DRAWS else {}))

    own, got = (
        jax.make_jaxpr(ask)(given, knobs, KEY)
        for ask in (lambda given, knobs, key: asked(term, given, {**knobs, 'weight': 1.0}, key), called)
    )
    assert equations(got) == equations(own)
    assert got.out_avals[0].shape[0] == 4


def equations(jaxpr):
    """What is computed, but for what nothing depends on and for places in files and memory."""
    pruned, _ = jax.interpreters.partial_eval.dce_jaxpr(jaxpr.jaxpr, [True])
    return re.sub(r'0x[0-9a-f]+', '', str(pruned))


def test_every_term_that_learns_nothing_is_a_function():
    names = dir(losses)
    assert len(names) == len(set(names)) >= 90
    assert all(name.isidentifier() and name == name.lower() for name in names)
    for kind in terms.kinds().values():
        assert (losses.snake_case(kind.__name__) in names) == (kind.init is Term.init or kind.PLAIN is not None)
    assert kdjax.losses is losses
    assert {'losses', 'terms', 'objective', 'from_nnx'} <= set(dir(kdjax))
    assert kdjax.terms.SoftTargets is terms.kinds()['SoftTargets']


def test_of_two_classes_of_one_name_the_name_of_the_file_comes_first():
    one, other = (type('Hint', (Term,), {}) for _ in range(2))
    named = terms.by_name([('fit_nets', one), ('mgd', other), ('mgd', Term)])
    assert named == {'FitNetsHint': one, 'MgdHint': other, 'Term': Term}
    assert [losses.snake_case(name) for name in ('FitNetsHint', 'SkewReverseKL', 'GeneralizedJSD', 'KLDistance')] == [
        'fit_nets_hint', 'skew_reverse_kl', 'generalized_jsd', 'kl_distance'
    ]  # fmt: skip


SIGNATURES = {
    'soft_targets': "student_logits, teacher_logits, temperature=4.0, form='kl', *, where",
    'decoupled_targets': 'student_logits, teacher_logits, labels, alpha=1.0, beta=8.0, temperature=4.0, '
    'standardized=False, *, where',
    'cross_entropy': 'student_logits, labels, smoothing=0.0, class_weights=(), by_weight=False, *, where',
    'angle_relations': 'student_features, teacher_features, unit_length=False, *, where',
    'hint': "student_features, teacher_features, unit_length=False, form='paper', *, where",
    'sobolev': "student_features, teacher_features, student_logits, teacher_logits, form='logits', *, where",
    'annealed_logits': 'student_logits, teacher_logits, highest=10, steps=1000, *, step, where',
    'position_ranking': 'student_logits, teacher_logits, labels, first=10, skip_label=True, decay=1.0, *, '
    'key, ids, where',
}


@pytest.mark.parametrize(('name', 'want'), SIGNATURES.items())
def test_a_signature_says_what_there_is_to_give(name, want):
    signature = inspect.signature(getattr(losses, name))
    shown = [
        f'{name}={parameter.default!r}' if parameter.default not in (parameter.empty, None) else name
        for name, parameter in signature.parameters.items()
    ]
    star = [p.kind for p in signature.parameters.values()].index(inspect.Parameter.KEYWORD_ONLY)
    assert ', '.join([*shown[:star], '*', *shown[star:]]) == want


def test_help_has_the_equation_the_shapes_and_the_paper_of_each():
    for name in dir(losses):
        said, loss = inspect.getdoc(getattr(losses, name)), getattr(losses, name)
        for parameter in inspect.signature(loss).parameters:
            assert re.search(rf'^  {parameter}: \S+', said, re.MULTILINE), f'{name} does not say what {parameter} is'
        assert re.search(r'^Returns:\n  .*^Reference:\n  .*\d{4}', said, re.MULTILINE | re.DOTALL), name
        assert max(map(len, said.splitlines())) <= 120, name
        assert not re.search("knob,|knobs,|'tap' or", said), name
    assert 'T^2 KL(p^t_T || p^s_T)' in pydoc.render_doc(losses.soft_targets)
    whole = 'give it the whole'
    assert [whole in loss.__doc__ for loss in (losses.soft_targets, losses.angle_relations)] == [False, True]
    assert pickle.loads(pickle.dumps(losses.soft_targets)) is losses.soft_targets


def test_two_well_known_losses_are_what_they_are_elsewhere():
    soft = losses.soft_targets(STUDENT, TEACHER, temperature=2.0)
    log_p = [jax.nn.log_softmax(logits / 2) for logits in (STUDENT, TEACHER)]
    np.testing.assert_allclose(soft, 4 * optax.losses.kl_divergence_with_log_targets(*log_p), rtol=1e-5)
    hard = losses.cross_entropy(STUDENT, LABELS)
    known = LABELS >= 0
    want = optax.losses.softmax_cross_entropy_with_integer_labels(STUDENT[known], LABELS[known])
    np.testing.assert_allclose(hard[known], want, rtol=1e-5)
    assert hard[~known] == 0


def test_what_is_not_real_is_0_and_changes_nothing():
    """Of examples, of tokens, and of terms whose values depend on the whole batch; numbers are traced."""
    where, tokens = np.asarray([True, True, False, True]), np.arange(12).reshape(4, 3) % 4 < 2
    long = np.random.default_rng(1).normal(size=(2, 4, 3, 10)).astype(np.float32)

    @jax.jit
    def ask(student, teacher, long, temperature):
        return {
            'soft': losses.soft_targets(student, teacher, temperature, where=where),
            'rkd': losses.distance_relations(student, teacher, where=where),
            'pearson': losses.correlations(student, teacher, temperature=temperature, where=where),
            'tokens': losses.soft_targets(long[0], long[1], temperature, where=tokens),
        }

    found = ask(STUDENT, TEACHER, long, 3.0)
    dirty = (np.where(where[:, None], side, np.float32(np.nan)) for side in (STUDENT, TEACHER))
    again = ask(*dirty, np.where(tokens[..., None], long, np.float32(np.nan)), 3.0)
    for name, values in found.items():
        real = tokens if name == 'tokens' else where
        np.testing.assert_array_equal(np.asarray(values != 0), real, err_msg=name)
        np.testing.assert_array_equal(values, again[name], err_msg=name)
    short = losses.distance_relations(STUDENT[where], TEACHER[where])
    np.testing.assert_allclose(found['rkd'][where], short, rtol=1e-5)


def test_numbers_are_traced_and_gradients_reach_both_sides():
    def loss(student, teacher, temperature):
        return losses.soft_targets(student, teacher, temperature).mean()

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(STUDENT, TEACHER, jnp.float32(4.0))
    assert all(np.any(gradient != 0) and np.all(np.isfinite(gradient)) for gradient in gradients)


MISTAKES = {
    'temperature of SoftTargets must be > 0, got -1': lambda: losses.soft_targets(STUDENT, TEACHER, jnp.float32(-1)),
    'soft_targets: temperature must be a number, got an array of shape': lambda: losses.soft_targets(
        STUDENT, TEACHER, np.ones(4, np.float32)
    ),
    "unknown form 'kll' of SoftTargets; there is: 'kl'": lambda: losses.soft_targets(STUDENT, TEACHER, form='kll'),
    r'where must be \(4,\), or \(4, N\) of tokens, got \(3,\)': lambda: losses.soft_targets(
        STUDENT, TEACHER, where=np.ones(3, bool)
    ),
    'sparse_targets: with .*keep=0.* it reads teacher_top_ids, teacher_top_log_probs': lambda: losses.sparse_targets(
        STUDENT, keep=0
    ),
    'with .*keep=3.* it does not read teacher_top_ids': lambda: losses.sparse_targets(
        STUDENT, LABELS[:, None], teacher_logits=TEACHER, keep=3
    ),
    'with .*skip_label=True.* it reads labels': lambda: losses.position_ranking(STUDENT, TEACHER, key=KEY, first=3),
    'teacher_features has 1 arrays, that of the student 2': lambda: losses.attention_transfer(
        [np.ones((4, 2, 2, 3), np.float32)] * 2, [np.ones((4, 2, 2, 3), np.float32)]
    ),
    'members of AdaptiveEnsemble must be >= 2, got 1': lambda: losses.adaptive_ensemble(STUDENT, [TEACHER]),
}


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_one_line(said):
    with pytest.raises(UsageError, match=said) as caught:
        MISTAKES[said]()
    assert '\n' not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match=r"unknown loss 'soft_target' in kdjax\.losses; there is: 'soft_targets'"):
        losses.soft_target  # noqa: B018
    with pytest.raises(AttributeError, match=r"unknown term 'SoftTarget' in kdjax\.terms; there is: 'SoftTargets'"):
        terms.SoftTarget  # noqa: B018
    with pytest.raises(TypeError, match=r"soft_targets\(\): .*'temprature'; it takes \(student_logits: "):
        losses.soft_targets(STUDENT, TEACHER, temprature=3)
