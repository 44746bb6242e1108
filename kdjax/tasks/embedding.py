"""Embedding: what a network makes of an example, judged by what is near and by what can be read off it.

No answer is needed and no label to train: a feature that was distilled without labels is judged as it is, and so is one
that was learned as a metric.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError, unknown
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

PROBED = (
    Metric('knn', 'accuracy of the nearest neighbours', '%', short='kNN'),
    Metric('linear_probe', 'accuracy of a linear probe', '%', short='probe'),
)
ANSWERED = Metric('accuracy', "accuracy of the network's own answers", '%', short='own answers')
RECALL = 'recall_'  # at so many neighbours
DISTANCES = ('cosine', 'euclidean')
TIES = 0  # seed of the order in which neighbours at one distance count: that of a split may be by class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding(Task):
    """Each example has a vector, what a tap has of it, and a class, labels (B,), by which vectors are judged.

    Metrics are of one split, each example being held against all others of it:
    'recall_1', ...: whether one of its k nearest is of its class (Recall@k; Jegou et al., Product Quantization, 2011;
      Oh Song et al., Lifted Structured Feature Embedding, CVPR 2016, sec. 5);
    'knn': whether the vote of its nearest is its class; of classes with as many votes that of the nearer one;
    'linear_probe': whether its class is the highest output of a ridge regression to the classes, one-hot, of all other
      examples, features being standardised (the exact leave-one-out answer, by the hat matrix);
    'accuracy': whether the network's own answer is its class, where it was trained to give one.

    Attributes:
      tap: what is looked at, features of any shape (B, ...).
      distance: 'cosine' or 'euclidean'.
      recall: how many neighbours, of each 'recall_k'.
      neighbours: that vote.
      ridge: of the probe, times the number of examples.

    References: Alain, Bengio, Understanding intermediate layers using linear classifier probes, 2016 (probes); Wu et
    al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, sec. 3.4 (neighbours).
    """

    score: str = 'recall_1'
    tap: str = 'penult'
    distance: str = 'cosine'
    recall: tuple[int, ...] = (1, 2, 4, 8)
    neighbours: int = 5
    ridge: float = 0.01

    def __post_init__(self) -> None:
        for name, numbers in (('recall', self.recall), ('neighbours', (self.neighbours,))):
            if not numbers or not all(isinstance(k, int) and k >= 1 for k in numbers):
                raise UsageError(f'{name} of Embedding must be whole numbers >= 1, got {getattr(self, name)}')
        if self.distance not in DISTANCES:
            raise unknown('distance', self.distance, DISTANCES, ' of Embedding')
        if not self.ridge > 0:
            raise UsageError(f'ridge of Embedding must be > 0, got {self.ridge}')
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        recalls = (Metric(f'{RECALL}{k}', f'recall at {k}', '%', short=f'R@{k}') for k in sorted(self.recall))
        return (*recalls, *PROBED, ANSWERED)

    @property
    def taps(self) -> tuple[str, ...]:
        return (self.tap,)

    def check(self, dataset: Dataset) -> None:
        if len(dataset.classes) < 2:
            raise UsageError(f'embedding needs at least 2 classes to judge by, the data have {len(dataset.classes)}')
        most = max(*self.recall, self.neighbours)
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'embedding needs integer labels (N,), split {name!r} has {labels.dtype} '
                                 f'{labels.shape}')  # fmt: skip
            if name != 'train' and labels.min() == UNLABELLED:
                raise UsageError(f'split {name!r} has examples without a label; only training examples may have none')
            if name != 'train' and split.size <= most:
                raise UsageError(f'split {name!r} has {split.size} examples, and each is to have {most} neighbours')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(dataset.classes)}

    def strata(self, split: Split) -> np.ndarray:
        return split.column('labels')

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """The meter of 'accuracy'; the others are of a whole split."""
        right = jnp.argmax(outputs.logits, axis=-1) == batch['labels']
        return {'accuracy': mean(right.astype(jnp.float32), batch['mask'])}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """The vectors (B, D), and the classes that the network answers (B,)."""
        return {'vector': self.served(outputs), 'class': jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)}

    def decide(self, outputs: Outputs, batch: Batch) -> Array:
        """The vectors. (B, D)"""
        return self.served(outputs)

    def served(self, outputs: Outputs) -> Array:
        if self.tap not in outputs.features:
            raise unknown('tap', self.tap, outputs.features, ' that Embedding looks at')
        feature = outputs.features[self.tap].astype(jnp.float32)
        return feature.reshape(feature.shape[0], -1)

    def measure(self, predictions: dict[str, np.ndarray], split: Split) -> dict[str, float]:
        rights = self._rights(predictions['vector'], split.column('labels'))
        return {name: float(np.mean(right)) for name, right in rights.items()}

    def statistics(self, predictions: dict[str, np.ndarray], split: Split) -> np.ndarray:
        """Whether every example is right by the score, as 1 or 0, and 1. (N, 2)"""
        labels = split.column('labels')
        if self.score == 'accuracy':
            right = predictions['class'] == labels
        else:
            right = self._rights(predictions['vector'], labels)[self.score]
        return np.stack([right, np.ones(len(labels))], axis=-1).astype(np.float64)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    def balance(self, dataset: Dataset) -> dict[str, int]:
        labels = dataset.splits['train'].column('labels')
        counts = np.bincount(labels[labels != UNLABELLED], minlength=len(dataset.classes))
        return {name: int(count) for name, count in zip(dataset.classes, counts, strict=True)}

    def _rights(self, vectors: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Whether each example is right, by metric. (N,) each; nothing is where a vector is not finite."""
        names = [name for name in self.by_name if name != ANSWERED.name]
        if not np.isfinite(vectors).all():
            return {name: np.zeros(len(labels), bool) for name in names}
        near = labels[nearest(vectors, max(*self.recall, self.neighbours), self.distance)]
        found = {f'{RECALL}{k}': np.any(near[:, :k] == labels[:, None], axis=1) for k in self.recall}
        found['knn'] = voted(near[:, : self.neighbours], int(labels.max()) + 1) == labels
        found['linear_probe'] = probed(vectors, labels, self.ridge) == labels
        return {name: found[name] for name in names}


def nearest(vectors: np.ndarray, count: int, distance: str) -> np.ndarray:
    """The positions of the others nearest to each of `vectors` (N, D), the nearest first. (N, count)"""
    from sklearn.neighbors import NearestNeighbors  # takes a second to be imported

    order = np.random.default_rng(TIES).permutation(len(vectors))
    index = NearestNeighbors(n_neighbors=count, algorithm='brute', metric=distance).fit(vectors[order])
    found = np.empty((len(vectors), count), np.int64)
    found[order] = order[index.kneighbors(return_distance=False)]
    return found


def voted(near: np.ndarray, classes: int) -> np.ndarray:
    """The class with the most votes among labels (N, k), the nearest first; of equals the one that is nearer. (N,)"""
    votes = np.zeros((len(near), classes))
    for place in range(near.shape[1]):
        votes[np.arange(len(near)), near[:, place]] += 1 + 0.5 ** (place + 1)
    return votes.argmax(axis=1)


def probed(vectors: np.ndarray, labels: np.ndarray, ridge: float) -> np.ndarray:
    """The class that ridge regression on all other examples answers to each of `vectors` (N, D). (N,)

    With H = Z (Z'Z + ridge N I)^-1 Z' of the standardised vectors Z and a constant that is not shrunk, the answer to i
    of what is fitted without i is (H Y - diag(H) Y)_i / (1 - H_ii).
    """
    vectors = vectors.astype(np.float64)
    spread = vectors.std(axis=0)
    Z = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1)
    Y = np.equal.outer(labels, np.arange(int(labels.max()) + 1)).astype(np.float64)
    half = np.linalg.solve(Z.T @ Z + ridge * len(Z) * np.eye(Z.shape[1]), Z.T)
    diagonal = np.einsum('nd,dn->n', Z, half) + 1 / len(Z)
    fitted = Z @ (half @ Y) + Y.mean(axis=0)
    return np.argmax((fitted - diagonal[:, None] * Y) / (1 - diagonal[:, None]), axis=1)
