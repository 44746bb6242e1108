"""Classification: one class for every example."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import UNLABELLED, Dataset, Split, leaves
from kdjax.errors import UsageError, unknown
from kdjax.metrics import BINS, Mean, Metric, Recalls, calibration, f_score, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

METRICS = (
    Metric('accuracy', 'accuracy', '%'),
    Metric('nll', 'negative log-likelihood', 'nats', 'lower', 3, 'NLL'),
    Metric('ece', 'calibration error', '%', 'lower', 2, 'ECE'),
    Metric('agreement', 'top-1 agreement with the teacher', '%', 'higher', 2, 'agrees'),
    Metric('kl', 'KL to the teacher', 'nats', 'lower', 3, 'KL'),
)
MORE = (
    Metric('balanced_accuracy', 'balanced accuracy', '%', short='balanced'),
    Metric('macro_f1', 'macro F1', '%', short='F1'),
)
RECALL = 'recall_'  # of one class, by its name or place
TEMPERATURES = (1, 2, 4, 8, 16)  # at which the report shows what a teacher says


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Each example has one of the classes: logits (B, K), labels (B,).

    Attributes:
      score: any metric; one that is not among the usual ones is measured too.
      more: what else is measured: 'balanced_accuracy', 'macro_f1', 'recall_3' of the class at a place, from 0, or
        'recall_cat' of one of `classes`.
      classes: names of the classes as the data have them, where `more` or the score has some.
    """

    SOFTMAX: ClassVar[bool] = True

    score: str = 'accuracy'
    more: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*METRICS, *(self._further(name) for name in self._more))

    @property
    def _more(self) -> tuple[str, ...]:
        """What is measured beside the usual."""
        usual = {metric.name for metric in METRICS}
        return tuple(dict.fromkeys((*self.more, *(() if self.score in usual else (self.score,)))))

    def _further(self, name: str) -> Metric:
        known = {metric.name: metric for metric in MORE}
        if name.startswith(RECALL):
            self._place(name)
            return Metric(name, f'recall of {name.removeprefix(RECALL)}', '%')
        if name not in known:
            names = [metric.name for metric in (*METRICS, *MORE)]
            raise unknown('metric', name, [*names, *(RECALL + one for one in self.classes or ('0',))],
                          f' of {type(self).__name__}')  # fmt: skip
        return known[name]

    def _place(self, name: str) -> int:
        """Of the class whose recall it is."""
        wanted = name.removeprefix(RECALL)
        if wanted in self.classes:
            return self.classes.index(wanted)
        if not wanted.isdecimal() or (self.classes and int(wanted) >= len(self.classes)):
            raise unknown('class', wanted, self.classes, f' in the metric {name!r} (classes of {type(self).__name__} '
                          'gives names)')  # fmt: skip
        return int(wanted)

    def check(self, dataset: Dataset) -> None:
        if len(dataset.classes) < 2:
            have = ', '.join(map(repr, dataset.classes)) or 'none'
            raise UsageError(f'classification needs at least 2 classes, the data have {len(dataset.classes)}: {have}')
        if self.classes and tuple(self.classes) != tuple(dataset.classes):
            raise UsageError(f'classes of the task are {self.classes}, those of the data {dataset.classes}')
        for name in self._more:
            if name.startswith(RECALL) and self._place(name) >= len(dataset.classes):
                raise UsageError(f'metric {name!r} is of none of the {len(dataset.classes)} classes of the data')
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'classification needs integer labels (N,), split {name!r} has {labels.dtype} '
                                 f'{labels.shape}')  # fmt: skip
            if name != 'train' and labels.min() == UNLABELLED:
                raise UsageError(f'split {name!r} has examples without a label; only training examples may have none')
        _check_taught(dataset)

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(dataset.classes)}

    def strata(self, split: Split) -> np.ndarray:
        return split.column('labels')

    def corrupt(self, dataset: Dataset, share: float, seed: int) -> np.ndarray:
        return symmetric(dataset.splits['train'].column('labels'), share, len(dataset.classes), seed)

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'accuracy', 'nll' (nats), 'ece'; against a teacher of as many classes those of 'agreement' (of the
        predicted classes) and of 'kl', KL(teacher || student) in nats at temperature 1; and of those in `more`."""
        logits, labels, mask = outputs.logits, batch['labels'], batch['mask']
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        predicted = jnp.argmax(logits, axis=-1)
        nll = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
        meters = {
            'accuracy': mean((predicted == labels).astype(jnp.float32), mask),
            'nll': mean(nll, mask),
            'ece': calibration(jnp.exp(log_probabilities), labels, mask),
        }
        if teacher_logits is not None and teacher_logits.shape[-1] == logits.shape[-1]:
            log_teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32), axis=-1)
            kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_probabilities), axis=-1)
            agree = (predicted == jnp.argmax(teacher_logits, axis=-1)).astype(jnp.float32)
            meters |= {'agreement': mean(agree, mask), 'kl': mean(kl, mask)}
        return meters | self._more_sums(predicted, labels, mask, logits.shape[-1])

    def _more_sums(self, predicted: Array, labels: Array, mask: Array, classes: int) -> dict[str, Any]:
        if not self._more:
            return {}
        answers, truth = (jax.nn.one_hot(x, classes, dtype=jnp.float32) for x in (predicted, labels))
        counts = f_score(answers, truth, jnp.broadcast_to(mask[:, None], truth.shape))
        recalls = Recalls(counts.right, counts.labelled)
        meters = {'balanced_accuracy': recalls, 'macro_f1': counts}
        return {
            name: Mean(*(part[self._place(name)] for part in recalls)) if name.startswith(RECALL) else meters[name]
            for name in self._more
        }

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """What the score is of: the class of every example, (B,) int32, or (B, K) as 1 and 0; or its 'nll'. (B,)"""
        if self.score == 'nll':
            log_probabilities = jax.nn.log_softmax(outputs.logits.astype(jnp.float32), axis=-1)
            return -jnp.take_along_axis(log_probabilities, batch['labels'][:, None], axis=-1)[:, 0]
        predicted = jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)
        if self._of_classes:
            return jax.nn.one_hot(predicted, outputs.logits.shape[-1], dtype=jnp.uint8)
        return predicted

    def decide(self, outputs: Outputs, batch: Batch) -> Array:
        """The number of the class, whatever is judged. (B,) int32"""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    @property
    def _of_classes(self) -> bool:
        """Whether the score is a mean over classes."""
        return self.score in {metric.name for metric in MORE}

    @property
    def has_statistics(self) -> bool:
        return self.score not in ('ece', 'agreement', 'kl')

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """What every example adds to the score, such as 1 where it is classified rightly, and 1. (N, 2), (N, 2K) ..."""
        labels = split.column('labels')
        if self._of_classes:
            answers = predictions.astype(np.float64)
            truth = np.equal.outer(labels, np.arange(answers.shape[1])).astype(np.float64)
            counts = (truth * answers, truth, answers)
            return np.concatenate(counts if self.score == 'macro_f1' else counts[:2], axis=1)
        if self.score == 'nll':
            return np.stack([predictions, np.ones(len(labels))], axis=-1).astype(np.float64)
        right = (predictions == labels).astype(np.float64)
        member = np.ones_like(right) if self.score == 'accuracy' else (labels == self._place(self.score)).astype(float)
        return np.stack([right * member, member], axis=-1)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        if not self._of_classes:
            with np.errstate(invalid='ignore'):  # nan of a class that no example has
                return sums[..., 0] / sums[..., 1]
        parts = np.split(sums, 3 if self.score == 'macro_f1' else 2, axis=-1)
        above, below = (2 * parts[0], parts[1] + parts[2]) if self.score == 'macro_f1' else parts
        present = below > 0
        return np.sum(above / np.where(present, below, 1), axis=-1) / np.sum(present, axis=-1)

    def balance(self, dataset: Dataset) -> dict[str, int]:
        labels = dataset.splits['train'].column('labels')
        return _counted(labels[labels != UNLABELLED], dataset.classes)

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any] | None:
        """A rightly classified validation example of which the teacher knows most beside its class; None if none is."""
        split = dataset.splits['validation']
        probabilities = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        right = outputs.argmax(axis=1) == split.column('labels')
        if not right.any():
            return None
        example = int(np.argmax(np.where(right, np.sort(probabilities, axis=1)[:, -2], -1)))
        return {
            'kind': 'classes',
            **self.shown(dataset, example),
            'label': int(split.column('labels')[example]),
            'class_names': list(dataset.classes),
            'logits': outputs[example],
            'temperatures': list(TEMPERATURES),
        }

    def by_class(self, dataset: Dataset, outputs: Iterable[np.ndarray]) -> Mapping[str, Any]:
        """How often which class was answered with which, as [truth, answer, count], and sums per bin of confidence."""
        labels, classes = dataset.splits['test'].column('labels').astype(np.int64), len(dataset.classes)
        confusion = np.zeros(classes * classes, np.int64)
        bins = np.zeros((3, BINS))  # confidence, right answers, answers
        for logits in outputs:
            shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
            answers, confidence = logits.argmax(axis=1), 1 / shifted.sum(axis=1)
            if logits.shape[1] == classes:  # a teacher of other classes answers none of these
                confusion += np.bincount(labels * classes + answers, minlength=classes * classes)
            place = np.minimum((confidence * BINS).astype(int), BINS - 1)
            bins += [np.bincount(place, weights, BINS) for weights in (confidence, answers == labels, None)]
        pairs = np.flatnonzero(confusion)
        return {
            'class_names': list(dataset.classes),
            'confusion': np.stack([pairs // classes, pairs % classes, confusion[pairs]], axis=1).tolist(),
            'calibration': bins.tolist(),
        }

    def shown(self, dataset: Dataset, example: int) -> dict[str, Any]:
        """A validation example as a reader sees it: its image, numbers or words; of several arrays the shapes."""
        inputs = dataset.splits['validation'].inputs
        words = dataset.facts.get('words')
        if not hasattr(inputs, 'dtype'):
            return {'shapes': {name: list(column.shape[1:]) for name, column in leaves({'inputs': inputs})}}
        if words is None:
            return {'image': np.asarray(inputs[example])}
        return {'text': ' '.join(words[token] for token in np.asarray(inputs[example]) if token)}


def _check_taught(dataset: Dataset) -> None:
    """Every class that is asked about must have a training example, where all of those have a label.

    A class that no split has is left out on purpose: its name is there for the sake of a teacher that knows it.
    """
    taught = np.unique(dataset.splits['train'].column('labels'))
    if UNLABELLED in taught:
        return
    for name, split in dataset.splits.items():
        asked = np.setdiff1d(split.column('labels'), taught)
        if len(asked):
            raise UsageError(
                f'class {dataset.classes[asked[0]]!r} ({asked[0]}) has examples in split {name!r} and none in training'
                ': divide the data so that it has, or take these examples out'
            )


def _counted(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


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
