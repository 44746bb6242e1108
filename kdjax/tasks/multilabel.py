"""Classification with several labels: every class is a yes-or-no question of its own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import FScore, Metric, f_score, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

METRICS = (
    Metric('map', 'mean average precision', '%', short='mAP'),
    Metric('micro_f1', 'micro F1', '%'),
    Metric('macro_f1', 'macro F1', '%'),
    Metric('exact', 'examples with every label right', '%', short='exact'),
    Metric('nll', 'negative log-likelihood of a label', 'nats', 'lower', 3, 'NLL'),
    Metric('agreement', 'labels decided as the teacher does', '%', 'higher', 2, 'agrees'),
    Metric('kl', 'KL to the teacher, of a label', 'nats', 'lower', 3, 'KL'),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel(Task):
    """Each example has any of the classes: logits (B, K), labels (B, K) that are 1, 0 or, where unknown, -1.

    A class is answered with yes where its probability sigmoid(z) is at least 0.5. What is unknown counts nowhere.
    """

    score: str = 'map'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 2 or (dataset.classes and labels.shape[1] != len(dataset.classes)):
                raise UsageError(f'labels of split {name!r} must be (N, {len(dataset.classes) or "K"}), one for each '
                                 f'class, got {labels.shape}')  # fmt: skip
            wrong = np.setdiff1d(labels, (-1, 0, 1))
            if len(wrong):
                raise UsageError(f'labels of split {name!r} must be 1, 0 or, where unknown, -1; got {wrong[0]!s}')
            if name != 'train' and not np.any(labels == 1):
                raise UsageError(f'split {name!r} has no label that is 1: nothing can be found there')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': dataset.splits['train'].column('labels').shape[1]}

    def strata(self, split: Split) -> np.ndarray:
        """The rarest of an example's labels, as iterative stratification deals it out first; 0 of one without any.

        Reference: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-label Data, ECML PKDD 2011.
        """
        has = split.column('labels') > 0
        rarity = np.where(has, has.sum(axis=0), len(has) + 1)
        return np.where(has.any(axis=1), 1 + rarity.argmin(axis=1), 0)

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of all but 'map', which only a whole split has."""
        logits, labels, mask_B = outputs.logits.astype(jnp.float32), batch['labels'], batch['mask']
        known = mask_B[:, None] * (labels >= 0).astype(mask_B.dtype)
        answers, truth = logits >= 0, labels > 0
        counts = f_score(answers, truth, known)
        wrong_B = jnp.sum(jnp.where(answers != truth, known, 0), axis=1)
        meters = {
            'micro_f1': FScore(*(jnp.sum(part) for part in counts)),
            'macro_f1': counts,
            'exact': mean((wrong_B == 0).astype(jnp.float32), mask_B * jnp.max(known, axis=1)),
            'nll': mean(-_log_probability(logits, truth), known),
        }
        if teacher_logits is not None:
            teacher = teacher_logits.astype(jnp.float32)
            every = jnp.broadcast_to(mask_B[:, None], teacher.shape)
            meters['agreement'] = mean((answers == (teacher >= 0)).astype(jnp.float32), every)
            meters['kl'] = mean(_divergence(teacher, logits), every)
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """Logits, which are in the order of the probabilities and tell those near 1 apart. (B, K)"""
        return outputs.logits.astype(jnp.float32)

    def decide(self, outputs: Outputs, batch: Batch) -> Array:
        """1 where a label is more probable than not. (B, K) int32"""
        return (outputs.logits > 0).astype(jnp.int32)

    def measure(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        return {'map': mean_average_precision(predictions, split.column('labels'))}

    @property
    def has_statistics(self) -> bool:
        return self.score in ('nll', 'exact', 'micro_f1', 'macro_f1')

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """What every example adds to the score, of those that are functions of sums over examples."""
        labels = split.column('labels')
        known, answers, truth = labels >= 0, predictions >= 0, labels > 0
        if self.score == 'nll':
            signed = np.where(truth, predictions, -predictions).astype(np.float64)
            parts = [np.sum(np.logaddexp(0, -signed) * known, axis=1), np.sum(known, axis=1)]
            return np.stack(parts, axis=1).astype(np.float64)
        if self.score == 'exact':
            some = known.any(axis=1)
            return np.stack([some & ~np.any(known & (answers != truth), axis=1), some], axis=1).astype(np.float64)
        parts = [answers & truth & known, truth & known, answers & known]
        if self.score == 'micro_f1':
            return np.stack([part.sum(axis=1) for part in parts], axis=1).astype(np.float64)
        return np.concatenate(parts, axis=1).astype(np.float64)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        if self.score in ('nll', 'exact'):
            return sums[..., 0] / sums[..., 1]
        right, labelled, answered = np.split(sums, 3, axis=-1)
        present = labelled + answered > 0
        each = 2 * right / np.where(present, labelled + answered, 1)
        return each.sum(axis=-1) / present.sum(axis=-1)


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean, over the classes of which any example has the label, of the average precision of their ranking.

    Args:
      scores: (N, K), higher for what is likelier to have the label.
      labels: (N, K), 1, 0 or, where unknown, -1: then the example is not in the ranking.
    """
    found = []
    for score, label in zip(scores.T, labels.T, strict=True):
        known = label >= 0
        if np.any(label == 1):
            found.append(average_precision(score[known], label[known] == 1))
    return float(np.mean(found)) if found else float('nan')


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """sum_n (R_n - R_{n-1}) P_n over the thresholds of a ranking; equal scores are one threshold, and one is true.

    Args:
      scores: (N,).
      truth: (N,) booleans.
    """
    order = np.argsort(-scores, kind='stable')
    scores, hits = scores[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of every run of equal scores
    gained = np.diff(hits[last], prepend=0)
    return float(np.sum(gained * hits[last] / (last + 1)) / hits[-1])


def _log_probability(logits: Array, truth: Array) -> Array:
    return jnp.where(truth, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))


def _divergence(teacher: Array, student: Array) -> Array:
    """KL of the yes-or-no of every label, teacher from student."""
    yes = jax.nn.sigmoid(teacher)
    return (yes * (jax.nn.log_sigmoid(teacher) - jax.nn.log_sigmoid(student))
            + (1 - yes) * (jax.nn.log_sigmoid(-teacher) - jax.nn.log_sigmoid(-student)))  # fmt: skip
