"""Semantic segmentation: of every pixel what it is of, a class for each place of a map."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Mean, Metric, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs, Tree

METRICS = (
    Metric('miou', 'mean IoU of classes', '%', short='mIoU'),
    Metric('accuracy', 'pixels of the right class', '%', short='accuracy'),
)
AGREEMENT = Metric('agreement', 'pixels answered as by the teacher', '%', short='agrees')


class Overlaps(NamedTuple):
    """Sums per class, (K,): of pixels that are answered and labelled so, and of those that are either."""

    both: Array
    either: Array

    def compute(self) -> Array:
        """The mean over the classes of which there is either; nan where there is none."""
        present = self.either > 0
        shares = jnp.where(present, self.both / jnp.where(present, self.either, 1), 0)
        return jnp.sum(shares) / jnp.sum(present.astype(shares.dtype))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Labels (B, H, W) of the places of a map, -1 where one is not known; logits (B, H, W, K).

    IoU of a class is the number of places that are labelled and answered so over that of those which are either, on the
    whole split; its mean over the classes decides.

    Attributes:
      classes: names of the classes of the data, here because metrics are known before the data are.
    """

    SOFTMAX: ClassVar[bool] = True

    classes: tuple[str, ...]
    score: str = 'miou'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'classes', tuple(self.classes))  # a config may have a list
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        by_class = (Metric(f'iou_{name}', f'IoU of {name}', '%', short=f'IoU {name}') for name in self.classes)
        return (*METRICS, *by_class, AGREEMENT)

    def check(self, dataset: Dataset) -> None:
        if dataset.classes != self.classes:
            raise UsageError(f'task.classes must be the classes of the data, {dataset.classes}, got {self.classes}')
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'segmentation needs integer labels (N, H, W), split {name!r} has {labels.dtype} '
                                 f'{labels.shape}')  # fmt: skip

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(self.classes)}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of all metrics; 'agreement' against a teacher's logits (B, H, W, K)."""
        counts_BK2 = self.predict(outputs, batch).astype(jnp.float32) * batch['mask'][:, None, None]
        both, either = jnp.sum(counts_BK2, axis=0).T
        known = self._known(outputs, batch)
        answers = jnp.argmax(outputs.logits, axis=-1)
        meters: dict[str, Any] = {
            'miou': Overlaps(both, either),
            'accuracy': mean((answers == batch['labels']).astype(known.dtype), known),
            **{f'iou_{name}': Mean(both[k], either[k]) for k, name in enumerate(self.classes)},
        }
        if teacher_logits is None:
            return meters
        same = (answers == jnp.argmax(teacher_logits, axis=-1)).astype(known.dtype)
        return {**meters, 'agreement': mean(same, jnp.broadcast_to(batch['mask'][:, None, None], same.shape))}

    def _known(self, outputs: Outputs, batch: Batch) -> Array:
        """1 where a label is known, of real examples. (B, H, W)"""
        labels = batch['labels']
        if outputs.logits.shape != (*labels.shape, len(self.classes)):
            raise UsageError(f'logits {outputs.logits.shape} must be {(*labels.shape, len(self.classes))}, those of '
                             'every place that has a label: network and data must have one stride')  # fmt: skip
        return (labels >= 0).astype(jnp.float32) * batch['mask'][:, None, None]

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """Of each picture and class how many places are answered and labelled so, and how many either. (B, K, 2)"""
        known = self._known(outputs, batch)[..., None]
        answers, labels = (
            jax.nn.one_hot(x, len(self.classes)) * known for x in (jnp.argmax(outputs.logits, axis=-1), batch['labels'])
        )
        both = jnp.sum(answers * labels, axis=(1, 2))
        either = jnp.sum(jnp.maximum(answers, labels), axis=(1, 2))
        return jnp.stack([both, either], axis=-1).astype(jnp.int32)

    def decide(self, outputs: Outputs, batch: Batch) -> Array:
        """The class of every place. (B, H, W)"""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    @property
    def has_statistics(self) -> bool:
        return self.score == 'miou' or self.score.startswith('iou_')

    def statistics(self, predictions: Tree, split: Split) -> np.ndarray:
        """The counts of `predict`. (N, 2 K)"""
        return np.asarray(predictions, np.float64).reshape(len(predictions), -1)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        both, either = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 2), -1, 0)
        shares = np.where(either > 0, both / np.maximum(either, 1), np.nan)
        if self.score != 'miou':
            return shares[..., self.classes.index(self.score.removeprefix('iou_'))]
        return np.nansum(shares, axis=-1) / (either > 0).sum(axis=-1)

    def balance(self, dataset: Dataset) -> dict[str, int]:
        """Places in training."""
        labels = np.asarray(dataset.splits['train'].labels)
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}
