"""Regression: one number, or several, for every example."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Metric, RootMean, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

METRICS = (
    Metric('rmse', 'root mean squared error', '', 'lower', 4, 'RMSE'),
    Metric('mae', 'mean absolute error', '', 'lower', 4, 'MAE'),
    Metric('r2', 'coefficient of determination', '', 'higher', 4, 'R2'),
    Metric('distance', 'root mean squared distance to the teacher', '', 'lower', 4, 'to teacher'),
)
QUANTILES = 10  # that draws keep the proportions of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Each example has numbers: outputs (B, D), labels (B, D), or (B,) for one; nan where there is none.

    Errors are means over examples and outputs in the labels' own unit: bring those of several to one scale.
    """

    score: str = 'rmse'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.floating):
                raise UsageError(f'regression needs labels (N,) or (N, D) of floats, split {name!r} has '
                                 f'{labels.dtype} {labels.shape}')  # fmt: skip
            if np.isinf(labels).any() or (name != 'train' and np.isnan(labels).any()):
                raise UsageError(f'labels of split {name!r} must be finite; only training examples may have none (nan)')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': _columns(dataset.splits['train'].column('labels')).shape[1]}

    def strata(self, split: Split) -> np.ndarray:
        """Which of QUANTILES equal parts an example is in, by the mean of its labels, each over its own deviation."""
        labels = _columns(np.asarray(split.column('labels'), np.float64))
        known = ~np.isnan(labels)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, labels, 0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, np.square(labels - centre), 0).sum(axis=0) / count)
        scaled = np.where(known, labels - centre, 0) / np.where(spread > 0, spread, 1)
        place = scaled.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        borders = np.quantile(place[known.any(axis=1)], np.arange(1, QUANTILES) / QUANTILES) if known.any() else []
        return np.where(known.any(axis=1), np.searchsorted(borders, place, side='right'), -1)

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of all but 'r2', which only a whole split has."""
        found, labels, mask_B = outputs.logits.astype(jnp.float32), _columns(batch['labels']), batch['mask']
        known = mask_B[:, None] * (~jnp.isnan(labels)).astype(mask_B.dtype)
        gap = jnp.where(known > 0, found - labels.astype(jnp.float32), 0)
        meters = {'rmse': RootMean(*mean(jnp.square(gap), known)), 'mae': mean(jnp.abs(gap), known)}
        if teacher_logits is not None:
            every = jnp.broadcast_to(mask_B[:, None], found.shape)
            meters['distance'] = RootMean(*mean(jnp.square(found - teacher_logits.astype(jnp.float32)), every))
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """The outputs. (B, D)"""
        return outputs.logits.astype(jnp.float32)

    def measure(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """'r2' = 1 - sum (z - y)^2 / sum (y - mean y)^2, the mean over outputs; -inf or nan of one that is constant."""
        sums = np.sum(_moments(predictions, split), axis=0)
        return {'r2': float(_determination(sums))}

    @property
    def has_statistics(self) -> bool:
        return self.score != 'distance'

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """What every example adds to the score."""
        if self.score == 'r2':
            return _moments(predictions, split)
        gap, known = _gap(predictions, split)
        errors = np.square(gap) if self.score == 'rmse' else np.abs(gap)
        return np.stack([errors.sum(axis=1), known.sum(axis=1)], axis=1).astype(np.float64)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        if self.score == 'r2':
            return _determination(sums)
        ratio = sums[..., 0] / sums[..., 1]
        return np.sqrt(ratio) if self.score == 'rmse' else ratio


def _columns(labels: Any) -> Any:
    """Labels (N,) or (N, D) as (N, D)."""
    return labels[:, None] if labels.ndim == 1 else labels


def _gap(predictions: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What is missing to the labels, 0 where there is none, and where there is one. (N, D) each"""
    labels = _columns(np.asarray(split.column('labels'), np.float64))
    known = ~np.isnan(labels)
    return np.where(known, predictions - labels, 0), known


def _moments(predictions: np.ndarray, split: Split) -> np.ndarray:
    """Of every output the squared error, the label less the mean, its square and whether there is one. (N, 4 D)"""
    gap, known = _gap(predictions, split)
    labels = _columns(np.asarray(split.column('labels'), np.float64))
    labels = np.where(known, labels - np.nanmean(labels, axis=0), 0)  # so that their squares lose no digits
    return np.concatenate([np.square(gap), labels, np.square(labels), known.astype(np.float64)], axis=1)


def _determination(sums: np.ndarray) -> np.ndarray:
    """The coefficient of sums of moments (..., 4 D)."""
    error, first, second, number = np.split(sums, 4, axis=-1)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.mean(1 - error / (second - np.square(first) / number), axis=-1)
