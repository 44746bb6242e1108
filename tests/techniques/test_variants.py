"""Weighted and dynamic soft labels, teams, peers, self-distillation: values against numpy, limits, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.aekd import AdaptiveEnsemble
from kdjax.techniques.annealing import AnnealedLogits
from kdjax.techniques.averaged import AveragedLosses
from kdjax.techniques.byot import SelfDistillation
from kdjax.techniques.ca_mkd import ConfidentHints, ConfidentTeachers
from kdjax.techniques.ctkd import CurriculumTemperature
from kdjax.techniques.dynamic_temperature import DynamicTemperature
from kdjax.techniques.ebkd import EntropyWeighted
from kdjax.techniques.mutual import MutualLearning
from kdjax.techniques.ofa import OneForAll
from kdjax.techniques.skd import StreamlinedDirection, StreamlinedInstance
from kdjax.techniques.srrl import SoftmaxRegression
from kdjax.techniques.sskd import SelfSupervised
from kdjax.techniques.wsld import WeightedSoftLabels
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(1, 2)  # half of the families have their turn each day

B, K = 6, 5
RNG = np.random.default_rng(11)
STUDENT, TEACHER = RNG.normal(0, 2, (2, B, K))
MEMBERS = RNG.normal(0, 2, (3, B, K))
LABELS = RNG.integers(0, K, B)
MASK = np.array([1, 1, 0, 1, 0, 1.0])
LIVE = MASK > 0


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(student=None, teacher=None, logits=(STUDENT, TEACHER), labels=LABELS, mask=None):
    """Inputs with the given taps and logits, in the precision in use."""
    size = len(labels)
    batch = {
        'labels': labels,
        'mask': np.ones(size) if mask is None else mask,
        'id': np.arange(size),
        'view': np.zeros(size, int),
    }
    sides = [Outputs(z, taps or {}) for z, taps in zip(logits, (student, teacher), strict=True)]
    return jax.tree.map(jnp.asarray, TermInputs(*sides, batch))


def team(logits=MEMBERS, **taps):
    return {f'member{k}/logits': z for k, z in enumerate(logits)} | taps


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params, step):
    return term(params, {}, seen, knobs, step=jnp.int32(step), key=jax.random.key(0)).values


def ask(term, seen, params, step=0):
    return ask_with(term, term.knobs(), seen, params, step)  # traced: equal terms may differ in knobs


def values(term, seen, params=None, step=0):
    return np.asarray(ask(term, seen, params or {}, step))


def gradients(term, seen, params=None, step=0):
    """Of the sum of values, with respect to the student's outputs and what is learned."""

    def summed(student, params):
        return jnp.sum(ask(term, seen._replace(student=student), params, step))

    return jax.grad(summed, (0, 1))(seen.student, params or {})


def softmax(logits, temperature=1.0):
    exponential = np.exp(logits / temperature - np.max(logits / temperature, axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def kl(teacher, student, temperature=1.0):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    return (p * np.log(p / q)).sum(axis=-1)


def soft(teacher, student, temperature=1.0):
    return -(softmax(teacher, temperature) * np.log(softmax(student, temperature))).sum(axis=-1)


def hard(logits, labels=LABELS):
    return -np.log(np.take_along_axis(softmax(logits), labels[..., None], axis=-1)[..., 0])


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


# ---- curriculum temperature


def test_a_global_temperature():
    temperature = 2 + 5 / (1 + np.exp(-0.3))
    got = values(CurriculumTemperature(lowest=2.0, span=5.0), inputs(), {'theta': 0.3})
    close(got, temperature**2 * kl(TEACHER, STUDENT, temperature))


def test_a_curriculum_over_standardised_logits():
    student, teacher = ((z - z.mean(1, keepdims=True)) / z.std(1, ddof=1, keepdims=True) for z in (STUDENT, TEACHER))
    temperature = 1 + 20 / (1 + np.exp(-0.3))
    got = values(CurriculumTemperature(standardized=True), inputs(), {'theta': 0.3})
    close(got, temperature**2 * kl(teacher, student, temperature), rtol=1e-5)


def test_a_temperature_per_example():
    first, second = RNG.normal(size=(2 * K, K)), RNG.normal(size=(K, 1))
    params = {'Dense_0': {'kernel': first, 'bias': np.zeros(K)}, 'Dense_1': {'kernel': second, 'bias': np.ones(1)}}
    both = np.concatenate([softmax(STUDENT), softmax(TEACHER)], axis=1)
    theta = (np.maximum(both @ first, 0) @ second + 1)[:, 0]
    temperature = (1 + 20 / (1 + np.exp(-theta)))[:, None]
    term = CurriculumTemperature(form='instance')
    close(values(term, inputs(), params), temperature[:, 0] ** 2 * kl(TEACHER, STUDENT, temperature))
    # The student descends at given temperatures: T (p_s - p_t).
    gap = temperature * (softmax(STUDENT, temperature) - softmax(TEACHER, temperature))
    close(gradients(term, inputs(), params)[0].logits, gap)


@pytest.mark.parametrize(('shape', 'step', 'want'), [('cosine', 0, 0.0), ('cosine', 25, (1 - 0.5**0.5) / 2),
                                                     ('cosine', 300, 1.0), ('linear', 25, 0.25)])  # fmt: skip
def test_the_temperature_ascends_more_and_more(shape, step, want):
    params = {'theta': 0.3}
    _, true = gradients(CurriculumTemperature(start=-1.0, end=-1.0), inputs(), params)
    _, got = gradients(CurriculumTemperature(steps=100, shape=shape), inputs(), params, step)
    close(got['theta'], -want * true['theta'], rtol=1e-6)


# ---- weighted soft labels


def test_weighted_soft_labels_and_their_constant_weights():
    share = 1 - np.exp(-hard(STUDENT) / (hard(TEACHER) + 1e-7))
    term = WeightedSoftLabels(temperature=3.0)
    close(values(term, inputs()), share * 9 * soft(TEACHER, STUDENT, 3.0))
    gap = 3 * (softmax(STUDENT, 3.0) - softmax(TEACHER, 3.0))
    close(gradients(term, inputs())[0].logits, share[:, None] * gap)


def test_a_teacher_certain_of_the_label_teaches_in_full():
    certain = np.where(np.eye(K)[LABELS] > 0, 60.0, -60.0)
    close(values(WeightedSoftLabels(temperature=1.0), inputs(logits=(STUDENT, certain))), hard(STUDENT), rtol=1e-6)


# ---- one for all


@pytest.mark.parametrize(('gamma', 'temperature'), [(1.4, 1.0), (0.8, 2.0)])
def test_one_for_all(gamma, temperature):
    target = np.eye(K)[LABELS]
    share = (softmax(TEACHER, temperature) + target) ** gamma - target
    want = -(share * np.log(softmax(STUDENT, temperature))).sum(axis=1)
    close(values(OneForAll(gamma=gamma, temperature=temperature), inputs()), want)


def test_one_for_all_sums_its_exits():
    features, kernels = RNG.normal(size=(2, B, 3)), RNG.normal(size=(2, 3, K))
    params = {f'f{k}': {'Dense_0': {'kernel': kernel, 'bias': np.ones(K)}} for k, kernel in enumerate(kernels)}
    got = values(
        OneForAll(layers=('f0', 'f1'), gamma=1.0), inputs(dict(zip(('f0', 'f1'), features, strict=True))), params
    )
    # With gamma 1 the loss is the cross-entropy with the teacher.
    close(got, sum(soft(TEACHER, x @ kernel) for x, kernel in zip(features, kernels, strict=True)))


# ---- dynamic temperature


@pytest.mark.parametrize('form', DynamicTemperature.FORMS)
@pytest.mark.parametrize('mask', [np.ones(B), MASK])
def test_dynamic_temperatures_spread_about_their_mean(form, mask):
    lengths = [np.linalg.norm(z, axis=1) + 1e-4 for z in (STUDENT, TEACHER)]
    hardness = (1 - (STUDENT * TEACHER).sum(axis=1) / lengths[0] / lengths[1]) ** 2
    hardness = 1 / (softmax(STUDENT).max(axis=1) + 1e-3) if form == 'cwsm' else hardness
    temperature = 6 + 1.5 * (hardness[mask > 0].mean() - hardness)
    got = values(DynamicTemperature(form=form, temperature=6.0, beta=1.5, gamma=2.0), inputs(mask=mask))
    close(got[mask > 0], soft(TEACHER, STUDENT, temperature[:, None])[mask > 0])


def test_dynamic_temperatures_stay_above_the_lowest():
    term = DynamicTemperature(temperature=0.5, beta=50.0, lowest=0.4)
    temperatures = np.asarray(term.temperatures(inputs(), term.knobs()))
    assert temperatures.min() == 0.4
    assert DynamicTemperature(temperature=0.5, beta=50.0, lowest=0.0).temperatures(inputs(), term.knobs()).min() < 0


# ---- peers


@pytest.mark.parametrize('form', MutualLearning.FORMS)
def test_mutual_learning(form):
    taught = [np.mean([kl(MEMBERS[k], MEMBERS[j]) for k in range(3) if k != j], axis=0) for j in range(3)]
    want = {'first': taught[0], 'divergence': sum(taught)}.get(form, sum(taught) + sum(map(hard, MEMBERS)))
    seen = inputs({'peers': np.moveaxis(MEMBERS, 0, 1)})
    close(values(MutualLearning(form=form), seen), want)
    # Peers are constants where they teach: p_j - mean of the others' p_k, and where there are labels p_j - y.
    p = softmax(MEMBERS)
    own = np.stack([p[j] - (p.sum(axis=0) - p[j]) / 2 for j in range(3)])
    own = own * np.array([1, 0, 0])[:, None, None] if form == 'first' else own
    own = own + p - np.eye(K)[LABELS] if form == 'paper' else own
    close(np.moveaxis(gradients(MutualLearning(form=form), seen)[0].features['peers'], 1, 0), own)


# ---- teams of teachers


def test_averaged_losses_have_the_gradient_of_the_averaged_probabilities():
    seen = inputs(teacher=team())
    term = AveragedLosses(members=3, temperature=2.0)
    close(values(term, seen), 4 * np.mean([kl(z, STUDENT, 2.0) for z in MEMBERS], axis=0))
    close(gradients(term, seen)[0].logits, 2 * (softmax(STUDENT, 2.0) - softmax(MEMBERS, 2.0).mean(axis=0)))


def test_one_of_several_teachers_for_each_example():
    term, chosen = AveragedLosses(members=3, temperature=2.0, chosen='speaker'), np.arange(B) % 3
    seen = inputs(teacher=team())
    each = np.stack([kl(z, STUDENT, 2.0) for z in MEMBERS])

    def of(column):
        return values(term, seen._replace(batch={**seen.batch, 'speaker': column}))

    close(of(chosen), 4 * each[chosen, np.arange(B)])
    assert np.flatnonzero(np.isnan(of(np.array([3, -1, *chosen[2:]])))).tolist() == [0, 1]
    with pytest.raises(UsageError, match="unknown column 'speaker' of the batch, read by AveragedLosses"):
        values(term, seen)
    with pytest.raises(UsageError, match=r"a column of integers \(B,\), got 'speaker' float"):
        of(chosen / 2)


@pytest.mark.parametrize(('form', 'total'), [('paper', 2), ('camkd', 3)])
def test_entropy_weights(form, total):
    entropy = soft(MEMBERS, MEMBERS)
    weights = (1 - entropy / entropy.sum(axis=0)) / total
    want = 4 * (weights * np.stack([kl(z, STUDENT, 2.0) for z in MEMBERS])).sum(axis=0)
    close(values(EntropyWeighted(members=3, temperature=2.0, form=form), inputs(teacher=team())), want)


def test_teachers_without_entropy_weigh_alike():
    certain = 100.0 * np.argsort(MEMBERS, axis=-1)
    seen = inputs(teacher=team(certain))
    close(values(EntropyWeighted(members=3), seen), values(AveragedLosses(members=3), seen))


def confidence(form):
    loss = np.stack([hard(z) for z in MEMBERS], axis=1)
    return (1 - softmax(loss)) / (6 if form == 'code' else 2)


@pytest.mark.parametrize('form', ConfidentTeachers.FORMS)
def test_confident_teachers(form):
    apart = np.stack([kl(z, STUDENT, 2.0) for z in MEMBERS], axis=1)
    got = values(ConfidentTeachers(members=3, temperature=2.0, form=form), inputs(teacher=team()))
    close(got, 4 * (confidence(form) * apart).sum(axis=1))


@pytest.mark.parametrize('form', ConfidentHints.FORMS)
def test_confident_hints(form):
    student, kernel = RNG.normal(size=(B, 2, 2, 3)), RNG.normal(size=(3, 3, 4))
    wanted = RNG.normal(size=(3, B, 4))
    params = {f'member{k}': {'kernel': kernel[k], 'bias': np.zeros(4)} for k in range(3)}
    guess = np.einsum('bd,kde->kbe', student.mean(axis=(1, 2)), kernel)
    want = (confidence(form).T * ((guess - wanted) ** 2).mean(axis=2)).sum(axis=0)
    seen = inputs({'f': student}, team(**{f'member{k}/g': x for k, x in enumerate(wanted)}))
    close(values(ConfidentHints(layer='f', tap='g', members=3, form=form), seen, params), want)


def directions(temperature=2.0):
    """Gradients of the teachers' losses with respect to the student's logits of the real examples. (M, D)"""
    gap = temperature * (softmax(STUDENT, temperature) - softmax(MEMBERS, temperature))
    return gap[:, LIVE].reshape(3, -1)


def shares(members, bound):
    term = AdaptiveEnsemble(members=members, temperature=2.0, bound=bound)
    seen = inputs(teacher=team(), mask=MASK)
    logs = term({}, {}, seen, term.knobs(), step=jnp.int32(0), key=jax.random.key(0)).logs
    weights = np.array([logs[f'member{k}'] for k in range(members)])
    apart = np.stack([kl(z, STUDENT, 2.0) for z in MEMBERS[:members]])
    close(values(term, seen)[LIVE], 4 * (weights @ apart)[LIVE])
    return weights


@pytest.mark.parametrize('bound', [1.0, 0.52, 0.5, 0.1])
def test_two_teachers_agree_in_closed_form(bound):
    one, two, _ = directions()
    best = np.clip(two @ (two - one) / ((one - two) @ (one - two)), 1 - max(bound, 0.5), max(bound, 0.5))
    close(shares(2, bound), [best, 1 - best], rtol=1e-6)


@pytest.mark.parametrize('bound', [1.0, 0.36])
def test_no_weights_of_three_teachers_agree_more(bound):
    weights = shares(3, bound)
    assert weights.sum() == pytest.approx(1)
    assert -1e-9 <= weights.min() <= weights.max() <= bound + 1e-9
    others = RNG.dirichlet(np.ones(3), 20000)
    others = others[others.max(axis=1) <= bound]
    lengths = np.linalg.norm(others @ directions(), axis=1)
    assert np.linalg.norm(weights @ directions()) <= lengths.min() + 1e-9


# ---- self-distillation


def test_self_distillation():
    shallow, deep = RNG.normal(size=(B, 3)), RNG.normal(size=(B, 4))
    feature, logits = RNG.normal(size=(3, 4)), RNG.normal(size=(4, K))
    params = {
        'f': {'feature': {'kernel': feature, 'bias': np.zeros(4)}, 'logits': {'kernel': logits, 'bias': np.ones(K)}}
    }
    exit_ = shallow @ feature
    want = 0.6 * hard(exit_ @ logits) + 0.4 * 4 * kl(STUDENT, exit_ @ logits, 2.0)
    want = want + 0.1 * ((exit_ - deep) ** 2).sum(axis=1)
    term = SelfDistillation(layers=('f',), deepest='g', alpha=0.4, hint=0.1, temperature=2.0)
    seen = inputs({'f': shallow, 'g': deep})
    close(values(term, seen, params), want)
    student, _ = gradients(term, seen, params)
    assert not np.any(student.logits), 'the deepest classifier is moved'
    assert not np.any(student.features['g']), 'the deepest feature is moved'


# ---- softmax regression


CLASSIFIER = {'kernel': RNG.normal(size=(4, K)), 'bias': RNG.normal(size=K)}


def regression(mask=None):
    student, teacher = RNG.normal(size=(B, 3)), RNG.normal(size=(B, 4))
    connector = {
        'Dense_0': {'kernel': RNG.normal(size=(3, 4))},
        'BatchNorm_0': {'scale': np.ones(4), 'bias': np.ones(4)},
    }
    params = jax.tree.map(jnp.asarray, {'connector': connector, 'classifier': CLASSIFIER})
    return student, teacher, params, inputs({'f': student}, {'f': teacher}, mask=mask)


def test_softmax_regression_sees_real_examples_only():
    student, teacher, params, seen = regression(MASK)
    x = student @ params['connector']['Dense_0']['kernel']
    x = np.maximum((x - x[LIVE].mean(axis=0)) / np.sqrt(x[LIVE].var(axis=0) + 1e-5) + 1, 0)
    logits = x @ CLASSIFIER['kernel'] + CLASSIFIER['bias']
    want = 2 * ((x - teacher) ** 2).mean(axis=1) + 3 * ((logits - TEACHER) ** 2).mean(axis=1)
    close(values(SoftmaxRegression(layer='f', alpha=2.0, beta=3.0), seen, params)[LIVE], want[LIVE])


@pytest.mark.parametrize(('classifier', 'moves'), [('head', False), ('', True)])
def test_the_classifier_of_the_teacher_stays(classifier, moves):
    _, _, params, seen = regression()
    _, slopes = gradients(SoftmaxRegression(layer='f', classifier=classifier), seen, params)
    assert np.any(slopes['classifier']['kernel']) == moves
    assert np.any(slopes['connector']['Dense_0']['kernel'])


def test_the_classifier_is_adopted():
    _, _, params, _ = regression()
    given = jax.tree.map(lambda leaf: leaf + 1, params['classifier'])
    teacher = {'params': {'top': {'head': given}, 'head': params['classifier']}}
    adopted = SoftmaxRegression(layer='f', classifier='top/head').adopt(params, {}, teacher)
    close(adopted['classifier']['kernel'], CLASSIFIER['kernel'] + 1)
    assert SoftmaxRegression(layer='f', classifier='').adopt(params, {}, {}) == params


@pytest.mark.parametrize(
    ('teacher', 'said'),
    [
        ({}, "no teacher weights.*classifier=''"),
        ({'params': {'heed': {}}}, "'head' of the teacher; there is: 'heed'"),
        (
            {'params': {'head': {'kernel': np.ones((3, K)), 'bias': np.ones(K)}}},
            r"'head' of the teacher has .*\(3, 5\)",
        ),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused(teacher, said):
    _, _, params, _ = regression()
    with pytest.raises(UsageError, match=said):
        SoftmaxRegression(layer='f').adopt(params, {}, teacher)


# ---- streamlined distillation


def test_streamlined_instance_of_the_unsure():
    sure = softmax(TEACHER).max(axis=1)
    unsure = sure <= np.quantile(sure[LIVE], 0.5)
    got = values(StreamlinedInstance(temperature=2.0, unsure_only=True, form='scaled'), inputs(mask=MASK))
    close(got[LIVE], (4 * unsure * kl(TEACHER, STUDENT, 2.0))[LIVE])
    assert 0 < np.count_nonzero(got[LIVE]) < LIVE.sum()
    close(values(StreamlinedInstance(temperature=2.0), inputs()), kl(TEACHER, STUDENT, 2.0))


@pytest.mark.parametrize('form', StreamlinedDirection.FORMS)
@pytest.mark.parametrize('mask', [np.ones(B), MASK])
def test_streamlined_direction(form, mask):
    live = mask > 0
    unit = [z[live] / np.linalg.norm(z[live], axis=1, keepdims=True) for z in (STUDENT, TEACHER)]
    gap = (unit[0] @ unit[0].T - unit[1] @ unit[1].T) / (K if form == 'code' else 1)
    inverse = np.linalg.inv(np.cov(gap, rowvar=False) + 0.2 * np.eye(len(gap)))
    want = np.sqrt(np.einsum('bi,ij,bj->b', gap, inverse, gap))
    summed = softmax(TEACHER[live]).sum(axis=0)
    want = want * (np.mean(summed <= np.median(summed)) if form == 'code' else 1)
    close(values(StreamlinedDirection(tikhonov=0.2, form=form), inputs(mask=mask))[live], want)


# ---- self-supervision


def kept(rank, share):
    """The views to keep: those of rank 0, and of the others the first by rank, then by place."""
    order = sorted(np.ndindex(rank.shape), key=lambda index: (rank[index], index))
    right = int((rank == 0).sum())
    return order[: right + int((rank.size - right) * share)]


@pytest.mark.parametrize(('share', 'mask'), [(0.5, np.ones(B)), (0.0, np.ones(B)), (0.6, MASK)])
def test_self_supervision(share, mask):
    live = mask > 0
    student, teacher = RNG.normal(0, 2, (2, B, 4, K))
    own, other = RNG.normal(size=(B, 4, 3)), RNG.normal(size=(B, 4, 7))
    seen = inputs({'rotated': student, 'rotated_penult': own}, {'rotated': teacher, 'rotated_penult': other}, mask=mask)
    student, teacher, own, other, labels = (x[live] for x in (student, teacher, own, other, LABELS))
    cosines = []
    for feature in (own, other):
        feature = feature / np.linalg.norm(feature, axis=2, keepdims=True)
        cosines.append(feature[:, 1:] @ feature[:, 0].T)
    turned, alike = kl(teacher[:, 1:], student[:, 1:], 3.0), kl(cosines[1], cosines[0], 0.5)
    truth = np.take_along_axis(teacher[:, 1:], np.repeat(labels[:, None, None], 3, axis=1), axis=2)
    itself = np.diagonal(cosines[1], axis1=0, axis2=2).T[..., None]
    ranks = (teacher[:, 1:] > truth).sum(axis=2), (cosines[1] > itself).sum(axis=2)
    means = [
        np.mean([part[index] for index in kept(rank, share)]) for part, rank in zip((turned, alike), ranks, strict=True)
    ]
    want = 1.5 * hard(student[:, 0], labels).mean() + 0.7 * 4 * kl(teacher[:, 0], student[:, 0], 2.0).mean()
    want = want + 2 * 9 * means[0] + 5 * 0.25 * means[1]
    term = SelfSupervised(
        hard=1.5, soft=0.7, similarity=5.0, rotated=2.0, temperature=2.0, rotated_temperature=3.0,
        similarity_share=share, rotated_share=share,
    )  # fmt: skip
    close(values(term, seen)[live].mean(), want)


# ---- annealing


@pytest.mark.parametrize(('step', 'damping'), [(0, 0.25), (24, 0.25), (25, 0.5), (99, 1.0), (1000, 1.0)])
def test_annealing_damps_the_teacher_less_and_less(step, damping):
    want = ((STUDENT - damping * TEACHER) ** 2).sum(axis=1)
    close(values(AnnealedLogits(highest=4, steps=100), inputs(), step=step), want)


# ---- what is refused, and what others answer with nan


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda: EntropyWeighted(members=1), 'members of EntropyWeighted must be >= 2, got 1'),
        (lambda: ConfidentTeachers(members=1), 'members of ConfidentTeachers must be >= 2, got 1'),
        (lambda: ConfidentHints(members=0), 'members of ConfidentHints must be >= 2, got 0'),
        (lambda: AveragedLosses(members=0), 'members of AveragedLosses must be >= 1, got 0'),
        (lambda: AdaptiveEnsemble(members=1), 'members of AdaptiveEnsemble must be >= 2, got 1'),
        (lambda: SelfDistillation(alpha=1.5), r'alpha of SelfDistillation must be in \[0, 1\], got 1.5'),
        (lambda: SelfDistillation(layers=()), 'at least one exit'),
        (lambda: SelfSupervised(rotated_share=2.0), r'rotated_share of SelfSupervised must be in \[0, 1\], got 2.0'),
        (lambda: AnnealedLogits(highest=0), 'highest of AnnealedLogits must be >= 1, got 0'),
        (lambda: CurriculumTemperature(steps=0), 'must last at least 1 step, got 0'),
        (lambda: CurriculumTemperature(shape='sine'), "unknown shape 'sine'.*'cosine'"),
        (lambda: values(WeightedSoftLabels(), inputs(labels=LABELS[:3])), r'labels \(3,\) do not fit logits \(6, 5\)'),
        (lambda: values(MutualLearning(), inputs({'peers': STUDENT[:, None]})), '2 peers or more.*set peers'),
        (lambda: values(AveragedLosses(), inputs(teacher=team(MEMBERS[..., 1:]))), r"\(6, 5\) do not fit the members'"),
        (lambda: values(SelfSupervised(), inputs(*[{'rotated': STUDENT, 'rotated_penult': 0}] * 2)), 'four views'),
        (lambda: values(OneForAll(layers=('f',)), inputs({'f': LABELS}), {'f': {}}), "exit 'f'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


ROUGH = [
    WeightedSoftLabels(), OneForAll(), DynamicTemperature(), DynamicTemperature(form='cwsm'),
    StreamlinedInstance(unsure_only=True), StreamlinedDirection(), StreamlinedDirection(form='code'), MutualLearning(),
    AveragedLosses(), EntropyWeighted(), ConfidentTeachers(), AdaptiveEnsemble(), SelfSupervised(), AnnealedLogits(),
]  # fmt: skip
LOGITS = {
    'equal': np.zeros((2, 3, K)),
    'one hot': 60 * (2 * np.eye(K)[[[0, 1, 2], [2, 1, 0]]] - 1),
    'alike': np.broadcast_to(RNG.normal(size=(2, 1, K)), (2, 3, K)),
}


@pytest.mark.parametrize('term', ROUGH, ids=lambda term: f'{type(term).__name__}-{getattr(term, "form", "")}')
@pytest.mark.parametrize('kind', LOGITS)
@pytest.mark.parametrize('mask', [[1, 1, 1.0], [0, 1, 0.0], [0, 0, 0.0]], ids=['all', 'one', 'none'])
def test_no_batch_gives_nan(term, kind, mask):
    """In float32: equal logits, certain ones, identical examples; one real example, and none."""
    student, teacher = LOGITS[kind].astype(np.float32)
    taps = [
        {
            'rotated': np.stack([z] * 4, axis=1),
            'rotated_penult': np.stack([z] * 4, axis=1),
            'peers': np.stack([z, -z], 1),
        }
        for z in (student, teacher)
    ]
    mask = np.asarray(mask, np.float32)
    seen = inputs(taps[0], {**taps[1], **team([teacher, -teacher])}, (student, teacher), np.arange(3), mask)
    assert finite(values(term, seen))
    assert finite(gradients(term, seen))


def test_a_class_that_all_rule_out_counts_nothing():
    shut = np.arange(K) == 2
    labels = np.where(LABELS == 2, 0, LABELS)
    seen = inputs(teacher=team(np.where(shut, -np.inf, MEMBERS)), labels=labels,
                logits=[np.where(shut, -np.inf, z) for z in (STUDENT, TEACHER)])  # fmt: skip
    rest = inputs(teacher=team(MEMBERS[..., ~shut]), labels=labels - (labels > 2),
                logits=[z[:, ~shut] for z in (STUDENT, TEACHER)])  # fmt: skip
    for term in (WeightedSoftLabels(), AveragedLosses(), EntropyWeighted(), ConfidentTeachers(), AdaptiveEnsemble()):
        close(values(term, seen), values(term, rest))
        assert finite(gradients(term, seen))
