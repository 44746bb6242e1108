"""Classification: one class for every example."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Metric, calibration, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

METRICS = (
    Metric('accuracy', 'accuracy', '%'),
    Metric('nll', 'negative log-likelihood', 'nats', 'lower', 3, 'NLL'),
    Metric('ece', 'calibration error', '%', 'lower', 2, 'ECE'),
    Metric('agreement', 'top-1 agreement with the teacher', '%', 'higher', 2, 'agrees'),
    Metric('kl', 'KL to the teacher', 'nats', 'lower', 3, 'KL'),
)
TEMPERATURES = (1, 2, 4, 8, 16)  # at which the report shows what a teacher says


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Each example has one of the classes: logits (B, K), labels (B,)."""

    score: str = 'accuracy'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def check(self, dataset: Dataset) -> None:
        if len(dataset.classes) < 2:
            raise UsageError(f'classification needs at least 2 classes, the data have {len(dataset.classes)}')
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'classification needs integer labels (N,), split {name!r} has {labels.dtype} '
                                 f'{labels.shape}')  # fmt: skip
            if name != 'train' and labels.min() == UNLABELLED:
                raise UsageError(f'split {name!r} has examples without a label; only training examples may have none')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(dataset.classes)}

    def strata(self, split: Split) -> np.ndarray:
        return split.column('labels')

    def corrupt(self, dataset: Dataset, share: float, seed: int) -> np.ndarray:
        return symmetric(dataset.splits['train'].column('labels'), share, len(dataset.classes), seed)

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'accuracy', 'nll' (nats), 'ece'; against a teacher those of 'agreement' (of the predicted classes)
        and of 'kl', KL(teacher || student) in nats at temperature 1."""
        logits, labels, mask = outputs.logits, batch['labels'], batch['mask']
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        predicted = jnp.argmax(logits, axis=-1)
        nll = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
        meters = {
            'accuracy': mean((predicted == labels).astype(jnp.float32), mask),
            'nll': mean(nll, mask),
            'ece': calibration(jnp.exp(log_probabilities), labels, mask),
        }
        if teacher_logits is not None:
            log_teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32), axis=-1)
            kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_probabilities), axis=-1)
            agree = (predicted == jnp.argmax(teacher_logits, axis=-1)).astype(jnp.float32)
            meters |= {'agreement': mean(agree, mask), 'kl': mean(kl, mask)}
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """The class of every example. (B,) int32"""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """1 for every example that is classified rightly, and 1 for every example. (N, 2)"""
        right = (predictions == split.column('labels')).astype(np.float64)
        return np.stack([right, np.ones_like(right)], axis=-1)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any]:
        """A rightly classified validation example about which the teacher knows most beside its class.

        Raises:
          UsageError: there is none.
        """
        split = dataset.splits['validation']
        probabilities = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        right = outputs.argmax(axis=1) == split.column('labels')
        if not right.any():
            raise UsageError('the teacher classifies no validation example rightly; train it longer')
        example = int(np.argmax(np.where(right, np.sort(probabilities, axis=1)[:, -2], -1)))
        return {
            'kind': 'classes',
            **self.shown(dataset, example),
            'label': int(split.column('labels')[example]),
            'class_names': list(dataset.classes),
            'logits': outputs[example],
            'temperatures': list(TEMPERATURES),
        }

    def shown(self, dataset: Dataset, example: int) -> dict[str, Any]:
        """A validation example as a reader sees it: its image, or its words."""
        inputs = dataset.splits['validation'].inputs[example]
        words = dataset.facts.get('words')
        if words is None:
            return {'image': inputs}
        return {'text': ' '.join(words[token] for token in np.asarray(inputs) if token)}


def symmetric(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Each label with probability `share` replaced by one of the other classes, all equally likely.

    Args:
      labels: (N,) integers; an example's id is its position. One without a label stays without.
      share: expected share of wrong labels, in [0, 1]. A larger share changes all that a smaller one changes.
      classes: how many there are, at least 2.
      seed: of the draws.

    Returns:
      (N,) labels of the same dtype.

    Raises:
      UsageError: `share` is not in [0, 1], or there is no other class.

    Reference: Patrini et al., Making Deep Neural Networks Robust to Label Noise, CVPR 2017, sec. 5 (symmetric noise).
    """
    if not 0 <= share <= 1 or classes < 2:
        raise UsageError(f'label noise needs a share in [0, 1] and 2 classes, got {share} and {classes}')
    # Row i of this table does not depend on how many rows are drawn.
    wrong, which = np.random.default_rng(seed).random((len(labels), 2)).T
    others = (labels + 1 + (which * (classes - 1)).astype(labels.dtype)) % classes
    return np.where((wrong < share) & (labels != UNLABELLED), others, labels).astype(labels.dtype)
