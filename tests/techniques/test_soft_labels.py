"""Other soft labels: values against numpy written from the papers, their limits, and what peers answer with nan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.bkd import BinaryTargets
from kdjax.techniques.dist import Correlations
from kdjax.techniques.dist_plus import MapCorrelations
from kdjax.techniques.dkd import DecoupledTargets
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.logits import LogitMatching
from kdjax.techniques.mlkd import MultiLevel, StrongLabels
from kdjax.techniques.nkd import NormalizedTargets
from kdjax.techniques.pseudo_labels import PseudoLabels
from kdjax.techniques.spherical import SphericalTargets
from kdjax.techniques.standardization import StandardizedTargets
from kdjax.techniques.tfkd import VirtualTeacher
from kdjax.techniques.uskd import SelfTargets
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(0, 2)  # half of the families have their turn each day

B, K = 6, 10
RNG = np.random.default_rng(11)
STUDENT_BK, TEACHER_BK, STRONG_BK, STRONG_TEACHER_BK = RNG.normal(0, 2, (4, B, K))
LABELS_B = RNG.integers(0, 3, B)
MASK_B = np.array([1, 1, 0, 1, 0, 1.0])
FEATURE_BD, KERNEL_DK = RNG.normal(size=(B, 4)), RNG.normal(size=(4, K))
HEAD = {'kernel': KERNEL_DK, 'bias': np.zeros(K)}


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(logits=(STUDENT_BK, TEACHER_BK), labels=LABELS_B, mask=None, strong=None, **features):
    """Inputs with logits, those of a strong view, and taps that both sides have."""
    strong = logits if strong is None else strong
    sides = [Outputs(z, {'strong': s, **features}) for z, s in zip(logits, strong, strict=True)]
    batch = {'labels': labels, 'mask': np.ones(len(labels)) if mask is None else mask}
    return jax.tree.map(jnp.asarray, TermInputs(*sides, batch))


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params):
    return term(params, {}, seen, knobs, step=jnp.int32(0), key=jax.random.key(0)).values


def ask(term, seen, params):
    return ask_with(term, term.knobs(), seen, params)  # traced: equal terms may differ in knobs


def values(term, seen, params=None):
    return np.asarray(ask(term, seen, params or {}))


def gradient(term, seen, params=None):
    """Of the sum of values with respect to the student's outputs and what the term learns."""
    total = lambda student, params: jnp.sum(ask(term, seen._replace(student=student), params))  # noqa: E731
    return jax.grad(total, (0, 1))(seen.student, params or {})


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def softmax(logits, temperature=1.0):
    exponential = np.exp((logits - np.max(logits, axis=-1, keepdims=True)) / temperature)
    return exponential / exponential.sum(axis=-1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(axis=-1)


def without_label(logits, labels=LABELS_B):
    return np.stack([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])


# ---- decoupled and normalised


def decoupled(temperature):
    (p, rest), (q, rest_q) = (
        (softmax(z, temperature)[np.arange(B), LABELS_B], softmax(without_label(z), temperature))
        for z in (TEACHER_BK, STUDENT_BK)
    )
    return kl(np.stack([p, 1 - p], 1), np.stack([q, 1 - q], 1)), kl(rest, rest_q), p


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_decoupled_targets(temperature):
    target, rest, _ = decoupled(temperature)
    term = DecoupledTargets(alpha=0.7, beta=3.0, temperature=temperature)
    close(values(term, inputs()), temperature**2 * (0.7 * target + 3 * rest))


def test_soft_targets_are_decoupled_targets_whose_weight_is_what_the_label_leaves():
    """KL(p^t || p^s) = TCKD + (1 - p^t_y) NCKD (Zhao et al., eq. 6)."""
    target, rest = (
        values(DecoupledTargets(alpha=alpha, beta=1 - alpha, temperature=3.0), inputs()) for alpha in (1.0, 0.0)
    )
    close(target + (1 - decoupled(3.0)[2]) * rest, values(SoftTargets(temperature=3.0), inputs()))


def test_decoupled_targets_of_tokens():
    logits, labels = RNG.normal(0, 2, (2, 2, 3, K)), RNG.integers(0, K, (2, 3))
    rows = inputs(logits=logits.reshape(2, 6, K), labels=labels.reshape(6))
    close(
        values(DecoupledTargets(), inputs(logits=logits, labels=labels)), values(DecoupledTargets(), rows).reshape(2, 3)
    )


def test_decoupled_targets_survive_certainty_in_single_precision():
    """At logits of +-60 in float32, 1 - p_y is 0; its logarithm is taken of the logits instead."""
    student, teacher = np.full((2, 1, 4), -60.0)
    student[0, 1], teacher[0, 2] = 60, 60
    with jax.enable_x64(False):
        seen = inputs((student.astype(np.float32), teacher.astype(np.float32)), np.array([1]))
        got = values(DecoupledTargets(alpha=1.0, beta=1.0, temperature=1.0), seen)
    # p^t_y = 0 and 1 - p^s_y = 3 exp(-120); of the three other classes the teacher has one, the student each alike.
    close(got, (120 - np.log(3)) + np.log(3), rtol=1e-5)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_normalized_targets(temperature):
    p, q = (softmax(z)[np.arange(B), LABELS_B] for z in (TEACHER_BK, STUDENT_BK))
    rest, rest_q = (softmax(without_label(z), temperature) for z in (TEACHER_BK, STUDENT_BK))
    want = -p * np.log(q) - 1.5 * temperature**2 * (rest * np.log(rest_q)).sum(axis=1)
    close(values(NormalizedTargets(temperature=temperature), inputs()), want)


# ---- correlations


def pearson(a, b):
    return np.array([np.corrcoef(row, other)[0, 1] for row, other in zip(a, b, strict=True)])


@pytest.mark.parametrize('form', Correlations.FORMS)
def test_correlations(form):
    live, temperature = MASK_B > 0, 2.0
    q, p = (softmax(z, temperature) for z in (STUDENT_BK, TEACHER_BK))
    want = 0.5 * (1 - pearson(q, p)) + 3 * (1 - pearson(q[live].T, p[live].T).mean())
    term = Correlations(beta=0.5, gamma=3.0, temperature=temperature, form=form)
    close(values(term, inputs(mask=MASK_B))[live], ((1 if form == 'paper' else 4) * want)[live], rtol=1e-4)


def test_correlations_of_tokens_see_every_real_token_as_a_row():
    logits = RNG.normal(size=(2, 2, 3, K))
    mask = np.array([[1, 1, 0], [1, 0, 0.0]])
    labels = np.zeros((2, 3), int)
    rows = inputs(logits=logits.reshape(2, 6, K), labels=labels.reshape(6), mask=mask.reshape(6))
    got = values(Correlations(), inputs(logits=logits, labels=labels, mask=mask))
    close(got[mask > 0], values(Correlations(), rows)[mask.reshape(6) > 0])


@pytest.mark.parametrize('form', ['torchdistill', 'paper'])
def test_correlations_ignore_scale_and_shift(form):
    """Probabilities mixed with the uniform ones are an affine map, the same for all: relations stay (sec. 4)."""
    p, q = softmax(TEACHER_BK), softmax(STUDENT_BK)
    mixed = np.log(0.3 * q + 0.7 / K)
    term = Correlations(form=form, gamma=2.0)
    close(values(term, inputs((mixed, np.log(p)))), values(term, inputs((np.log(q), np.log(p)))))


@pytest.mark.parametrize('form', MapCorrelations.FORMS)
def test_map_correlations(form):
    student, teacher = RNG.normal(size=(2, B, 2, 3, 4))
    live = MASK_B > 0
    over = pearson(student.reshape(-1, 4), teacher.reshape(-1, 4)).reshape(B, 6).mean(axis=1)
    sums = [x.sum(axis=3).reshape(B, 6)[live].T for x in (student, teacher)]
    want = 2 * ((1 - over) if form == 'relation' else over) + 0.5 * (1 - pearson(*sums).mean())
    seen = inputs(mask=MASK_B)
    seen = TermInputs(*(side._replace(features={'f': jnp.asarray(x)})
                  for side, x in zip(seen[:2], (student, teacher), strict=True)), seen.batch)  # fmt: skip
    close(values(MapCorrelations(layer='f', channel=2.0, spatial=0.5, form=form), seen)[live], want[live], rtol=1e-6)


# ---- other scales of logits


def test_standardized_targets():
    """The deviation has K - 1 degrees of freedom."""
    q, p = (softmax((z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True, ddof=1), 2.0)
            for z in (STUDENT_BK, TEACHER_BK))  # fmt: skip
    close(values(StandardizedTargets(), inputs()), 4 * kl(p, q), rtol=1e-6)
    close(values(StandardizedTargets(form='unscaled'), inputs()), kl(p, q), rtol=1e-6)


def test_spherical_targets():
    q, p = (softmax(3 * (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True), 4.0)
            for z in (STUDENT_BK, TEACHER_BK))  # fmt: skip
    close(values(SphericalTargets(multiplier=3.0), inputs()), 16 * kl(p, q), rtol=1e-6)


@pytest.mark.parametrize(
    'term',
    [StandardizedTargets(), SphericalTargets(), DecoupledTargets(standardized=True)],
    ids=lambda t: t.PAPER.title,
)
def test_scale_and_shift_of_logits_do_not_matter(term):
    close(values(term, inputs((5 * STUDENT_BK - 3, 0.1 * TEACHER_BK + 7))), values(term, inputs()), rtol=1e-4)


def test_logit_matching():
    gap = STUDENT_BK - TEACHER_BK
    close(values(LogitMatching(), inputs()), (gap**2).sum(axis=1) / 2)
    close(values(LogitMatching(form='mean'), inputs()), (gap**2).mean(axis=1))
    close(values(LogitMatching(form='centred'), inputs()), gap.var(axis=1))


def test_at_high_temperature_soft_targets_are_half_of_centred_logit_matching():
    soft = values(SoftTargets(temperature=1e5), inputs())
    close(values(LogitMatching(form='centred'), inputs()), 2 * soft, rtol=1e-3)


def test_binary_targets():
    s, sigmoid = 1 / (1 + np.exp(-STUDENT_BK)), 1 / (1 + np.exp(-TEACHER_BK))
    t = softmax(TEACHER_BK)
    close(values(BinaryTargets(), inputs()), -(t * np.log(s) + (1 - t) * np.log(1 - s)).mean(axis=1))
    want = sigmoid * np.log(sigmoid / s) + (1 - sigmoid) * np.log((1 - sigmoid) / (1 - s))
    close(values(BinaryTargets(form='kl'), inputs()), want.mean(axis=1))


# ---- labels that a teacher would not give


@pytest.mark.parametrize('form', PseudoLabels.FORMS)
def test_pseudo_labels_are_of_examples_that_the_teacher_is_sure_of(form):
    p, q = softmax(TEACHER_BK), softmax(STUDENT_BK)
    sure = p.max(axis=1)
    threshold = float(np.median(sure))
    want = np.where(sure >= threshold, -np.log(q[np.arange(B), p.argmax(axis=1)]), 0)
    assert 0 < (want > 0).sum() < B
    got = values(PseudoLabels(threshold=threshold, form=form), inputs())
    close(got, want * sure if form == 'weighted' else want)


@pytest.mark.parametrize('form', VirtualTeacher.FORMS)
def test_virtual_teacher(form):
    virtual = np.full((B, K), 0.1 / (K - 1))
    virtual[np.arange(B), LABELS_B] = 0.9
    p = softmax(virtual, 20.0)
    want = kl(p, softmax(STUDENT_BK, 20.0)) if form == 'virtual' else kl(p, softmax(STUDENT_BK)) / K
    close(values(VirtualTeacher(correct=0.9, form=form), inputs()), want)


def test_a_virtual_teacher_that_is_as_right_as_chance_is_even():
    even = kl(np.full(K, 1 / K), softmax(STUDENT_BK, 20.0))
    close(values(VirtualTeacher(correct=1 / K), inputs()), even)


@pytest.mark.parametrize('form', SelfTargets.FORMS)
def test_self_targets(form):
    live = MASK_B > 0
    p, w = softmax(STUDENT_BK), softmax(FEATURE_BD @ KERNEL_DK)
    label = p[np.arange(B), LABELS_B]
    confidence = label**2 + 1 - (label[live] ** 2).mean()
    smooth = 0.9 * np.eye(K)[LABELS_B] + 0.1 / K
    want = -confidence * np.log(label) - 0.02 * (smooth * np.log(w)).sum(axis=1)
    own = np.log(p) if form == 'cls_KD' else p
    for b, y in enumerate(LABELS_B):
        score = w[b] / (1 - w[b, y]) + own[b] / (1 - own[b, y])
        order = [c for c in np.argsort(-score) if form == 'cls_KD' or c != y]
        zipf = {c: 1 / rank for rank, c in enumerate(order, start=1) if c != y}
        others = 1 - label[b]
        want[b] -= 0.5 * sum(z * np.log(p[b, c] / others) for c, z in zipf.items()) / sum(zipf.values())
    term = SelfTargets(layer='f', beta=0.5, mu=0.02, form=form)
    close(values(term, inputs(mask=MASK_B, f=FEATURE_BD), HEAD)[live], want[live])


# ---- levels


def levels(student, teacher, temperature, live):
    """Loss of the instance, batch and class level over the live examples."""
    q, p = (softmax(z, temperature)[live] for z in (student, teacher))
    count, classes = p.shape
    return np.array([
        temperature**2 * kl(p, q).mean(),
        ((q @ q.T - p @ p.T) ** 2).sum() / count,
        ((q.T @ q - p.T @ p) ** 2).sum() / classes,
    ])  # fmt: skip


def test_levels_are_summed_over_temperatures_and_views():
    live = MASK_B > 0
    weak, strong = (STUDENT_BK, TEACHER_BK), (STRONG_BK, STRONG_TEACHER_BK)
    want = sum(levels(*logits, t, live) for logits in (weak, strong) for t in (4.0, 3.0))
    for level, loss in zip(('instance', 'batch', 'class'), want, strict=True):
        got = values(MultiLevel(others=(3.0,), levels=(level,)), inputs(mask=MASK_B, strong=strong))
        close(got[live].mean(), loss)


@pytest.mark.parametrize('live', [MASK_B > 0, np.arange(B) < 3], ids=['even', 'odd'])
def test_levels_as_in_the_repository(live):
    """An even and an odd number of examples: the median lies between two, and is one of them."""
    temperatures, p = (4.0, 3.0, 5.0, 2.0, 6.0), softmax(TEACHER_BK)[live]
    sure, mass = p.max(axis=1), p.sum(axis=0)
    examples, classes = (sure <= np.percentile(sure, 50)).mean(), (mass <= np.percentile(mass, 50)).mean()
    weak = sum(levels(STUDENT_BK, TEACHER_BK, t, live) for t in temperatures) * [examples, examples, classes]
    strong = sum(levels(STRONG_BK, STRONG_TEACHER_BK, t, live)[0] for t in temperatures[:3])
    swapped = sum(levels(STUDENT_BK, TEACHER_BK, t, live)[0] for t in temperatures[3:])
    seen = inputs(mask=live.astype(float), strong=(STRONG_BK, STRONG_TEACHER_BK))
    close(values(MultiLevel(form='repo'), seen)[live].mean(), weak.sum() + strong + swapped)


def test_strong_labels():
    want = -np.log(softmax(STRONG_BK)[np.arange(B), LABELS_B])
    close(values(StrongLabels(), inputs(strong=(STRONG_BK, STRONG_TEACHER_BK))), want)


# ---- where others answer nan


ALL = [
    DecoupledTargets(), DecoupledTargets(standardized=True), NormalizedTargets(), StandardizedTargets(),
    SphericalTargets(), LogitMatching(), LogitMatching(form='centred'), BinaryTargets(), BinaryTargets(form='kl'),
    PseudoLabels(), VirtualTeacher(), VirtualTeacher(form='repo'), SelfTargets(layer='f'),
    SelfTargets(layer='f', form='cls_KD'), MultiLevel(), MultiLevel(form='repo'), MultiLevel(standardized=True),
    *(Correlations(form=form, temperature=4.0) for form in Correlations.FORMS),
]  # fmt: skip
SURE_BK = np.where(np.arange(K) == RNG.integers(0, K, (2, B, 1)), 60.0, -60.0)
RULED_OUT = np.where(np.arange(K) == 5, -np.inf, np.stack([STUDENT_BK, TEACHER_BK]))
TROUBLE = {
    'certainty': {'logits': SURE_BK},
    'constant rows': {'logits': np.zeros((2, B, K))},
    'a constant student': {'logits': (np.zeros((B, K)), TEACHER_BK)},
    'a class that both rule out': {'logits': RULED_OUT},
    'one real example': {'mask': np.eye(B)[0]},
    'only padding': {'mask': np.zeros(B)},
}


@pytest.mark.parametrize('trouble', TROUBLE)
@pytest.mark.parametrize('term', ALL, ids=lambda term: f'{type(term).__name__}-{getattr(term, "form", "")}')
def test_values_and_gradients_are_finite(term, trouble):
    with jax.enable_x64(False):
        single = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
        seen = inputs(**TROUBLE[trouble], f=FEATURE_BD)
        seen = TermInputs(*jax.tree.map(single, seen[:2]), {**seen.batch, 'mask': single(seen.batch['mask'])})
        params = jax.tree.map(single, HEAD) if isinstance(term, SelfTargets) else {}
        found = (ask(term, seen, params), gradient(term, seen, params))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


# ---- what is refused


@pytest.mark.parametrize(
    ('term', 'seen', 'message'),
    [
        (DecoupledTargets(), {'labels': LABELS_B[:3]}, r'labels \(3,\) do not fit logits \(6, 10\)'),
        (DecoupledTargets(), {'logits': np.zeros((2, B, 1))}, r'\(6, 1\) .* at least 2 classes'),
        (NormalizedTargets(), {'labels': LABELS_B[:3]}, r'labels \(3,\) do not fit logits \(6, 10\)'),
        (VirtualTeacher(), {'labels': LABELS_B[:3]}, r'labels \(3,\) and logits \(6, 10\) do not fit'),
        (StandardizedTargets(), {'logits': np.zeros((2, B, 1))}, r'\(6, 1\) have no standard deviation'),
        (SphericalTargets(), {'logits': np.zeros((2, B, 1))}, r'\(6, 1\) have no direction'),
        (Correlations(), {'logits': (STUDENT_BK, TEACHER_BK[:, :4])}, r'\(6, 10\) and .* \(6, 4\) must have one shape'),
        (MultiLevel(), {'strong': (STRONG_BK[:, :4], STRONG_BK)}, r"\(6, 4\) and \(6, 10\) in 'strong'"),
        (MultiLevel(strong=''), {'logits': np.zeros((2, B, 3, K))}, r'levels are of logits \(B, K\), got \(6, 3, 10\)'),
        (SelfTargets(layer='f'), {'logits': np.zeros((2, B, 3, K))}, r'logits \(B, K\), got \(6, 3, 10\)'),
        (MapCorrelations(layer='f'), {}, r"of 'f' need maps .* \(6, 4\) .* projector=True"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_shapes_that_do_not_fit_are_named(term, seen, message):
    with pytest.raises(UsageError, match=message):
        ask(term, inputs(**seen, f=FEATURE_BD), HEAD)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: StandardizedTargets(epsilon=0.0), r'epsilon of StandardizedTargets must be > 0, got 0\.0'),
        (lambda: PseudoLabels(threshold=1.5), r'threshold of PseudoLabels must be in \[0, 1\], got 1\.5'),
        (lambda: VirtualTeacher(correct=1.5), r'correct of VirtualTeacher must be in \(0, 1\], got 1\.5'),
        (lambda: SelfTargets(smoothing=1.0), r'smoothing of SelfTargets must be in \[0, 1\), got 1\.0'),
        (lambda: MultiLevel(levels=('clas',)), r"unknown level 'clas' of MultiLevel; there is: 'class'"),
        (lambda: MultiLevel(levels=()), 'at least one level'),
        (lambda: MultiLevel(others=(0.0,)), r'temperatures > 0, got \(0\.0,\)'),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()
