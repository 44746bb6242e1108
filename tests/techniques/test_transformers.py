"""Terms of transformers: values against numpy written from the papers, and that padded tokens change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.distilbert import HiddenDirections
from kdjax.techniques.minilm import AttentionDistributions, ValueRelations
from kdjax.techniques.minilmv2 import SelfAttentionRelations
from kdjax.techniques.pkd_bert import PatientTeacher
from kdjax.techniques.textbrewer import AttentionMatch
from kdjax.techniques.tinybert import AttentionScores, HiddenStates
from kdjax.techniques.tokens import layer_map
from kdjax.techniques.vitkd import Generation, Mimicking
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(1, 2)  # half of the families have their turn each day

B, H, N = 3, 2, 5
STATES = ('states', 'more', 'query', 'key', 'value')
LENGTHS = np.array([5, 3, 4])
TOKEN_MASK = (np.arange(N) < LENGTHS[:, None]).astype(float)
BY_TOKEN = [False, True]  # whether it is the mask that is per token, or batch['token_mask']


def features(seed, width):
    rng = np.random.default_rng(seed)
    tokens = {tap: rng.normal(size=(B, N, width)) for tap in STATES}
    return {**tokens, 'scores': rng.normal(0, 2, (B, H, N, N)), 'vector': rng.normal(size=(B, width))}


STUDENT, TEACHER, ALIKE = features(0, 4), features(1, 6), features(2, 4)


def inputs(student=STUDENT, teacher=TEACHER, token_mask=None, by_token=False, mask=(1, 1, 1)):
    token_mask = np.ones((B, N)) if token_mask is None else token_mask
    masks = {'mask': token_mask} if by_token else {'mask': np.asarray(mask, float), 'token_mask': token_mask}
    batch = {**masks, 'id': np.arange(B), 'view': np.zeros(B, int)}
    sides = (Outputs(np.zeros((B, 2)), taps) for taps in (student, teacher))
    return jax.tree.map(jnp.asarray, TermInputs(*sides, batch))


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params):
    return term(params, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen, params):
    return ask_with(term, term.knobs(), seen, params)  # traced: equal terms may differ in knobs


def values(term, seen, params=None):
    return np.asarray(ask(term, seen, params or {}))


def matrices(term, seed=7):
    """Random parameters of the shapes that the term asks for."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: term.init(jax.random.key(0), inputs())[0])
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)


def loss_and_gradient(term, seen, params):
    """As the objective says it, with respect to the student's features."""
    return loss_and_gradient_with(term, Objective((('term', term),)).knobs(), seen, params)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient_with(term, knobs, seen, params):
    objective = Objective((('term', term),))

    def loss(taps):
        now = seen._replace(student=seen.student._replace(features=taps))
        state = {'step': jnp.int32(0), 'key': jax.random.key(0)}
        return objective.shares({'term': params}, {'term': {}}, now, knobs, **state).loss

    return jax.value_and_grad(loss)(seen.student.features)


def loss(term, seen, params=None):
    return float(loss_and_gradient(term, seen, params or {})[0])


def softmax(x):
    exponential = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


# ---- layer maps


@pytest.mark.parametrize(
    ('strategy', 'depths', 'want'),
    [
        ('skip', (2, 4), ('hidden1:hidden2', 'hidden2:hidden4')),
        ('last', (2, 4), ('hidden1:hidden3', 'hidden2:hidden4')),
        ('skip', (3, 4), ('hidden1:hidden1', 'hidden2:hidden2', 'hidden3:hidden4')),
        ('last', (2, 2), ('hidden1:hidden1', 'hidden2:hidden2')),
    ],
)
def test_layer_maps(strategy, depths, want):
    assert layer_map(strategy, *depths) == want


def test_the_layer_maps_of_patient_distillation_are_the_papers():
    """A student of 6 layers, a teacher of 12 (Sun et al., sec. 3.2): the last pair is left out."""
    read = {how: [int(pair.split(':')[1]) for pair in layer_map(how, 6, 12, '')[:-1]] for how in ('skip', 'last')}
    assert read == {'skip': [2, 4, 6, 8, 10], 'last': [7, 8, 9, 10, 11]}


def test_a_layer_map_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match='cannot map the 4 layers of a student to the 2 of a teacher'):
        layer_map('skip', 4, 2)
    with pytest.raises(UsageError, match="unknown strategy 'first' of a layer map; there is: 'last', 'skip'"):
        layer_map('first', 2, 4)


# ---- values, example by example, on the real part of each


def attention_scores(student, teacher):
    return ((student - teacher) ** 2).mean()


def attention_entropy(student, teacher):
    return -(softmax(teacher) * np.log(softmax(student))).sum(axis=-1).mean()


def attention_divergence(student, teacher):
    return (softmax(teacher) * np.log(softmax(teacher) / softmax(student))).sum(axis=-1).mean()


def of_real(reference, tap='scores'):
    """What `reference` says of each example's real tokens alone."""
    return [reference(STUDENT[tap][b][:, :n, :n], TEACHER[tap][b][:, :n, :n]) for b, n in enumerate(LENGTHS)]


def merged(how, reference):
    return lambda student, teacher: reference(how(student, axis=0, keepdims=True), how(teacher, axis=0, keepdims=True))


@pytest.mark.parametrize(
    ('term', 'reference'),
    [
        (AttentionScores(layers=('scores',)), attention_scores),
        (AttentionMatch(layers=('scores',), form='ce'), attention_entropy),
        (AttentionMatch(layers=('scores',), form='ce_mean'), merged(np.mean, attention_entropy)),
        (AttentionDistributions(layer='scores'), attention_divergence),
    ],
    ids=['tinybert', 'ce', 'ce_mean', 'minilm'],
)
def test_attention_of_real_tokens(term, reference):
    want = of_real(reference)
    close(values(term, inputs(token_mask=TOKEN_MASK)), want)
    close(loss(term, inputs(token_mask=TOKEN_MASK, by_token=True)), np.average(want, weights=LENGTHS))


@pytest.mark.parametrize('by_token', BY_TOKEN)
@pytest.mark.parametrize(('form', 'merge'), [('mse', lambda x, **_: x), ('mse_sum', np.sum)])
def test_textbrewers_squares_are_averaged_over_the_pairs_of_the_batch(form, merge, by_token):
    want = np.average(of_real(merged(merge, attention_scores)), weights=LENGTHS**2)
    term = AttentionMatch(layers=('scores',), form=form)
    close(loss(term, inputs(token_mask=TOKEN_MASK, by_token=by_token)), want)


@pytest.mark.parametrize('form', ['mse', 'mse_sum'])
def test_an_example_without_tokens_adds_nothing_to_textbrewers_squares(form):
    term, empty = AttentionMatch(layers=('scores',), form=form), TOKEN_MASK * [[1], [0], [1]]
    close(loss(term, inputs(token_mask=empty)), loss(term, inputs(token_mask=TOKEN_MASK, mask=(1, 0, 1))))


def padded_with(score):
    """Both sides with one score in the columns of padding."""
    return [{**side, 'scores': np.where(TOKEN_MASK[:, None, None] > 0, side['scores'], score)}
            for side in (STUDENT, TEACHER)]  # fmt: skip


def test_scores_at_the_cut_count_as_zero():
    """As a mask of -1e4 does in the authors' code, which knows none."""
    student, teacher = padded_with(0)
    want = ((student['scores'] - teacher['scores']) ** 2).mean(axis=(1, 2, 3))
    close(values(AttentionScores(layers=('scores',)), inputs(*padded_with(-1e4))), want)
    student, teacher = (np.where(side['scores'] > 0.5, side['scores'], 0) for side in (STUDENT, TEACHER))
    close(loss(AttentionMatch(layers=('scores',), form='mse', cut=0.5), inputs()), ((student - teacher) ** 2).mean())


def test_padded_columns_with_scores_of_a_mask_are_as_good_as_none():
    """Why TextBrewer may take softmaxes over them; without such scores the two differ."""
    term = AttentionMatch(layers=('scores',))
    all_columns = dataclasses.replace(term, padded_columns=True)
    want = values(term, inputs(token_mask=TOKEN_MASK))
    close(values(all_columns, inputs(*padded_with(-1e4), token_mask=TOKEN_MASK)), want)
    assert not np.allclose(values(all_columns, inputs(token_mask=TOKEN_MASK)), want, rtol=1e-3)


@pytest.mark.parametrize('by_token', BY_TOKEN)
@pytest.mark.parametrize('projection', ['shared', 'own'])
def test_hidden_states(projection, by_token):
    term = HiddenStates(layers=('states', 'more:value'), projection=projection)
    params = matrices(term)
    assert set(params) == ({'shared'} if projection == 'shared' else set(term.layers))
    want = 0
    for layer, (own, other) in zip(term.layers, (('states', 'states'), ('more', 'value')), strict=True):
        matrix = params['shared' if projection == 'shared' else layer]['kernel']
        want = want + ((STUDENT[own] @ matrix - TEACHER[other]) ** 2).mean(axis=-1) * TOKEN_MASK
    got = values(term, inputs(token_mask=TOKEN_MASK, by_token=by_token), params)
    close(got, want if by_token else want.sum(axis=1) / LENGTHS)


def test_hidden_states_without_a_projection_and_vectors():
    close(values(HiddenStates(layers=('states',), projection='none'), inputs(teacher=ALIKE)),
          ((STUDENT['states'] - ALIKE['states']) ** 2).mean(axis=(1, 2)))  # fmt: skip
    close(values(HiddenStates(layers=('vector',), projection='none'), inputs(teacher=ALIKE, by_token=True)),
          ((STUDENT['vector'] - ALIKE['vector']) ** 2).mean(axis=1))  # fmt: skip


def angle(x, y):
    return 1 - (x * y).sum(axis=-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)


@pytest.mark.parametrize('by_token', BY_TOKEN)
def test_hidden_directions(by_token):
    term = HiddenDirections(layers=('states', 'more'), projection=True)
    params = matrices(term)
    each = sum(angle(STUDENT[tap] @ params[tap]['kernel'], TEACHER[tap]) for tap in term.layers) * TOKEN_MASK
    got = values(term, inputs(token_mask=TOKEN_MASK, by_token=by_token), params)
    close(got, each if by_token else each.sum(axis=1) / LENGTHS)


def test_hidden_directions_ignore_lengths():
    term = HiddenDirections(layers=('states',))
    scaled = {**STUDENT, 'states': 9 * STUDENT['states']}
    close(values(term, inputs(scaled, ALIKE)), values(term, inputs(teacher=ALIKE)))


def test_the_patient_teacher_compares_normalised_class_tokens():
    """The squared distance of unit vectors is twice 1 - cos, layer by layer."""
    term = PatientTeacher(layers=('states', 'more:value'))
    want = 2 * angle(STUDENT['states'][:, 0], ALIKE['states'][:, 0])
    want = want + 2 * angle(STUDENT['more'][:, 0], ALIKE['value'][:, 0])
    close(values(term, inputs(teacher=ALIKE)), want)
    close(values(PatientTeacher(layers=('vector',)), inputs(teacher=ALIKE)),
          2 * angle(STUDENT['vector'], ALIKE['vector']))  # fmt: skip
    projected = PatientTeacher(layers=('states',), projection=True)
    params = matrices(projected)
    close(values(projected, inputs(), params),
          2 * angle(STUDENT['states'][:, 0] @ params['states']['kernel'], TEACHER['states'][:, 0]))  # fmt: skip


def relation(states, heads):
    """Heads are consecutive parts of the width. (heads, n, n)"""
    parts = np.split(states, heads, axis=-1)
    return np.stack([part @ part.T / np.sqrt(part.shape[-1]) for part in parts])


def of_relations(tap, heads):
    return np.array([
        attention_divergence(relation(STUDENT[tap][b, :n], heads), relation(TEACHER[tap][b, :n], heads))
        for b, n in enumerate(LENGTHS)
    ])  # fmt: skip


def test_value_relations():
    close(values(ValueRelations(layer='value', heads=2), inputs(token_mask=TOKEN_MASK)), of_relations('value', 2))


def test_self_attention_relations():
    term = SelfAttentionRelations(heads=2, query_weight=0.5, key_weight=2.0, value_weight=3.0)
    want = 0.5 * of_relations('query', 2) + 2 * of_relations('key', 2) + 3 * of_relations('value', 2)
    close(values(term, inputs(token_mask=TOKEN_MASK)), want)


def test_relations_ignore_a_rotation_within_each_head():
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(2, 2)))
    turned = {**STUDENT, 'value': np.concatenate([part @ turn for part in np.split(STUDENT['value'], 2, -1)], axis=-1)}
    term = ValueRelations(layer='value', heads=2)
    close(values(term, inputs(turned)), values(term, inputs()))


def test_mimicking_sums_squares_of_patches():
    term = Mimicking(layers=('states', 'more'), skip=1)
    params, want = matrices(term), 0
    for tap in term.layers:
        gap = STUDENT[tap] @ params[tap]['kernel'] + params[tap]['bias'] - TEACHER[tap]
        want = want + (gap**2 * TOKEN_MASK[..., None])[:, 1:].sum(axis=(1, 2))
    close(values(term, inputs(token_mask=TOKEN_MASK), params), want)


def convolved(x, layer):
    """3x3 over (H, W, D), zeros beyond the border."""
    height, width = x.shape[:2]
    wide = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return sum(wide[i : i + height, j : j + width] @ layer['kernel'][i, j] for i in range(3) for j in range(3)) \
        + layer['bias']  # fmt: skip


NOISE = np.array([[0.4, 0.1, 0.9, 0.2], [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.1]])


class Drawn(Generation):
    """With given noise."""

    def noise(self, key, inputs, patches):
        return jnp.asarray(NOISE)


@pytest.mark.parametrize('ratio', [0.25, 0.5, 1.0])
def test_generation_sees_visible_patches_and_is_judged_on_hidden_ones(ratio):
    term = Drawn(layer='states', skip=1, ratio=ratio)
    params, want = matrices(term), []
    for b, length in enumerate(LENGTHS - 1):  # without the class token
        order = [n for n in np.argsort(NOISE[b]) if n < length]
        hidden = order[int(length * (1 - ratio)) :]
        x = STUDENT['states'][b, 1:] @ params['align']['kernel'] + params['align']['bias']
        x[hidden], x[length:] = params['token'], 0
        x = np.maximum(convolved(x.reshape(2, 2, -1), params['first']), 0)
        gap = convolved(x, params['second']).reshape(4, -1) - TEACHER['states'][b, 1:]
        want.append((gap[hidden] ** 2).sum() / ratio)
    close(values(term, inputs(token_mask=TOKEN_MASK), params), want)


def test_what_generation_hides_depends_on_ids_alone():
    term = Generation(layer='states', skip=1)
    seen = inputs()
    noise = term.noise(jax.random.key(0), seen, 4)
    swapped = seen._replace(batch={**seen.batch, 'id': seen.batch['id'][::-1]})
    np.testing.assert_array_equal(term.noise(jax.random.key(0), swapped, 4), noise[::-1])
    assert len(np.unique(noise)) == noise.size
    assert not np.allclose(noise, term.noise(jax.random.key(1), seen, 4))


# ---- padding


TERMS = {
    'scores': AttentionScores(layers=('scores',)),
    **{form: AttentionMatch(layers=('scores',), form=form) for form in AttentionMatch.FORMS},
    'distributions': AttentionDistributions(layer='scores'),
    'hidden': HiddenStates(layers=('states', 'more')),
    'directions': HiddenDirections(layers=('states',), projection=True),
    'patient': PatientTeacher(layers=('states',), projection=True),
    'values': ValueRelations(heads=2),
    'relations': SelfAttentionRelations(heads=2),
    'mimicking': Mimicking(layers=('states',), skip=1),
    'generation': Generation(layer='states', skip=1),
}
every_term = pytest.mark.parametrize('term', TERMS.values(), ids=TERMS)
DIRT = [1e4, np.nan, -np.inf]


def dirty(side, value):
    """With `value` in the padded tokens' states, rows and columns."""
    pairs = TOKEN_MASK[:, None, :, None] * TOKEN_MASK[:, None, None]
    tokens = {tap: np.where(TOKEN_MASK[..., None] > 0, side[tap], value) for tap in STATES}
    return {**side, **tokens, 'scores': np.where(pairs > 0, side['scores'], value)}


@pytest.mark.parametrize('by_token', BY_TOKEN)
@pytest.mark.parametrize('value', DIRT)
@every_term
def test_padded_tokens_change_nothing(term, value, by_token):
    params = matrices(term)
    clean = loss_and_gradient(term, inputs(token_mask=TOKEN_MASK, by_token=by_token), params)
    other = inputs(dirty(STUDENT, value), dirty(TEACHER, value), TOKEN_MASK, by_token)
    jax.tree.map(close, loss_and_gradient(term, other, params), clean)
    for tap in term.taps().student:
        gradient = np.asarray(clean[1][tap])
        outside = (gradient * (1 - TOKEN_MASK).reshape(B, *[1] * (tap == 'scores'), N, 1)) != 0
        assert np.any(gradient), 'no gradient at all'
        assert not np.any(outside), 'a gradient reaches padding'


@every_term
def test_a_batch_of_padding_is_worth_nothing(term):
    got = loss_and_gradient(term, inputs(token_mask=np.zeros((B, N)), by_token=True), matrices(term))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(got))


# ---- where other code gives nan or inf


@pytest.mark.parametrize('tap', [name for name, term in TERMS.items() if 'scores' in term.taps().student])
def test_scores_of_minus_infinity_stay_finite(tap):
    """A causal mask on both sides, or on one."""
    upper = np.triu(np.ones((N, N), bool), 1)
    student, teacher = ({**side, 'scores': np.where(upper, -np.inf, side['scores'])} for side in (STUDENT, TEACHER))
    for seen in (inputs(student, teacher), inputs(student), inputs(teacher=teacher)):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(loss_and_gradient(TERMS[tap], seen, {})))


@pytest.mark.parametrize('term', [HiddenDirections(layers=('states',)), PatientTeacher(layers=('states',))])
def test_states_of_zeros_have_finite_gradients(term):
    zeros = {**STUDENT, 'states': np.zeros((B, N, 4))}
    got = loss_and_gradient(term, inputs(zeros, ALIKE), {})
    close(got[0], 1)
    assert all(np.all(np.abs(leaf) < 1e7) for leaf in jax.tree.leaves(got))


def test_scores_of_sixty_in_single_precision():
    with jax.enable_x64(False):
        big = {'scores': np.float32(60) * np.sign(STUDENT['scores']).astype(np.float32)}
        other = {'scores': -big['scores']}
        for term in (AttentionMatch(layers=('scores',)), AttentionDistributions(layer='scores')):
            got = loss_and_gradient(term, inputs(big, other), {})
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))
            assert 50 < float(got[0]) < 125


# ---- what is refused


@pytest.mark.parametrize(
    ('term', 'message'),
    [
        (AttentionScores(layers=('states',)), r'attention scores must be \(B, heads, N, M\).*\(3, 5, 4\) and'),
        (AttentionDistributions(layer='vector'), r'attention scores must be .*\(3, 4\)'),
        (HiddenStates(layers=('states',), projection='none'), r"\(3, 5, 4\) and \(3, 5, 6\) of 'states'"),
        (HiddenStates(layers=('scores',)), r'needs tokens \(B, N, D\) or vectors \(B, D\), got \(3, 2, 5, 5\)'),
        (HiddenStates(layers=('states:vector',)), "only their width may differ.*here projection='shared'"),
        (HiddenDirections(layers=('states',)), 'here projection=False'),
        (PatientTeacher(layers=('states',)), r"shapes \(3, 4\) and \(3, 6\) of 'states'.*here projection=False"),
        (ValueRelations(heads=3), r'multiple of 3 heads, got \(3, 5, 4\)'),
        (SelfAttentionRelations(heads=4), r'multiple of 4 heads, got \(3, 5, 6\)'),
        (Mimicking(layers=('states',), projection=False), 'here projection=False'),
        (Mimicking(layers=('vector',)), r'needs tokens .* got \(3, 4\)'),
        (Generation(layer='states'), "5 patches of layer 'states' are not a square; .*skip, here 0"),
    ],
)
def test_features_that_do_not_fit_are_named(term, message):
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(lambda: ask(term, inputs(), term.init(jax.random.key(0), inputs())[0]))


def test_a_mask_of_other_tokens_is_refused():
    seen = inputs(token_mask=np.ones((B, N - 1)))
    with pytest.raises(UsageError, match='the mask is of 4 tokens, the feature has 5'):
        values(AttentionDistributions(layer='scores'), seen)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: HiddenStates(projection='each'), "unknown projection 'each' of HiddenStates; there is: 'none'"),
        (lambda: ValueRelations(heads=0), 'heads of ValueRelations must be >= 1, got 0'),
        (lambda: SelfAttentionRelations(heads=0), 'heads of SelfAttentionRelations must be >= 1, got 0'),
        (lambda: Generation(ratio=0.0), r'ratio of Generation must be in \(0, 1\], got 0.0'),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()
