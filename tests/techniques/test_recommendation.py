"""Terms of recommendation against the formulas of their papers in numpy, and golden vectors of the authors' code."""

import dataclasses
import pathlib

import conftest
import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_map import MAPPINGS
from scipy.special import expit, log_expit, logsumexp

from kdjax.errors import UsageError
from kdjax.techniques import dcd, rd, topology
from kdjax.techniques.bpr import PairwiseRanking
from kdjax.techniques.candidates import once
from kdjax.techniques.cd import CollaborativeDistillation
from kdjax.techniques.dcd import DualCorrection
from kdjax.techniques.de_rrd import CandidateRanking, DistillationExperts
from kdjax.techniques.ir_rrd import ItemSideRanking
from kdjax.techniques.ncf import PointwiseRanking
from kdjax.techniques.topology import FullTopology, HierarchicalTopology
from kdjax.types import Outputs, TermInputs

B = 5
RNG = np.random.default_rng(5)
GROUPS = {'positive': 1, 'negative': 3, 'first': 4, 'interesting': 4, 'uninteresting': 6, 'interesting_users': 3,
          'uninteresting_users': 2}  # fmt: skip
STUDENT, TEACHER = ({name: RNG.normal(0, 2, (B, size)) for name, size in GROUPS.items()} for _ in range(2))
for side, width in ((STUDENT, 3), (TEACHER, 5)):
    side |= {'user_vector': RNG.normal(size=(B, width)), 'item_vectors': RNG.normal(size=(B, 2, width))}
USERS = np.array([0, 1, 0, 0, 2])
ITEMS = np.array([[0, 1], [2, 0], [3, 4], [0, 5], [6, 7]])
MASK = np.array([1, 1, 1, 0, 1.0])
LIVE = MASK > 0
ONCE = np.array([1 / 2, 1, 1 / 2, 0, 1])  # the fourth row is padding
GOLDEN = conftest.SHARED / 'golden_tasks'


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        yield


def ask(term, **columns):
    batch = {'mask': MASK, 'id': np.arange(B), 'view': np.zeros(B, int), 'user': USERS, 'items': ITEMS, **columns}
    inputs = jax.tree.map(jnp.asarray, TermInputs(Outputs(None, STUDENT), Outputs(None, TEACHER), batch))
    params, memory = term.init(jax.random.key(0), inputs)
    return np.asarray(term(params, memory, inputs, term.knobs(), step=0, key=jax.random.key(1)).values)[LIVE]


def close(got, want):
    np.testing.assert_allclose(got, np.asarray(want)[LIVE], rtol=1e-9, atol=1e-12)


def relaxed(interesting, others):
    return [-sum(row[k] - logsumexp([*row[k:], *rest]) for k in range(len(row)))
            for row, rest in zip(interesting, others, strict=True)]  # fmt: skip


@pytest.mark.parametrize('record', [one for one in golden.records(GOLDEN) if one['technique'] in MAPPINGS] or [
    pytest.param(None, marks=pytest.mark.skip('shared data is not here: no golden_tasks; set KDJAX_SHARED'))
], ids=lambda one: one and one['id'])  # fmt: skip
def test_we_agree_with_the_authors(record):
    with np.load(pathlib.Path(GOLDEN) / record['file']) as file:
        assert not golden.disagreements(MAPPINGS[record['technique']], record, dict(file))


def test_pairs_and_points():
    positive, negative = STUDENT['positive'], STUDENT['negative']
    close(ask(PairwiseRanking()), -log_expit(positive - negative).mean(1))
    close(ask(PointwiseRanking()), -log_expit(positive).sum(1) - log_expit(-negative).sum(1))


def test_rows_of_one_user_count_as_one():
    np.testing.assert_allclose(np.asarray(once(jnp.asarray(USERS), jnp.asarray(MASK)))[LIVE], ONCE[LIVE])
    close(ask(PairwiseRanking(once='user')), ONCE * -log_expit(STUDENT['positive'] - STUDENT['negative']).mean(1))
    with pytest.raises(UsageError, match="unknown column 'usr' of the batch, to be counted once by PairwiseRanking"):
        ask(PairwiseRanking(once='usr'))


def test_relaxed_rankings_of_items_and_of_users():
    close(ask(CandidateRanking()), relaxed(STUDENT['interesting'], STUDENT['uninteresting']))
    close(ask(CandidateRanking(interesting='first', once='user')),
          ONCE * relaxed(STUDENT['first'], STUDENT['uninteresting']))  # fmt: skip
    close(ask(ItemSideRanking()), relaxed(STUDENT['interesting_users'], STUDENT['uninteresting_users']))


def test_those_that_are_asked_stand_for_the_others():
    """Of six interactions the first of each three: its value is that of all three, and rows of one user count once."""
    sides = [{name: np.concatenate([side[name], side[name][:1]]) for name in side} for side in (STUDENT, TEACHER)]
    some = [side | {name: side[name][::3] for name in ('first', 'uninteresting')} for side in sides]
    batch = {'mask': np.ones(6), 'id': np.arange(6), 'view': np.zeros(6, int), 'user': np.array([7, 0, 1, 7, 2, 2])}
    for term in (CandidateRanking(interesting='first'), CandidateRanking(interesting='first', once='user'),
                 DualCorrection(under=10, over=10)):  # fmt: skip
        inputs = (jax.tree.map(jnp.asarray, TermInputs(*(Outputs(None, side) for side in seen), batch))
                  for seen in (sides, some))  # fmt: skip
        whole, part = (term({}, {}, seen, term.knobs(), step=0, key=jax.random.key(1)).values for seen in inputs)
        np.testing.assert_allclose(part, np.repeat(np.asarray(whole)[::3], 3), rtol=1e-9)


@pytest.mark.parametrize('term', [
    DistillationExperts(layer='item_vectors', each=True, experts=2), FullTopology(columns=('user', 'items')),
    HierarchicalTopology(groups=2),
])  # fmt: skip
def test_the_first_of_every_so_many_stands_for_the_others(term):
    thin = dataclasses.replace(term, every=3)
    batch = {'mask': np.ones(6), 'id': np.arange(6), 'view': np.zeros(6, int), 'user': np.arange(6) % 2,
             'items': np.arange(12).reshape(6, 2) % 5}  # fmt: skip
    sides = [{name: np.concatenate([side[name], side[name][:1]]) for name in side} for side in (STUDENT, TEACHER)]
    some = [{name: side[name][::3] for name in side} for side in sides]
    whole = TermInputs(*(Outputs(None, side) for side in sides), batch)
    part = TermInputs(*(Outputs(None, side) for side in some), {name: batch[name][::3] for name in batch})
    whole, part = (jax.tree.map(jnp.asarray, seen) for seen in (whole, part))
    params, _ = term.init(jax.random.key(0), part)
    got, want = (one(params, {}, seen, one.knobs(), step=0, key=jax.random.key(1)).values
                 for one, seen in ((thin, whole), (term, part)))  # fmt: skip
    np.testing.assert_allclose(got, np.repeat(want, 3), rtol=1e-9)
    with pytest.raises(UsageError, match=f'every of {type(term).__name__} must divide the 6 .* has, got 4'):
        dataclasses.replace(term, every=4)(params, {}, whole, term.knobs(), step=0, key=jax.random.key(1))


def test_experts_of_groups_can_look_at_fewer_interactions_than_the_topology():
    batch = {'mask': np.ones(6), 'id': np.arange(6), 'view': np.zeros(6, int)}
    sides = [{name: np.concatenate([side[name], side[name][:1]]) for name in side} for side in (STUDENT, TEACHER)]
    inputs = jax.tree.map(jnp.asarray, TermInputs(*(Outputs(None, side) for side in sides), batch))
    groups = HierarchicalTopology(groups=2)
    params, _ = groups.init(jax.random.key(0), inputs)

    def values(**changes):
        term = dataclasses.replace(groups, **changes)
        return term(params, {}, inputs, term.knobs(), step=0, key=jax.random.key(1)).values

    few = {'experts_every': 3}
    np.testing.assert_array_equal(values(topology=1.0, **few), values(topology=1.0))
    np.testing.assert_allclose(values(topology=0.0, **few), values(topology=0.0, every=3), rtol=1e-9)
    half = values(topology=1.0) / 2 + values(topology=0.0, **few) / 2
    np.testing.assert_allclose(values(**few), half, rtol=1e-9)
    with pytest.raises(UsageError, match=r'experts_every of HierarchicalTopology must divide the 2 .*, got 4'):
        values(every=3, experts_every=4)


def test_first_items_by_position_and_by_discrepancy():
    first, samples = STUDENT['first'], STUDENT['uninteresting']
    weight = np.exp(-np.arange(1, 5) / 2)
    weight /= weight.sum()
    close(ask(rd.CandidatePosition(decay=2.0)), -(weight * log_expit(first)).sum(1))
    rank = (first[:, :, None] < samples[:, None, :]).sum(2) * (50 - 1) // 6
    hybrid = weight * np.maximum(np.tanh(0.1 * (rank - np.arange(4))), 0)
    close(ask(rd.CandidateHybrid(decay=2.0, items=50)), -(hybrid * log_expit(first)).sum(1))


def test_soft_labels_of_items():
    p, q = expit(STUDENT['interesting'] / 3), expit(TEACHER['interesting'] / 3)
    close(ask(CollaborativeDistillation(temperature=3.0)), -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean(1))


def test_dual_correction_of_all_that_is_off():
    """Where all that has a chance is drawn, nothing is left to chance."""
    student, teacher = (np.concatenate([side['first'], side['uninteresting']], 1) for side in (STUDENT, TEACHER))
    want = []
    for s, t in zip(student, teacher, strict=True):
        own, other = np.argsort(np.argsort(-s)), np.argsort(np.argsort(-t))
        low = [k for k in np.argsort(-t) if own[k] > other[k]]
        want.append(relaxed([s[low]], [s[own < other]])[0])
    close(ask(DualCorrection(under=10, over=10)), want)


def test_what_is_drawn_more_often_is_what_is_further_off():
    chance = jnp.broadcast_to(jnp.asarray([0.0, 1.0, 3.0]), (4000, 3))
    found = dcd.drawn(chance, 1, jax.random.split(jax.random.key(0), 4000))
    assert found.real.all()
    np.testing.assert_allclose(np.bincount(found.places[:, 0], minlength=3) / 4000, [0, 0.25, 0.75], atol=0.03)
    assert np.asarray(dcd.drawn(chance, 3, jax.random.split(jax.random.key(0), 4000)).real).sum(1).max() == 2


def entities(side):
    return np.concatenate([side['user_vector'], side['item_vectors'].reshape(2 * B, -1)])


def cosines(left, right):
    unit = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (left, right)]
    return unit[0] @ unit[1].T


def by_example(values):
    return values[:B] + values[B:].reshape(B, 2).sum(1)


@pytest.mark.parametrize('distinct', [False, True])
def test_the_topology_of_a_batch(distinct):
    s, t = entities(STUDENT), entities(TEACHER)
    counts = np.concatenate([MASK, np.repeat(MASK, 2)])
    if distinct:
        flat, real = ITEMS.ravel(), np.repeat(MASK, 2)
        counts = np.concatenate([ONCE, real / np.maximum(((flat[:, None] == flat) * real).sum(1), 1)])
    gap = np.square(cosines(s, s) - cosines(t, t))
    columns = ('user', 'items') if distinct else ()
    close(ask(FullTopology(columns=columns)), by_example(counts * (gap @ counts)))


@pytest.mark.parametrize('level', ['prototypes', 'entities'])
def test_the_topology_of_groups(level):
    """With alpha = 1 the groups are those that the gates of fresh parameters say."""
    term = HierarchicalTopology(groups=2, level=level, topology=1.0)
    inputs = TermInputs(Outputs(None, STUDENT), Outputs(None, TEACHER), {'mask': MASK, 'id': np.arange(B)})
    params, _ = term.init(jax.random.key(0), jax.tree.map(jnp.asarray, inputs))
    s, t, counts = entities(STUDENT), entities(TEACHER), np.concatenate([MASK, np.repeat(MASK, 2)])
    gates = [params[side]['gate'] for side in ('users', 'items')]
    group = np.concatenate([np.argmax(part @ gate['kernel'] + gate['bias'], 1) + 2 * k
                            for k, (part, gate) in enumerate(zip((t[:B], t[B:]), gates, strict=True))])  # fmt: skip
    live = counts > 0
    within = (group[:, None] == group) & (cosines(t, t) > 0) & live & live[:, None]
    total = (np.square(cosines(s, s) - cosines(t, t)) * within).sum()
    filled = np.unique(group[live])
    centres = [np.stack([side[live & (group == g)].mean(0) for g in filled]) for side in (s, t)]
    against = centres if level == 'prototypes' else (s[live], t[live])
    total += np.square(cosines(centres[0], against[0]) - cosines(centres[1], against[1])).sum()
    np.testing.assert_allclose(ask(term).sum(), total, rtol=1e-9)


def test_the_gradient_of_pairs_of_one_group_is_that_of_their_differences():
    """Where examples count by different weights, so that the two sums that a pair is in do."""
    term = HierarchicalTopology(groups=2, topology=1.0)
    batch = {'mask': MASK, 'id': np.arange(B), 'view': np.zeros(B, int)}
    inputs = jax.tree.map(jnp.asarray, TermInputs(Outputs(None, STUDENT), Outputs(None, TEACHER), batch))
    params, _ = term.init(jax.random.key(0), inputs)
    of_example = jnp.asarray(np.random.default_rng(1).random(B))

    def whole(features, within):
        with pytest.MonkeyPatch.context() as patch:
            if within is not None:
                patch.setattr(topology, '_compared', within)
            seen = inputs._replace(student=Outputs(None, features))
            found = term(params, {}, seen, term.knobs(), step=0, key=jax.random.key(1)).values
        return jnp.sum(of_example * jnp.where(jnp.asarray(MASK) > 0, found, 0))

    def plain(own, other, together, counts):
        return jnp.where(together, jnp.square(own @ own.T - other), 0) @ counts

    found, wanted = (jax.value_and_grad(whole)(inputs.student.features, within) for within in (None, plain))
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-9), found, wanted)
    assert np.abs(found[1]['item_vectors']).max() > 0


def test_experts_that_embeddings_share():
    """An example's value is the mean of what each of its embeddings would have by itself, but for the noise."""

    class Quiet(DistillationExperts):
        def noise(self, keys_B):
            return jnp.zeros((len(keys_B), 2))

    term, alone = Quiet(layer='item_vectors', each=True, experts=2), Quiet(layer='one', experts=2)
    batch = {'mask': MASK, 'id': np.arange(B), 'view': np.zeros(B, int)}
    inputs = jax.tree.map(jnp.asarray, TermInputs(Outputs(None, STUDENT), Outputs(None, TEACHER), batch))
    params, _ = term.init(jax.random.key(0), inputs)

    def values(term, seen):
        return np.asarray(term(params, {}, seen, term.knobs(), step=0, key=jax.random.key(1)).values)[LIVE]

    each = [values(alone, inputs._replace(
        student=Outputs(None, {'one': inputs.student.features['item_vectors'][:, k]}),
        teacher=Outputs(None, {'one': inputs.teacher.features['item_vectors'][:, k]}),
    )) for k in (0, 1)]  # fmt: skip
    np.testing.assert_allclose(values(term, inputs), np.mean(each, axis=0), rtol=1e-9)


@pytest.mark.parametrize(('term', 'said'), [
    (CandidateRanking(interesting='item_vectors'), r"CandidateRanking reads .*, got 'item_vectors' \(5, 2, 3\)"),
    (DistillationExperts(layer='user_vector', each=True), r'each=True reads .*, got \(5, 3\) and \(5, 5\)'),
    (FullTopology(items='user_vector'), r'FullTopology reads .*, got \(5, 3\) and \(5, 3\)'),
    (FullTopology(columns=('usr', 'items')), "unknown column 'usr' of the batch, read by FullTopology"),
    (DualCorrection(under=11), r'DualCorrection draws 11 and 40 of the candidates, got scores \(5, 10\)'),
])  # fmt: skip
def test_what_is_refused(term, said):
    with pytest.raises(UsageError, match=said):
        ask(term)


def test_an_unknown_level_is_refused():
    with pytest.raises(UsageError, match="unknown level 'group' of HierarchicalTopology"):
        HierarchicalTopology(level='group')
