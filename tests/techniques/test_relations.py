"""Relations, contrast, rankings and experts against numpy written from the papers, and where peers give nan."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from kdjax.errors import UsageError
from kdjax.techniques import crd
from kdjax.techniques.cc import BilinearCongruence, CorrelationCongruence, NeighbourCongruence
from kdjax.techniques.crd import ContrastiveRepresentation
from kdjax.techniques.darkrank import HardRank, SoftRank
from kdjax.techniques.de_rrd import DistillationExperts, RelaxedRanking
from kdjax.techniques.irg import InstanceEdges, InstanceTransformation
from kdjax.techniques.pkt import LabelTransfer, ProbabilisticTransfer
from kdjax.techniques.rd import HybridRanking, PositionRanking
from kdjax.techniques.rkd import AngleRelations, DistanceRelations
from kdjax.types import Outputs, TermInputs

pytestmark = pytest.mark.rotating(1, 2)  # half of the families have their turn each day

B, K = 6, 10
RNG = np.random.default_rng(11)
STUDENT_BD, TEACHER_BD = RNG.normal(size=(B, 4)), RNG.normal(size=(B, 7))
LOGITS = RNG.normal(0, 2, (2, B, K))
LABELS = np.array([0, 3, 3, 7, 0, 3])
MASK = np.array([1, 1, 0, 1, 1, 1.0])
LIVE = MASK > 0
KEY = jax.random.key(4)


@pytest.fixture(autouse=True)
def _double():
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def inputs(student=STUDENT_BD, teacher=TEACHER_BD, mask=MASK, ids=None, logits=LOGITS, labels=LABELS):
    """Tap 'f' on both sides; padding holds nan, which must reach nothing."""
    size = len(student)
    mask = np.ones(size) if mask is None else mask

    def side(z, feature):
        feature = np.where(mask.reshape(-1, *[1] * (feature.ndim - 1)) > 0, feature, np.nan)
        return Outputs(jnp.asarray(z[:size]), {'f': jnp.asarray(feature)})

    batch = {'labels': labels[:size], 'mask': mask, 'id': np.arange(size) if ids is None else ids}
    batch = {name: jnp.asarray(leaf) for name, leaf in batch.items()}
    return TermInputs(side(logits[0], student), side(logits[1], teacher), {**batch, 'view': jnp.zeros(size, int)})


@functools.partial(jax.jit, static_argnums=0)
def ask_with(term, knobs, seen, params, memory):
    return term(params, memory, seen, knobs, step=jnp.int32(0), key=KEY)


def ask(term, seen, params, memory):
    return ask_with(term, term.knobs(), seen, params, memory)  # traced: equal terms may differ in knobs


def values(term, seen, params=None, memory=None):
    return np.asarray(ask(term, seen, params or {}, memory or {}).values)


def slope(term, seen, params=None):
    """Gradient of the sum over real examples with respect to the student's tap."""

    def loss(feature):
        student = seen.student._replace(features={'f': feature})
        found = ask(term, seen._replace(student=student), params or {}, {}).values
        return jnp.sum(jnp.where(seen.batch['mask'] > 0, found, 0))

    return np.asarray(jax.jit(jax.grad(loss))(seen.student.features['f']))


def close(got, want, rtol=1e-9):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)


def finite_and_zero(term, seen, params=None):
    np.testing.assert_allclose(values(term, seen, params)[np.asarray(seen.batch['mask']) > 0], 0, atol=1e-15)
    np.testing.assert_allclose(slope(term, seen, params), 0, atol=1e-15)


def softmax(x):
    return np.exp(x - x.max(axis=-1, keepdims=True)) / np.exp(x - x.max(axis=-1, keepdims=True)).sum(-1, keepdims=True)


def units(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def huber(gap):
    return np.where(np.abs(gap) < 1, gap**2 / 2, np.abs(gap) - 0.5)


# ---- relational distillation


@pytest.mark.parametrize('form', DistanceRelations.FORMS)
@pytest.mark.parametrize('unit_length', [False, True])
def test_distances(form, unit_length):
    def relative(x):
        x = units(x[LIVE]) if unit_length else x[LIVE]
        distance = np.linalg.norm(x[:, None] - x, axis=2) ** (2 if form == 'squared' else 1)
        return distance / distance[distance > 0].mean()

    got = values(DistanceRelations(layer='f', form=form, unit_length=unit_length), inputs())
    close(got[LIVE], huber(relative(STUDENT_BD) - relative(TEACHER_BD)).mean(axis=1))


def test_angles():
    def cosines(x):
        edges = x[LIVE][None] - x[LIVE][:, None]
        edges = edges / np.maximum(np.linalg.norm(edges, axis=2, keepdims=True), 1e-12)
        return np.einsum('ijd,ikd->ijk', edges, edges)

    want = huber(cosines(STUDENT_BD) - cosines(TEACHER_BD)).mean(axis=(1, 2))
    close(values(AngleRelations(layer='f'), inputs())[LIVE], want)


@pytest.mark.parametrize('kind', [DistanceRelations, AngleRelations])
def test_relations_ignore_rotation_shift_and_scale(kind):
    turn, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    got = values(kind(layer='f'), inputs(3 * STUDENT_BD @ turn + 5))
    close(got[LIVE], values(kind(layer='f'), inputs())[LIVE])


@pytest.mark.parametrize('kind', [DistanceRelations, AngleRelations])
def test_more_vertices_than_are_taken_at_a_time(kind):
    """19 examples are more than one chunk, and no multiple of it; equal to the sum over rows of a masked part."""
    student, teacher = RNG.normal(size=(19, 3)), RNG.normal(size=(19, 3))
    more = {'logits': np.zeros((2, 40, K)), 'labels': np.zeros(40, int)}
    padded = [np.concatenate([x, np.ones((21, 3))]) for x in (student, teacher)]
    got = values(kind(layer='f'), inputs(*padded, mask=np.repeat([1.0, 0], [19, 21]), **more))[:19]
    close(got, values(kind(layer='f'), inputs(student, teacher, mask=None, **more)))


ALONE = [
    DistanceRelations(layer='f'),
    AngleRelations(layer='f'),
    ProbabilisticTransfer(layer='f', form='paper'),
    ProbabilisticTransfer(layer='f'),
    NeighbourCongruence(layer='f', width=0),
    InstanceEdges(layers=('f',)),
    HardRank(layer='f'),
    SoftRank(layer='f'),
]


@pytest.mark.parametrize('term', ALONE, ids=lambda term: type(term).__name__)
@pytest.mark.parametrize('mask', [np.ones(1), np.array([0, 1, 0, 0.0])], ids=['alone', 'padded'])
def test_a_lone_example_has_no_relations(term, mask):
    finite_and_zero(term, inputs(STUDENT_BD[: len(mask)], STUDENT_BD[: len(mask)] + 1, mask=mask))


EQUAL = [
    DistanceRelations(layer='f'),
    DistanceRelations(layer='f', form='squared'),
    AngleRelations(layer='f'),
    ProbabilisticTransfer(layer='f'),
    CorrelationCongruence(layer='f'),
    BilinearCongruence(layer='f', form='torchdistill'),
    InstanceEdges(layers=('f',)),
    HardRank(layer='f'),
    SoftRank(layer='f'),
]


@pytest.mark.parametrize('term', EQUAL, ids=lambda term: f'{type(term).__name__}-{getattr(term, "form", "")}')
@pytest.mark.parametrize('fill', [0.0, 1.0])
def test_equal_examples_give_no_nan(term, fill):
    seen = inputs(np.full((4, 3), fill), TEACHER_BD[:4], mask=None)
    assert np.all(np.isfinite(values(term, seen)))
    assert np.all(np.isfinite(slope(term, seen)))


# ---- probabilistic transfer


@pytest.mark.parametrize('form', ProbabilisticTransfer.FORMS)
@pytest.mark.parametrize('labelled', [False, True])
def test_probabilistic_transfer(form, labelled):
    def shares(kernel):
        kernel = kernel * (1 - np.eye(len(kernel))) if form == 'paper' else kernel
        return kernel / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-300)

    cosine = [shares((units(x[LIVE]) @ units(x[LIVE]).T + 1) / 2) for x in (STUDENT_BD, TEACHER_BD)]
    target = shares(1.0 * (LABELS[LIVE][:, None] == LABELS[LIVE])) if labelled else cosine[1]
    rows = (target * np.log((target + 1e-9) / (cosine[0] + 1e-9))).sum(axis=1)
    kind = LabelTransfer if labelled else ProbabilisticTransfer
    got = values(kind(layer='f', form=form, added=1e-9), inputs())[LIVE]
    close(got, rows if form == 'paper' else rows / LIVE.sum(), rtol=1e-6)


# ---- correlation congruence


@pytest.mark.parametrize('order', [1, 2, 3])
def test_correlation_congruence(order):
    def correlations(x):
        gram, gamma = units(x[LIVE]) @ units(x[LIVE]).T, 0.3
        factorial = [1, 1, 2, 6]
        return sum(np.exp(-2 * gamma) * (2 * gamma) ** p / factorial[p] * gram**p for p in range(order + 1))

    want = ((correlations(STUDENT_BD) - correlations(TEACHER_BD)) ** 2).sum() / LIVE.sum() ** 2
    got = values(CorrelationCongruence(layer='f', gamma=0.3, order=order), inputs())
    close(got[LIVE].mean(), want)


def test_the_series_tends_to_the_gaussian_kernel():
    def kernel(x):
        x = units(x[LIVE])
        return np.exp(-0.4 * ((x[:, None] - x) ** 2).sum(axis=2))

    want = ((kernel(STUDENT_BD) - kernel(TEACHER_BD)) ** 2).mean(axis=1)
    close(values(CorrelationCongruence(layer='f', order=15), inputs())[LIVE], want)


def test_bilinear_congruence():
    grams = [units(x[LIVE]) @ units(x[LIVE]).T for x in (STUDENT_BD, TEACHER_BD)]
    close(values(BilinearCongruence(layer='f'), inputs())[LIVE], ((grams[0] - grams[1]) ** 2).mean(axis=1))


def test_neighbours_are_next_by_id_among_real_examples():
    ids = np.array([50, 3, 7, 41, 12, 9])
    student, teacher = RNG.normal(size=(2, B, 4))
    gap = np.abs(student - teacher)[np.array([1, 5, 4, 3, 0])]  # ids 3, 9, 12, 41, 50; 7 is padding
    want = (gap[1:] * gap[:-1]).sum(axis=1).mean()
    close(values(NeighbourCongruence(layer='f', width=0), inputs(student, teacher, ids=ids))[LIVE].mean(), want)


def test_neighbours_without_embeddings_must_fit():
    with pytest.raises(UsageError, match=r'\(6, 4\) and \(6, 7\) differ; set width'):
        NeighbourCongruence(layer='f', width=0).init(KEY, inputs())


# ---- contrast


CRD = ContrastiveRepresentation(layer='f', examples=40, negatives=9, width=3)


def contrast(ids=None, term=CRD, mask=MASK):
    seen = inputs(ids=np.arange(5, 11) if ids is None else ids, mask=mask)
    return seen, *term.init(KEY, seen)


def drawn(term, ids, labels, known):
    keys = jax.random.split(KEY, len(ids))
    return np.asarray(term.contrast_ids(jnp.asarray(ids), jnp.asarray(labels), jnp.asarray(known), keys))


DRAWN = RNG.integers(0, 40, (B, 9))


class Drawn(ContrastiveRepresentation):
    def contrast_ids(self, *_):
        return jnp.asarray(DRAWN)


@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_contrast(temperature):
    """Z, of the batch that the fit starts from, makes the mean of P over pairs 1 / n."""
    term = Drawn(layer='f', examples=40, negatives=9, width=3, temperature=temperature)
    seen, params, memory = contrast(term=term)
    rows, want = np.concatenate([np.arange(5, 11)[:, None], DRAWN], axis=1), 0
    for side, x, bank in (('student', STUDENT_BD, 'teacher_bank'), ('teacher', TEACHER_BD, 'student_bank')):
        embedded = units(x @ np.asarray(params[side]['kernel']) + np.asarray(params[side]['bias']))
        score = np.exp(np.einsum('bd,bkd->bk', embedded, np.asarray(memory[bank])[rows]) / temperature)
        p, noise = score / (40 * score[LIVE].mean()), 9 / 40
        want = want - np.log(p[:, 0] / (p[:, 0] + noise)) - np.log(noise / (p[:, 1:] + noise)).sum(axis=1)
    close(values(term, seen, params, memory)[LIVE], want[LIVE], rtol=1e-5)


def test_negatives_are_of_other_classes_among_those_seen():
    known = np.full(40, -1)
    known[[2, 5, 11, 30]] = [0, 1, 1, 3]
    found = drawn(dataclasses.replace(CRD, negatives=200), [2, 5, 30], [0, 1, 3], known)
    assert [set(row.tolist()) for row in found] == [{5, 11, 30}, {2, 30}, {2, 5, 11}]


def test_without_another_class_negatives_are_all_others():
    found = drawn(dataclasses.replace(CRD, negatives=900), [2], [0], np.full(40, -1))
    assert set(found[0].tolist()) == set(range(40)) - {2}


@pytest.mark.parametrize('label', [3, 8], ids=['a class that was seen', 'a class that was not'])
def test_every_row_of_another_class_is_as_likely_as_the_next(label):
    """Pearson's statistic of 20000 draws against its 0.1 % quantiles, and none of the rest."""
    known = RNG.integers(-1, 5, 40)
    others = (known >= 0) & (known != label)
    (found,) = drawn(dataclasses.replace(CRD, negatives=20000), [7], [label], known)
    counts = np.bincount(found, minlength=40)
    want = 20000 / others.sum()
    assert not counts[~others].any()
    low, high = chi2.ppf([0.001, 0.999], others.sum() - 1)
    assert low < np.sum((counts[others] - want) ** 2) / want < high


def test_draws_are_those_of_an_example_wherever_it_lies():
    known, keys = jnp.asarray(RNG.integers(-1, 5, 40)), jax.random.split(KEY, 2)
    ids, labels = jnp.asarray([2, 5]), jnp.asarray([0, 3])
    straight, turned = (
        CRD.contrast_ids(ids, labels, known, keys),
        CRD.contrast_ids(ids[::-1], labels[::-1], known, keys[::-1]),
    )
    assert np.array_equal(straight, turned[::-1])


def test_scores_of_all_rows_and_of_those_chosen_agree():
    """In value and in gradient, rows that are chosen twice included."""
    bank, weights = jnp.asarray(RNG.normal(size=(40, 7))), jnp.asarray(RNG.normal(size=(B, 9)))
    chosen = jnp.asarray(DRAWN).at[:, 1].set(DRAWN[:, 0])

    def weighed(score, x):
        found = score(x, bank, chosen)
        return jnp.sum(weights * jnp.square(found)), found

    (_, all_scores), all_slope = jax.value_and_grad(functools.partial(weighed, crd.scores_of_all), has_aux=True)(
        jnp.asarray(TEACHER_BD)
    )
    (_, row_scores), row_slope = jax.value_and_grad(functools.partial(weighed, crd.scores_of_rows), has_aux=True)(
        jnp.asarray(TEACHER_BD)
    )
    close(all_scores, row_scores)
    close(all_slope, row_slope)


@pytest.mark.parametrize('examples', [40, 400])
def test_a_large_bank_is_gathered_from_and_a_small_one_multiplied(examples):
    term = dataclasses.replace(CRD, examples=examples)  # 10 rows are chosen
    seen, params, memory = contrast(term=term)
    products = str(jax.make_jaxpr(lambda memory: ask(term, seen, params, memory).values)(memory))
    assert (f'f64[6,{examples}]' in products) == (examples == 40)


def test_banks_move_by_momentum_and_only_where_an_example_is_real():
    seen, params, memory = contrast()
    after = ask(CRD, seen, params, memory).memory
    for bank, side, x in (('student_bank', 'student', STUDENT_BD), ('teacher_bank', 'teacher', TEACHER_BD)):
        embedded = units(x @ np.asarray(params[side]['kernel']) + np.asarray(params[side]['bias']))
        want = np.array(memory[bank])
        want[np.arange(5, 11)[LIVE]] = units(0.5 * want[5:11] + 0.5 * embedded)[LIVE]
        close(after[bank], want, rtol=1e-6)
    labels = np.full(40, -1)
    labels[np.arange(5, 11)[LIVE]] = LABELS[LIVE]
    assert np.array_equal(after['labels'], labels)


def test_two_views_of_one_example_move_it_by_their_mean():
    seen, params, memory = contrast(ids=np.array([7, 7, 1, 2, 3, 4]), mask=np.ones(B))
    bank = np.asarray(ask(CRD, seen, params, memory).memory['student_bank'])
    embedded = units(STUDENT_BD @ np.asarray(params['student']['kernel']) + np.asarray(params['student']['bias']))
    want = 0.5 * np.asarray(memory['student_bank'])[7] + 0.25 * (embedded[0] + embedded[1])
    close(bank[7], want / np.linalg.norm(want), rtol=1e-6)


@pytest.mark.parametrize('wrong', [-1, 40, 10**6])
def test_an_id_outside_the_banks_is_loud_and_moves_nothing(wrong):
    seen, params, memory = contrast(ids=np.array([wrong, 1, 2, 3, 4, 5]))
    out = ask(CRD, seen, params, memory)
    assert np.array_equal(np.isnan(out.values), [True, *[False] * 5])
    moved = np.any(np.asarray(out.memory['student_bank'] != memory['student_bank']), axis=1)
    assert set(np.flatnonzero(moved)) == {1, 3, 4, 5}  # 2 is padding


def test_a_low_temperature_does_not_overflow():
    """exp(1 / 0.005) is beyond float32."""
    term = dataclasses.replace(CRD, temperature=0.005)
    with jax.enable_x64(False):
        seen = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, inputs())
        params, memory = term.init(KEY, seen)
        assert np.all(np.isfinite(values(term, seen, params, memory)[LIVE]))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'examples': 0}, 'examples .* the number of training examples, got 0'),
        ({'negatives': 0}, 'negatives of ContrastiveRepresentation must be >= 1, got 0'),
        ({'temperature': 0.0}, 'temperature of ContrastiveRepresentation must be > 0, got 0.0'),
        ({'momentum': 1.0}, r'momentum of ContrastiveRepresentation must be in \[0, 1\), got 1.0'),
    ],
)
def test_contrast_refuses(fields, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(CRD, **fields)


# ---- instance relationship graph


def test_edges_of_the_graph():
    def edges(x):
        square = ((x[LIVE][:, None] - x[LIVE]) ** 2).sum(axis=2)
        return square / square.max()

    want = ((edges(STUDENT_BD) - edges(TEACHER_BD)) ** 2).mean(axis=1)
    close(values(InstanceEdges(layers=('f',)), inputs())[LIVE], want)


def test_transformation_of_the_graph():
    maps = {side: {'a': RNG.normal(size=(B, 4, 4, width)), 'b': RNG.normal(size=(B, 2, 2, 3 * width))}
            for side, width in (('student', 2), ('teacher', 5))}  # fmt: skip

    def moves(taps):
        early = taps['a'].reshape(B, 2, 2, 2, 2, -1).mean(axis=(2, 4))
        late = taps['b'].reshape(B, 2, 2, -1, 3).mean(axis=-1)
        square = ((early - late) ** 2).sum(axis=(1, 2, 3))
        return square / square[LIVE].max()

    sides = [Outputs(jnp.zeros((B, K)), jax.tree.map(jnp.asarray, maps[side])) for side in ('student', 'teacher')]
    got = values(InstanceTransformation(layers=('a', 'b')), TermInputs(*sides, inputs().batch))
    close(got[LIVE], ((moves(maps['student']) - moves(maps['teacher'])) ** 2)[LIVE])


def test_a_transformation_needs_maps_that_fit():
    with pytest.raises(UsageError, match=r'multiple of the channels .* \(6, 4\)'):
        values(InstanceTransformation(layers=('f', 'f')), inputs())
    with pytest.raises(UsageError, match='two layers'):
        InstanceTransformation(layers=('a',))


# ---- darkrank


def order_probability(scores, order):
    """Plackett-Luce: choose without replacement, each time in proportion to exp(score)."""
    weights, chance = np.exp(scores), 1.0
    for place, item in enumerate(order):
        chance *= weights[item] / sum(weights[other] for other in order[place:])
    return chance


def nearest(query):
    """Scores of the student and the teacher of the others, and the teacher's order of them."""
    others = [other for other in np.flatnonzero(LIVE) if other != query]
    scores = [-3 * np.linalg.norm(units(x)[query] - units(x)[others], axis=1) ** 3 for x in (STUDENT_BD, TEACHER_BD)]
    return scores, list(np.argsort(-scores[1]))


@pytest.mark.parametrize('length', [0, 2, 3])
def test_hard_rank(length):
    want = []
    for query in np.flatnonzero(LIVE):
        (student, _), order = nearest(query)
        want.append(-np.log(order_probability(student, order[: length or None])))
    close(values(HardRank(layer='f', length=length), inputs())[LIVE], want)


def test_soft_rank():
    want = []
    for query in np.flatnonzero(LIVE):
        scores, order = nearest(query)
        chances = [[order_probability(side, p) for p in itertools.permutations(order[:3])] for side in scores]
        want.append(sum(t * np.log(t / s) for s, t in zip(*chances, strict=True)))
    close(values(SoftRank(layer='f', length=3), inputs())[LIVE], want)


def test_a_list_longer_than_the_batch_is_the_batch():
    close(values(SoftRank(layer='f', length=5), inputs())[LIVE], values(SoftRank(layer='f', length=4), inputs())[LIVE])


@pytest.mark.parametrize('length', [1, 7])
def test_soft_rank_refuses_long_lists(length):
    with pytest.raises(UsageError, match=f'2 to 6 .* got {length}'):
        SoftRank(length=length)


# ---- rankings


def test_ranking_by_position():
    student, teacher = LOGITS
    ranked = np.argsort(np.where(np.eye(K)[LABELS] > 0, np.inf, -teacher), axis=1)[:, :4]
    weight = np.exp(-np.arange(1, 5) / 2)
    loss = np.log1p(np.exp(-np.take_along_axis(student, ranked, axis=1))) * weight / weight.sum()
    close(values(PositionRanking(first=4, decay=2.0), inputs())[LIVE], loss.sum(axis=1)[LIVE])


def test_ranking_by_discrepancy_counts_only_what_the_student_ranks_too_low():
    class Every(HybridRanking):
        def drawn_items(self, items, inputs, keys_B):
            return jnp.broadcast_to(jnp.arange(items), (B, items))

    student, teacher = LOGITS
    ranked = np.argsort(-teacher, axis=1)[:, :4]
    scores = np.take_along_axis(student, ranked, axis=1)
    rank = (scores[:, :, None] < student[:, None]).sum(axis=2) * (K - 1) // K
    weight = np.exp(-np.arange(1, 5) / 2)
    weight = weight / weight.sum() * np.maximum(np.tanh(0.3 * (rank - np.arange(4))), 0)
    term = Every(first=4, decay=2.0, slope=0.3, samples=K, skip_label=False)
    close(values(term, inputs())[LIVE], (weight * np.log1p(np.exp(-scores))).sum(axis=1)[LIVE])
    finite_by_logits(term)


def finite_by_logits(term):
    seen = inputs(logits=60 * np.sign(LOGITS))
    assert np.all(np.isfinite(values(term, seen)))


def test_samples_are_all_items_but_the_label():
    found = np.asarray(HybridRanking(samples=400).drawn_items(K, inputs(), jax.random.split(KEY, B)))
    assert [set(row.tolist()) for row in found] == [set(range(K)) - {label} for label in LABELS]


def test_relaxed_ranking():
    """Of the pool everything is interesting, of the rest everything is drawn: no chance is left."""
    student, teacher = LOGITS
    want = []
    for b in np.flatnonzero(LIVE):
        order = np.argsort(-teacher[b])
        first, rest = student[b][order[:3]], student[b][order[3:]]
        want.append(-sum(first[k] - np.log(np.exp(first[k:]).sum() + np.exp(rest).sum()) for k in range(3)))
    term = RelaxedRanking(interesting=3, pool=3, uninteresting=K - 3, skip_label=False)
    close(values(term, inputs())[LIVE], want)
    finite_by_logits(term)


def test_interesting_items_are_ranked_and_those_of_a_high_rank_likelier():
    term = RelaxedRanking(interesting=2, pool=5, uninteresting=3, sharpness=1.0)
    first, rest = (np.asarray(x) for x in term.drawn_ranks(9, jax.random.split(KEY, 4000)))
    assert np.all(np.diff(first, axis=1) > 0)
    assert first.max() < 5
    assert set(rest.ravel().tolist()) == {5, 6, 7, 8}
    assert all(len(set(row)) == 3 for row in rest[:50].tolist())
    chance = softmax(-np.arange(5.0))
    # Drawn first or second without replacement.
    want = chance + [sum(chance[j] * chance[i] / (1 - chance[j]) for j in range(5) if j != i) for i in range(5)]
    np.testing.assert_allclose(np.bincount(first.ravel(), minlength=5) / 4000, want, atol=0.03)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: PositionRanking(first=0), 'first of PositionRanking .* got 0'),
    (lambda: HybridRanking(samples=0), 'samples of HybridRanking must be >= 1, got 0'),
    (lambda: RelaxedRanking(interesting=5, pool=4), 'interesting <= pool'),
    (lambda: values(PositionRanking(first=10), inputs()), r'first 10 items, .* \(6, 10\)'),
    (lambda: values(RelaxedRanking(interesting=3, pool=4, uninteresting=6), inputs()), r'first 4 .* 6 .* \(6, 10\)'),
    (lambda: DistillationExperts(experts=1), r'experts >= 2 \(for one, fitnets.Hint\)'),
    (lambda: LabelTransfer(added=0.0), 'added of LabelTransfer must be > 0'),
    (lambda: CorrelationCongruence(order=0), 'order of CorrelationCongruence must be >= 1, got 0'),
])  # fmt: skip
def test_what_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# ---- experts


def test_experts():
    noise = RNG.gumbel(size=(B, 2))

    class Given(DistillationExperts):
        def noise(self, keys_B):
            return jnp.asarray(noise)

    inner, outer, gate = RNG.normal(size=(2, 4, 5)), RNG.normal(size=(2, 5, 7)), RNG.normal(size=(7, 2))
    params = {'experts': {'Dense_0': {'kernel': inner, 'bias': np.zeros((2, 5))},
                          'Dense_1': {'kernel': outer, 'bias': np.zeros((2, 7))}},
              'gate': {'kernel': gate, 'bias': np.zeros(2)}}  # fmt: skip
    chosen = softmax((np.log(softmax(TEACHER_BD @ gate)) + noise) / 0.7)
    guesses = [np.maximum(STUDENT_BD @ inner[m], 0) @ outer[m] for m in range(2)]
    want = ((TEACHER_BD - sum(chosen[:, [m]] * guesses[m] for m in range(2))) ** 2).sum(axis=1)
    term = Given(layer='f', experts=2, width=5, temperature=0.7)
    close(values(term, inputs(), params)[LIVE], want[LIVE], rtol=1e-7)
    cold = dataclasses.replace(term, temperature=1e-6)
    best = np.argmax(np.log(softmax(TEACHER_BD @ gate)) + noise, axis=1)
    one = ((TEACHER_BD - np.stack(guesses)[best, np.arange(B)]) ** 2).sum(axis=1)
    close(values(cold, inputs(), params)[LIVE], one[LIVE], rtol=1e-7)


def test_the_choice_of_an_expert_depends_on_the_example_and_not_on_its_place():
    term = DistillationExperts(layer='f', experts=3)
    seen = inputs(mask=None)
    params, _ = term.init(KEY, seen)
    order = np.array([3, 0, 5, 1, 2, 4])
    shuffled = jax.tree.map(lambda leaf: leaf[order], seen)
    close(values(term, shuffled, params), values(term, seen, params)[order])
