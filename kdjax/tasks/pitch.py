"""Pitch: how high a frame of sound is, as one of 360 answers of yes or no, 20 cents apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs

BINS, CENTS, LOWEST = 360, 20.0, 1997.3794084376191  # pitches, from one to the next, and the first, above 10 Hz
BLUR = 25.0  # cents, the deviation of what is asked of the pitches about the true one
AROUND = 4  # pitches on either side of the likeliest that are weighed
NEAR, OCTAVE = 50.0, 1200.0  # cents
METRICS = (
    Metric('rpa', f'raw pitch accuracy, within {NEAR:g} cents', '%', short='RPA'),
    Metric('rca', 'raw chroma accuracy, octaves apart', '%', short='RCA'),
    Metric('like', f'within {NEAR:g} cents of the teacher', '%', short='as teacher'),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pitch(Task):
    """Each example is a frame with a pitch: logits (B, 360), labels (B,) in cents above 10 Hz.

    Asked of the logits is exp(-(c - y)^2 / (2 25^2)) at pitches of c cents, which the task loss for several labels,
    `binary_cross_entropy.BinaryCrossEntropy`, then reads. The answer is the mean of the pitches about the likeliest,
    four on either side, weighed by their probabilities. A frame is right where it is within 50 cents of its label.

    Reference: Kim, Salamon, Li, Bello, CREPE: A Convolutional Representation for Pitch Estimation, ICASSP 2018,
    eq. 1-3.
    """

    score: str = 'rpa'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def check(self, dataset: Dataset) -> None:
        highest = LOWEST + CENTS * (BINS - 1)
        for name, split in dataset.splits.items():
            labels = split.column('labels')
            if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.floating):
                raise UsageError(f'pitch needs labels (N,) of floats, cents above 10 Hz; split {name!r} has '
                                 f'{labels.dtype} {labels.shape}')  # fmt: skip
            if not len(labels) or not (labels.min() >= LOWEST and labels.max() <= highest):
                raise UsageError(f'labels of split {name!r} must be in {LOWEST:.0f} to {highest:.0f} cents above 10 Hz')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': BINS}

    def prepare(self, batch: Batch) -> Batch:
        if 'labels' not in batch:
            return batch
        cents_B = batch['labels'].astype(jnp.float32)
        return {**batch, 'cents': cents_B, 'labels': blurred(cents_B)}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        found_B = answered(outputs.logits)
        gap_B, octave = found_B - batch['cents'], jnp.asarray(OCTAVE, jnp.float32)
        apart_B = jnp.mod(gap_B + octave / 2, octave) - octave / 2
        meters = {'rpa': mean(_near(gap_B), batch['mask']), 'rca': mean(_near(apart_B), batch['mask'])}
        if teacher_logits is not None:
            meters['like'] = mean(_near(found_B - answered(teacher_logits)), batch['mask'])
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """Cents above 10 Hz. (B,)"""
        return answered(outputs.logits)

    @property
    def has_statistics(self) -> bool:
        return self.score != 'like'

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """Whether each is right, and 1. (N, 2)"""
        gap = np.asarray(predictions, np.float64) - np.asarray(split.column('labels'), np.float64)
        if self.score == 'rca':
            gap = np.mod(gap + OCTAVE / 2, OCTAVE) - OCTAVE / 2
        return np.stack([np.abs(gap) <= NEAR, np.ones(len(gap))], axis=1).astype(np.float64)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]


def pitches() -> np.ndarray:
    """Cents above 10 Hz of the logits. (360,) float32"""
    return (LOWEST + CENTS * np.arange(BINS)).astype(np.float32)


def blurred(cents_B: Array) -> Array:
    """What is asked of every logit. (B, 360)"""
    return jnp.exp(-jnp.square((pitches() - cents_B[:, None]) / BLUR) / 2)


def answered(logits_BK: Array) -> Array:
    """Cents above 10 Hz. (B,)"""
    logits_BK = logits_BK.astype(jnp.float32)
    best_B1 = jnp.argmax(logits_BK, axis=1)[:, None]
    near_BK = jnp.abs(jnp.arange(BINS) - best_B1) <= AROUND
    # Over the largest, so that a network that is sure of no pitch still answers with the likeliest.
    yes_BK = jax.nn.log_sigmoid(logits_BK)
    weight_BK = jnp.where(near_BK, jnp.exp(yes_BK - jnp.max(yes_BK, axis=1, keepdims=True)), 0)
    return jnp.sum(weight_BK * pitches(), axis=1) / jnp.sum(weight_BK, axis=1)


def _near(gap_B: Array) -> Array:
    return (jnp.abs(gap_B) <= NEAR).astype(jnp.float32)
