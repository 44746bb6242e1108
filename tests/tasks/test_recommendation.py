"""Recommendation: ranks, metrics and draws by hand, the authors' metrics, and a teacher that is asked once."""

import dataclasses
import functools
import pathlib

import conftest
import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import citeulike
from kdjax.data.augment import flip, identity
from kdjax.data.feed import feed
from kdjax.data.order import Stream
from kdjax.dataset import Dataset, Shared, picked
from kdjax.errors import UsageError
from kdjax.nets.factorization import factorization
from kdjax.nets.lightgcn import lightgcn
from kdjax.nets.neumf import neumf
from kdjax.tasks import draws, recommendation
from kdjax.tasks.evaluation import answers, evaluator, examiner
from kdjax.tasks.recommendation import Recommendation
from kdjax.types import Outputs

USERS, ITEMS, CANDIDATES = 12, 64, 20
RANDOM = np.random.default_rng(3)


def made_up():
    """Every user took some items of 64, two of which are kept."""
    own = [RANDOM.choice(ITEMS, size, replace=False) for size in RANDOM.integers(3, 12, USERS)]
    train = np.concatenate([[(user, item) for item in items[2:]] for user, items in enumerate(own)]).astype(np.int32)
    asked = [np.asarray([(user, items[k]) for user, items in enumerate(own)], np.int32) for k in (0, 1)]
    return citeulike.Interactions(train, *asked, USERS, ITEMS)


KNOWN = made_up()
DATA = citeulike.of_interactions(KNOWN, CANDIDATES, 0)
VECTORS = [RANDOM.normal(size=(2, size, 4)).astype(np.float32) for size in (USERS, ITEMS)]  # of two cells
CELLS = {'params': {'users': {'table': VECTORS[0]}, 'items': {'table': VECTORS[1]}}, 'stats': {}}
NET = factorization(users=USERS, items=ITEMS, width=4)
SCORES = np.einsum('cud,cid->cui', *VECTORS)
TASK = Recommendation(
    first=3, interesting=3, uninteresting=4, interesting_users=2, uninteresting_users=3, pool=5, kept=8
)


def taken(*parts):
    table = np.zeros((USERS, ITEMS), bool)
    for rows in parts:
        table[tuple(rows.T)] = True
    return table


def by_hand(scores, asked, seen, candidates):
    """Metrics of a cell, of ranks by sorting."""
    ranks = [[], []]
    for user, item in asked:
        among = scores[user, candidates[user]]
        others = scores[user][~seen[user] & (np.arange(ITEMS) != item)]
        for place, rest in enumerate((among, others)):
            ranks[place].append((rest > scores[user, item]).sum() + 0.5 * (rest == scores[user, item]).sum())
    near, far = (np.asarray(rank) for rank in ranks)
    found = {'recall_50': np.mean(far < 50), 'ndcg_all_50': np.mean((far < 50) / np.log2(far + 2))}
    for cut in (5, 10, 20):
        found |= {f'hit_{cut}': np.mean(near < cut), f'ndcg_{cut}': np.mean((near < cut) / np.log2(near + 2)),
                  f'mrr_{cut}': np.mean((near < cut) / (near + 1))}  # fmt: skip
    return found


@pytest.mark.parametrize('equal', [False, True])
def test_metrics_are_those_of_ranks_by_sorting(equal):
    """Also where scores are equal, as those of a network that has learned nothing are: half count as higher."""
    cells, scores = (jax.tree.map(np.zeros_like, (CELLS, SCORES))) if equal else (CELLS, SCORES)
    split = DATA.splits['test']
    found = evaluator(TASK, NET, split, batch_size=5)(cells)
    for cell in (0, 1):
        want = by_hand(scores[cell], KNOWN.test, taken(KNOWN.train, KNOWN.validation), split.more['candidates'])
        assert set(found) == set(want)
        for name, value in want.items():
            np.testing.assert_allclose(found[name][cell], value, rtol=1e-5, err_msg=name)
    ranks = examiner(TASK, NET, split, batch_size=5)(cells)[1]
    for name in want:
        task = Recommendation(score=name)
        rows = task.statistics(ranks[1], split)
        assert rows.shape == (USERS, 2)
        np.testing.assert_allclose(task.score_of(rows.sum(axis=0)), found[name][1], rtol=1e-5)


def test_a_network_that_diverged_is_no_good():
    lost = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), CELLS)
    assert not any(np.any(value) for value in evaluator(TASK, NET, DATA.splits['validation'])(lost).values())


def test_the_authors_metrics():
    folder = conftest.SHARED / 'golden_tasks'
    record = next((one for one in golden.records(folder) if one['id'] == 'ranking_metrics-derrd-a'), None)
    if record is None:
        pytest.skip('shared data is not here: no golden_tasks; set KDJAX_SHARED')
    with np.load(pathlib.Path(folder) / record['file']) as file:
        scores, target = file['in/scores'].astype(np.float32), file['in/target']
        own = scores[np.arange(len(scores)), target][:, None]
        others = np.arange(scores.shape[1]) != target[:, None]
        ranks = np.asarray(recommendation.rank(jnp.asarray(own), jnp.asarray(scores), jnp.asarray(others)))
        for letter, kind in (('H', 'hit'), ('N', 'ndcg'), ('M', 'mrr')):
            for cut in recommendation.CUTS:
                values = Recommendation(score=f'{kind}_{cut}').statistics(np.stack([ranks, ranks], 1), None)[:, 0]
                np.testing.assert_allclose(values, file[f'out/{letter}{cut}'], rtol=1e-9)


# ---- a teacher that is asked once


def asked():
    """What the first cell, as a teacher, says to the questions of the task."""
    one = jax.tree.map(lambda leaf: leaf[:1], CELLS)
    return {name: Shared(question.rows, answers(TASK, NET, question.split)(one)[0])
            for name, question in TASK.questions(DATA).items()}  # fmt: skip


def test_whether_there_are_questions_is_known_without_data():
    for task in (TASK, Recommendation(), Recommendation(first_users=2)):
        assert task.has_questions == bool(task.questions(DATA))


def test_a_teacher_ranks_what_is_not_taken():
    found, seen = asked(), taken(KNOWN.train)
    for name, free, scores in (('ranked_items', ~seen, SCORES[0]), ('ranked_users', ~seen.T, SCORES[0].T)):
        want = np.argsort(-np.where(free, scores, -np.inf), axis=1)[:, :8]
        sorted_scores = np.take_along_axis(np.where(free, scores, -np.inf), want, 1)
        finite = np.isfinite(sorted_scores)  # an item that most users took has fewer left
        np.testing.assert_array_equal(np.where(finite, found[name].table, -1), np.where(finite, want, -1))
    alike = evaluator(TASK, NET, DATA.splits['train']._replace(more={**DATA.splits['train'].more, 'candidates': Shared(
        DATA.splits['train'].inputs['user'], DATA.splits['test'].more['candidates'])}),
        found['ranked_items'][np.arange(len(KNOWN.train))])(jax.tree.map(lambda leaf: leaf[:1], CELLS))  # fmt: skip
    np.testing.assert_allclose(alike['overlap'], 0.8)  # of the first 10 it has said 8


@functools.cache
def batches(steps=40, teacher=True, cells=1):
    """What training sees of every interaction, as one batch each of 16."""
    train = DATA.splits['train']
    columns = {
        **train.columns(),
        **({f'teacher/{name}': column for name, column in asked().items()} if teacher else {}),
    }
    streams = [Stream(np.arange(len(KNOWN.train)), seed) for seed in range(cells)]
    return jax.device_get(feed(streams, 16, columns, identity(), 0, 1000, task=TASK)(0, steps))


def test_a_batch_asks_about_what_the_user_did_not_take():
    found, seen, ranked = batches(), taken(KNOWN.train), asked()
    user, item = found['user'], found['item']
    assert found.keys() == {'inputs', 'labels', 'mask', 'id', 'view', 'user', 'item', 'items'}
    np.testing.assert_array_equal(KNOWN.train[found['id']], np.stack([user, item], -1))
    items = found['inputs']['items']
    assert {name: ids.shape[-1] for name, ids in items.items()} == {
        'positive': 1, 'negative': 1, 'interesting': 3, 'first': 3, 'uninteresting': 4,
    }  # fmt: skip
    np.testing.assert_array_equal(items['positive'][..., 0], item)
    for group in ('negative', 'interesting', 'first', 'uninteresting'):
        assert not seen[user[..., None], items[group]].any(), group
    np.testing.assert_array_equal(items['first'], ranked['ranked_items'].table[user][..., :3])
    place = items['interesting'][..., None] == ranked['ranked_items'].table[user][..., None, :5]
    assert place.any(-1).all()
    assert np.all(np.diff(place.argmax(-1), axis=-1) > 0)  # each once, in the teacher's order
    others = items['uninteresting'][..., None] == ranked['ranked_items'].table[user][..., None, :5]
    assert not others.any()
    users = found['inputs']['users']
    assert not seen[users['interesting_users'], item[..., None]].any()
    assert {name: ids.shape[-1] for name, ids in users.items()} == {'interesting_users': 2, 'uninteresting_users': 3}


def test_a_batch_may_ask_about_some_of_its_users():
    """The first of every four as it is asked by itself; what belongs to the interaction is of all."""
    train = DATA.splits['train']
    columns = {**train.columns(), **{f'teacher/{name}': column for name, column in asked().items()}}
    task = dataclasses.replace(TASK, asked_every=4)
    some = jax.device_get(
        feed([Stream(np.arange(len(KNOWN.train)), 0)], 16, columns, identity(), 0, 1000, task=task)(0, 2)
    )
    every = batches()
    for group, ids in some['inputs']['items'].items():
        step = 1 if group in ('positive', 'negative') else 4
        np.testing.assert_array_equal(ids, every['inputs']['items'][group][:2, ::step])
    for group, ids in some['inputs']['users'].items():
        np.testing.assert_array_equal(ids, every['inputs']['users'][group][:2, ::4])
    whole, part = (
        NET.apply(jax.tree.map(lambda leaf: leaf[0], CELLS), jax.tree.map(lambda leaf: leaf[0], batch['inputs']),
                  train=True, key=None)[0]
        for batch in (every, some)
    )  # fmt: skip
    for group in ('first', 'uninteresting', 'interesting_users'):
        np.testing.assert_allclose(part.features[group], whole.features[group][::4], rtol=1e-5)
    np.testing.assert_allclose(part.features['positive'], whole.features['positive'], rtol=1e-5)
    assert part.logits.shape == (16, 2)
    with pytest.raises(UsageError, match='asked_every of Recommendation must divide the batch of 16, got 5'):
        feed([Stream(np.arange(9), 0)], 16, columns, identity(), 0, 9, task=Recommendation(asked_every=5))(0, 1)


def test_draws_are_new_in_every_epoch_and_those_of_a_batch_do_not_depend_on_its_place():
    found = batches()
    by_example = {}
    for own, view, drawn in zip(*(found[name].reshape(640, *found[name].shape[2:]) for name in ('id', 'view')),
                                     found['inputs']['items']['negative'].reshape(640), strict=True):  # fmt: skip
        by_example.setdefault(int(own), {})[int(view)] = int(drawn)
    assert np.mean([len(set(views.values())) > 1 for views in by_example.values() if len(views) > 3]) > 0.9
    both = batches(2, cells=2)
    np.testing.assert_array_equal(
        both['inputs']['items']['interesting'][:, 0], found['inputs']['items']['interesting'][:2]
    )
    assert set(batches(1, teacher=False)['inputs']['items']) == {'positive', 'negative'}


def test_negatives_are_uniform_over_what_was_not_taken():
    seen = Shared(jnp.zeros(4000, int), jnp.asarray(citeulike.packed(np.arange(ITEMS)[None] % 8 < 3)))
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = np.asarray(draws.drawn(keys, 3, seen, jnp.asarray([[5]])))
    counts = np.stack([np.bincount(column, minlength=ITEMS) for column in drawn.T])
    free = (np.arange(ITEMS) % 8 >= 3) & (np.arange(ITEMS) != 5)
    assert counts[:, ~free].sum() < 4  # of ten draws all may fail
    assert abs(counts[:, free] - 4000 / 39).max() < 45
    wide = picked(seen, jnp.zeros((4000, 1), int))
    np.testing.assert_array_equal(wide, picked(seen.table[seen.rows], jnp.zeros((4000, 1), int)))


# ---- networks


@pytest.mark.parametrize('net', [
    NET,
    neumf(users=USERS, items=ITEMS, width=4, hidden=(6, 3)),
    lightgcn(users=USERS, items=ITEMS, taken=DATA.facts['taken'], width=4),
], ids=['factorization', 'neumf', 'lightgcn'])  # fmt: skip
def test_chosen_scores_are_those_of_all(net):
    """What a network says of chosen items and users is what it says of them among all."""
    user, item = jnp.asarray([3, 0, 3]), jnp.asarray([5, 5, 9])
    items = {'positive': item[:, None], 'negative': jnp.asarray([[1, 2], [3, 4], [5, 6]])}
    users = {'interesting_users': jnp.asarray([[0, 1], [2, 3], [4, 4]])}
    variables = jax.jit(net.init)(jax.random.key(0), {'user': user})

    @jax.jit
    def ask(inputs):
        return net.apply(variables, inputs, train=True, key=jax.random.key(1))[0]

    found = ask({'user': user, 'items': items, 'item': item, 'users': users})
    of_items, of_users = ask({'user': user}).logits, ask({'item': item}).logits
    assert of_items.shape == (3, ITEMS)
    assert of_users.shape == (3, USERS)
    for group, ids in items.items():
        np.testing.assert_allclose(found.features[group], np.take_along_axis(of_items, ids, 1), rtol=1e-4, atol=1e-7)
    chosen_users = np.take_along_axis(of_users, users['interesting_users'], 1)
    np.testing.assert_allclose(found.features['interesting_users'], chosen_users, rtol=1e-4, atol=1e-7)
    assert found.features['item_vectors'].shape[:2] == (3, 2)
    assert found.logits.shape == (3, 3)


def test_a_graph_is_spread_with_the_roots_of_degrees():
    net = lightgcn(users=2, items=2, taken=(0, 0, 0, 1, 1, 1), width=1, layers=1)
    tables = (('users', [[1.0], [2.0]]), ('items', [[3.0], [5.0]]))
    variables = {'params': {name: {'table': jnp.asarray(table)} for name, table in tables}, 'stats': {}}
    root = np.sqrt(2)
    users = np.asarray([1 + 3 / root + 5 / 2, 2 + 5 / root]) / 2
    items = np.asarray([3 + 1 / root, 5 + 1 / 2 + 2 / root]) / 2
    found = net.apply(variables, {'user': jnp.arange(2)}, train=False, key=None)[0].logits
    np.testing.assert_allclose(found, np.outer(users, items), rtol=1e-6)


def test_a_recommender_says_what_it_reads():
    with pytest.raises(UsageError, match=r"a recommender reads inputs \{'user': ids\} .* got \(3, 2\)"):
        NET.apply(jax.tree.map(lambda leaf: leaf[0], CELLS), jnp.zeros((3, 2)), train=False, key=None)


# ---- what is refused


@pytest.mark.parametrize(('make', 'said'), [
    (lambda: factorization(users=2, items=2, scale=0.0), 'scale of factorization must be > 0, or all users are alike'),
    (lambda: lightgcn(users=2, items=2, taken=(0, 1, 1)), 'lightgcn needs interactions, .* got 3 numbers'),
    (lambda: lightgcn(users=2, items=2, taken=(0, 1, 2, 1)), '2 users, and its interactions are of 0 to 2'),
    (lambda: lightgcn(users=2, items=1, taken=(0, 1)), '1 items, and its interactions are of 1 to 1'),
])  # fmt: skip
def test_networks_that_cannot_be_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


@pytest.mark.parametrize(('fields', 'said'), [
    ({'negatives': 0}, 'negatives of Recommendation must be >= 1, got 0'),
    ({'first': 151}, 'first of Recommendation must be in 0 to pool, 150, got 151'),
    ({'uninteresting_users': -1}, 'uninteresting_users of Recommendation must be in 0 to pool, 150, got -1'),
    ({'pool': 600}, 'needs pool <= kept and sharpness > 0, got 600, 500 and 10.0'),
    ({'score': 'hits'}, "unknown score 'hits' of Recommendation"),
])  # fmt: skip
def test_fields_that_cannot_be_are_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Recommendation(**fields)


def test_data_that_are_no_interactions_are_refused():
    splits, facts = DATA.splits, DATA.facts
    TASK.check(DATA)
    with pytest.raises(UsageError, match='says how many items there are'):
        TASK.check(Dataset(splits, (), {'users': 3}))
    bare = splits['test']._replace(more={'seen': splits['test'].more['seen']})
    with pytest.raises(UsageError, match="needs the column 'candidates', split 'test' has"):
        TASK.check(Dataset({**splits, 'test': bare}, (), facts))
    plain = splits['train']._replace(inputs=np.zeros(splits['train'].size, np.int32))
    with pytest.raises(UsageError, match=r"recommendation needs inputs \{'user': ids\} .* split 'train' has others"):
        TASK.check(Dataset({**splits, 'train': plain}, (), facts))
    with pytest.raises(UsageError, match="users of split 'train' must be in 0 to 2, got 0 to"):
        TASK.check(Dataset(splits, (), {**facts, 'users': 3}))
    with pytest.raises(UsageError, match="labels of split 'train' must be items in 0 to 8"):
        TASK.check(Dataset(splits, (), {**facts, 'items': 9}))
    with pytest.raises(UsageError, match='pool of Recommendation must be at most 12, as many as there are, got 13'):
        Recommendation(interesting_users=2, uninteresting_users=2, pool=13).check(DATA)
    columns = {'inputs': np.zeros((4, 2, 2)), 'seen': splits['train'].more['seen']}
    with pytest.raises(UsageError, match=r"columns \['seen'\] have rows that examples share"):
        feed([Stream(np.arange(4), 0)], 2, columns, flip(), 0, 1)


@pytest.mark.parametrize(('answer', 'said'), [
    (np.zeros((USERS, 2), int), r'ranked_items must be at least the first 150 \(pool\) of each'),
    (np.full((USERS, 150), ITEMS), rf'in 0 to {ITEMS - 1}, got \({USERS}, 150\), {ITEMS} to {ITEMS}'),
])  # fmt: skip
def test_answers_of_a_file_that_rank_nothing_are_refused(answer, said):
    Recommendation().check_answer('ranked_items', np.zeros((USERS, 150), int), DATA)
    with pytest.raises(UsageError, match=said):
        Recommendation().check_answer('ranked_items', answer, DATA)


# ---- the data


def test_two_items_of_a_user_are_kept_and_short_libraries_left_out():
    found = citeulike.left_out([[5, 9, 7, 100, 3], [1, 2], [9, 9, 3, 4, 8, 5, 100]])
    assert (found.users, found.items) == (2, 7)
    together = np.concatenate([found.train, found.validation, found.test])
    assert len(np.unique(together, axis=0)) == len(together) == 11
    np.testing.assert_array_equal(found.validation[:, 0], [0, 1])
    np.testing.assert_array_equal(found.test[:, 0], [0, 1])


def test_the_published_split():
    """Its counts, and that no candidate was ever taken."""
    folder = conftest.SHARED / 'data'
    if not (folder / 'recsys').is_dir():
        pytest.skip('shared data is not here: no recsys; set KDJAX_SHARED')
    found = citeulike.interactions(folder=str(folder), split='topology', candidates=99)
    train, test = found.splits['train'], found.splits['test']
    assert (train.size, test.size, found.facts['users'], found.facts['items']) == (115142, 5219, 5219, 25181)
    np.testing.assert_array_equal(test.inputs['user'], np.arange(5219))
    candidates, seen = test.more['candidates'], test.more['seen'].table
    assert not ((seen[np.arange(5219)[:, None], candidates // 32] >> (candidates % 32).astype(np.uint32)) & 1).any()
    assert not (candidates == test.labels[:, None]).any()
    assert sum(map(int.bit_count, seen.ravel().tolist())) == 115142 + 5219 + 5219 * (32 * 787 - 25181)


def test_a_split_that_is_not_there_says_how_to_get_one(tmp_path):
    with pytest.raises(UsageError, match=r"'citeulike_t_loo0\.npz' is neither in .*split='own' users\.dat will do"):
        citeulike.interactions(folder=str(tmp_path))
    with pytest.raises(UsageError, match="unknown split 'lo' of citeulike"):
        citeulike.interactions(split='lo')
    (tmp_path / 'citeulike_t_loo0.npz').write_bytes(b'other')
    with pytest.raises(UsageError, match='is not the published split: its sha256 is'):
        citeulike.interactions(folder=str(tmp_path))


def test_an_exhibit_is_of_a_user_whose_item_the_teacher_finds():
    outputs = answers(TASK, NET, DATA.splits['validation'])(jax.tree.map(lambda leaf: leaf[:1], CELLS))[0]
    outputs[4, 2] = DATA.splits['validation'].labels[4]
    shown = TASK.exhibit(DATA, outputs)
    assert shown['kept'] in shown['items']
    assert TASK.exhibit(DATA, np.full_like(outputs, -1)) is None
    costs = TASK.costs(CELLS, {'1': 0.5, '128': 4.0}, None)
    assert costs == {'table_mb': 2 * (USERS + ITEMS) * 16 / 1e6, 'ms_per_user': 0.5, 'users_per_second': 32000.0}
    assert TASK.served(Outputs(jnp.asarray(SCORES[0]), {})).shape == (USERS, ITEMS)


def test_an_example_has_draws_of_its_own_that_are_the_parts_of_its_key():
    """As when all were split off at once: what a run drew it draws again."""
    keys = jax.vmap(draws.key_of)(jnp.arange(6), jnp.arange(6) % 2)
    split = jax.vmap(lambda key: jax.random.split(key, 5))(keys)
    for place in range(5):
        found = draws.part(keys, place)
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(split[:, place]))


def test_what_may_be_is_taken_in_the_order_of_its_draws():
    """And again where too little may be; the first draw where nothing may."""
    keys, words = jax.random.split(jax.random.key(3), 40), 2
    shares = np.linspace(0, 1, 40)[:, None] > np.random.default_rng(0).random((40, 32 * words))
    for count in (1, 5):
        seen = jnp.asarray(citeulike.packed(shares))
        found = np.asarray(draws.drawn(keys, count, seen))
        bits = jax.vmap(functools.partial(jax.random.bits, shape=(count + 7,), dtype=jnp.uint32))(keys)
        for row, (ids, known) in enumerate(zip(np.asarray(bits) % (32 * words), shares, strict=True)):
            free = [each for each in ids if not known[each]] or [ids[0]]
            np.testing.assert_array_equal(found[row], [free[place % len(free)] for place in range(count)])
