"""Embeddings: what is near, what votes and what a probe reads off are those of loops over all other examples."""

import functools
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError
from kdjax.tasks import embedding
from kdjax.tasks.embedding import Embedding
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.types import Net, Outputs

EXAMPLES, WIDTH, CLASSES = 40, 6, 3
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, CLASSES, EXAMPLES).astype(np.int32)
VECTORS = (RANDOM.normal(size=(CLASSES, WIDTH))[LABELS] + RANDOM.normal(size=(EXAMPLES, WIDTH))).astype(np.float32)
SPLIT = Split(VECTORS, LABELS)
NAMES = ('ant', 'bee', 'cat')
TURNED = Net(  # two cells, whose features are the inputs times a matrix, and whose answers are the first of them
    init=lambda key, inputs: {'params': np.eye(WIDTH, dtype=np.float32), 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (
        Outputs((inputs @ variables['params'])[:, :CLASSES], {'penult': (inputs @ variables['params'])[:, :, None]}),
        variables['stats'],
    ),
    taps=('penult',),
)


def closeness(one, other, distance):
    if distance == 'euclidean':
        return -np.linalg.norm(one - other)
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def by_hand(vectors, labels, task):
    """Every metric but the network's own accuracy, example by example."""
    rights = {f'recall_{k}': [] for k in task.recall} | {'knn': [], 'linear_probe': []}
    for i, vector in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i]
        others.sort(key=lambda j, vector=vector: -closeness(vector, vectors[j], task.distance))
        near = [labels[j] for j in others]
        for k in task.recall:
            rights[f'recall_{k}'].append(labels[i] in near[:k])
        votes = Counter(near[: task.neighbours])
        most = max(votes.values())
        rights['knn'].append(next(one for one in near if votes[one] == most) == labels[i])
        rights['linear_probe'].append(ridge(vectors, labels, i, task.ridge) == labels[i])
    return {name: np.mean(right) for name, right in rights.items()}


def ridge(vectors, labels, left_out, strength):
    """What a regression fitted without one example answers to it, by an augmented least-squares problem."""
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    design = np.hstack([np.ones((len(scaled), 1)), scaled])
    kept = np.arange(len(scaled)) != left_out
    penalty = np.sqrt(strength * len(scaled)) * np.eye(design.shape[1])[1:]
    truth = np.vstack([np.eye(CLASSES)[labels[kept]], np.zeros((len(penalty), CLASSES))])
    weights = np.linalg.lstsq(np.vstack([design[kept], penalty]), truth, rcond=None)[0]
    return np.argmax(design[left_out] @ weights)


def predictions(vectors):
    return {'vector': vectors, 'class': np.zeros(len(vectors), np.int32)}


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
def test_metrics_are_those_of_loops_over_all_others(distance):
    task = Embedding(distance=distance, ridge=0.1, neighbours=4)
    wanted = by_hand(np.float64(VECTORS), LABELS, task)
    found = task.measure(predictions(VECTORS), SPLIT)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value), name
    assert len({*found.values()}) > 3  # so that one in the place of another would be seen


@pytest.mark.parametrize('score', Embedding().by_name)
def test_what_examples_add_to_the_score_adds_up_to_it(score):
    task, said = Embedding(score=score), {**predictions(VECTORS), 'class': (LABELS + (LABELS == 2)) % CLASSES}
    found = task.score_of(task.statistics(said, SPLIT).sum(axis=0))
    assert found == pytest.approx(np.mean(LABELS != 2) if score == 'accuracy' else task.measure(said, SPLIT)[score])


def test_a_whole_split_is_measured_however_it_is_cut():
    weights = np.stack([np.eye(WIDTH), RANDOM.normal(size=(WIDTH, WIDTH))]).astype(np.float32)
    task, variables = Embedding(score='knn'), {'params': weights, 'stats': {}}
    found = evaluator(task, TURNED, SPLIT, batch_size=16)(variables)
    assert set(found) == set(task.by_name)
    for cell, turn in enumerate(weights):
        assert found['knn'][cell] == pytest.approx(task.measure(predictions(VECTORS @ turn), SPLIT)['knn'])
        assert found['accuracy'][cell] == pytest.approx(np.mean((VECTORS @ turn)[:, :CLASSES].argmax(1) == LABELS))
    assert examiner(task, TURNED, SPLIT, batch_size=16)(variables)[1]['vector'].shape == (2, EXAMPLES, WIDTH)


def test_turning_scaling_and_permuting_change_nothing():
    turn = np.linalg.qr(RANDOM.normal(size=(WIDTH, WIDTH)))[0]
    order = RANDOM.permutation(EXAMPLES)
    for distance in embedding.DISTANCES:
        task = Embedding(distance=distance, recall=(1, 3))
        plain = task.measure(predictions(VECTORS), SPLIT)
        moved = task.measure(predictions((3 * VECTORS[order]).astype(np.float32)), Split(VECTORS[order], LABELS[order]))
        assert plain == moved
        turned = task.measure(predictions((VECTORS @ turn).astype(np.float32)), SPLIT)
        assert {**turned, 'linear_probe': plain['linear_probe']} == plain  # which is of standardised features


def test_vectors_that_are_all_one_are_worth_nothing_even_where_a_split_is_ordered_by_class():
    labels = np.repeat(np.arange(4, dtype=np.int32), 100)
    found = Embedding(recall=(1,)).measure(predictions(np.ones((400, 3), np.float32)), Split(labels, labels))
    assert found['recall_1'] < 0.5
    assert found['linear_probe'] == 0  # each class is the rarest without the example that is asked about
    lost = predictions(np.full((400, 3), np.nan, np.float32))
    assert set(Embedding().measure(lost, Split(labels, labels)).values()) == {0.0}


def test_of_classes_with_as_many_votes_that_of_the_nearer_one_is_taken():
    assert embedding.voted(np.array([[2, 1, 1, 2, 0], [0, 1, 1, 0, 2], [1, 1, 0, 0, 0]]), 3).tolist() == [2, 0, 0]


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'distance': 'cosin'}, "unknown distance 'cosin' of Embedding; there is: 'cosine'"),
        ({'recall': ()}, r'recall of Embedding must be whole numbers >= 1, got \(\)'),
        ({'neighbours': 0}, 'neighbours of Embedding must be whole numbers >= 1, got 0'),
        ({'ridge': 0.0}, 'ridge of Embedding must be > 0, got 0.0'),
        ({'score': 'recall_3'}, "unknown score 'recall_3' of Embedding"),
    ],
)
def test_what_it_cannot_be_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Embedding(**fields)


def test_data_and_networks_that_it_cannot_judge_are_refused():
    of = functools.partial(Dataset, classes=NAMES)
    Embedding().check(of({'train': Split(VECTORS, LABELS), 'test': SPLIT}))
    unlabelled = np.where(LABELS == 1, UNLABELLED, LABELS)
    Embedding().check(of({'train': Split(VECTORS, unlabelled), 'test': SPLIT}))
    for wrong, said in (
        (of({'test': Split(VECTORS, unlabelled)}), "split 'test' has examples without a label"),
        (of({'test': Split(VECTORS[:8], LABELS[:8])}), "split 'test' has 8 examples, and each is to have 8 neighbours"),
        (of({'test': Split(VECTORS, VECTORS)}), 'embedding needs integer labels'),
        (Dataset({'test': SPLIT}, NAMES[:1]), 'embedding needs at least 2 classes'),
    ):
        with pytest.raises(UsageError, match=said):
            Embedding().check(wrong)
    with pytest.raises(UsageError, match="unknown tap 'penult' that Embedding looks at; there is: 'hidden1'"):
        Embedding().decide(Outputs(jnp.zeros((2, 3)), {'hidden1': jnp.zeros((2, 4))}), {})
