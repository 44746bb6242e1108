"""Transcription: what is spoken, a string of symbols for every clip; what decides is how many words are wrong."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import ctc
from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Mean, Metric, mean
from kdjax.tasks.speech import SpeechTask
from kdjax.types import Array, Batch, Outputs, Tree

METRICS = (
    Metric('wer', 'word error rate', '%', 'lower', short='WER'),
    Metric('cer', 'character error rate', '%', 'lower', short='CER'),
    Metric('exact', 'strings without an error', '%', short='exact'),
    Metric('nll', 'CTC loss of a symbol', 'nats', 'lower', 3, 'NLL'),
    Metric('impossible', 'strings that have no alignment', '%', 'lower', short='impossible'),
    Metric('agreement', 'frames answered as by the teacher', '%', 'higher', 2, 'agrees'),
    Metric('kl', 'KL to the teacher of a frame', 'nats', 'lower', 3, 'KL'),
)
BEAM = (
    Metric('wer_beam', 'word error rate, beam search', '%', 'lower', short='WER beam'),
    Metric('cer_beam', 'character error rate, beam search', '%', 'lower', short='CER beam'),
)
LENGTH = 'label_length'  # the column, (N,), of how many symbols a string has
RATES = {'wer': 0, 'cer': 2, 'exact': 4}  # where in `statistics` each has its two numbers
Strings = list[tuple[int, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(SpeechTask):
    """Each clip has a string: logits (B, T, K) of every frame, the last class a blank; labels (B, L), 'label_length'.

    Inputs are `data.audio.clips`. Networks say which frames are real by the mask of their logits. Predictions are the
    most probable alignment's strings. Error rates are the fewest edits over all that is spoken, summed over the split
    and then divided: one long string counts for more than a short one.

    Attributes:
      symbols: the classes of the data set without the blank, named here because metrics are known before the data are.
      joiner: what stands between symbols where a string is written: ' ' where symbols are words, '' where they are
        characters, one of them the space between words.
      beam: prefixes that a beam search on the host keeps, which then is measured beside; 0 for none.
    """

    SOFTMAX: ClassVar[bool] = True

    symbols: tuple[str, ...]
    joiner: str = ' '
    beam: int = 0
    score: str = 'wer'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'symbols', tuple(self.symbols))  # a config may have a list
        if not self.symbols:
            raise UsageError("symbols of Transcription must be those of the data, such as ('zero', 'one'), got none")
        if self.beam < 0:
            raise UsageError(f'beam of Transcription must be >= 0, got {self.beam}')
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*METRICS, *(BEAM if self.beam else ()))

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        if dataset.classes != self.symbols:
            raise UsageError(f'task.symbols must be the classes of the data, {dataset.classes}, got {self.symbols}')
        for name, split in dataset.splits.items():
            labels, lengths = split.column('labels'), split.column(LENGTH)
            if labels.ndim != 2 or lengths.shape != labels.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'transcription needs integer labels (N, L) and {LENGTH!r} (N,), split {name!r} has '
                                 f'{labels.dtype} {labels.shape} and {lengths.shape}')  # fmt: skip
            if lengths.min() < 0 or lengths.max() > labels.shape[1]:
                raise UsageError(f'{LENGTH} of split {name!r} must be in 0 to {labels.shape[1]}, got {lengths.min()} '
                                 f'to {lengths.max()}')  # fmt: skip
            unlabelled = np.any(labels == UNLABELLED, axis=1)
            if np.any(unlabelled) and (name != 'train' or not np.all(labels[unlabelled] == UNLABELLED)):
                raise UsageError(f'split {name!r} has strings of which a symbol is not known; only whole strings, and '
                                 'of training examples, may be so')  # fmt: skip

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(self.symbols) + 1}

    def strata(self, split: Split) -> np.ndarray:
        """Strings of one length."""
        return np.asarray(split.column(LENGTH)).astype(np.int32)

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'nll' (nats, over the symbols of strings that can be aligned) and 'impossible'; against a teacher
        of as many classes and frames of 'agreement' and of 'kl', KL(teacher || student), over real frames."""
        logits, mask, frames = outputs.logits, batch['mask'], frames_of(outputs)
        lengths = batch[LENGTH]
        found = ctc.surprise(logits.astype(jnp.float32), _count(frames), batch['labels'], lengths)
        possible = found.possible.astype(mask.dtype) * mask
        meters = {
            'nll': Mean(jnp.sum(found.loss * possible), jnp.sum(lengths.astype(mask.dtype) * possible)),
            'impossible': mean(1 - found.possible.astype(mask.dtype), mask),
        }
        if teacher_logits is not None and teacher_logits.shape == logits.shape:
            log_student, log_teacher = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (logits, teacher_logits))
            kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)
            agree = (jnp.argmax(logits, axis=-1) == jnp.argmax(teacher_logits, axis=-1)).astype(jnp.float32)
            real = frames.astype(mask.dtype) * mask[:, None]
            meters |= {'agreement': mean(agree, real), 'kl': mean(kl, real)}
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Tree:
        """'symbols' (B, T) int32 and how many are said, 'said' (B,); with a beam also what it searches: 'frames' (B,)
        and 'log_probabilities' (B, T, K)."""
        count = _count(frames_of(outputs))
        symbols, said = ctc.greedy(outputs.logits, count)
        found = {'symbols': symbols, 'said': said}
        if not self.beam:
            return found
        logs = jax.nn.log_softmax(outputs.logits.astype(jnp.float32))
        return {**found, 'frames': count, 'log_probabilities': logs}

    def decide(self, outputs: Outputs, batch: Batch) -> Tree:
        symbols, said = ctc.greedy(outputs.logits, _count(frames_of(outputs)))
        return {'symbols': symbols, 'said': said}

    def measure(self, predictions: Tree, split: Split) -> dict[str, float]:
        sums = self._counted(_strings(predictions['symbols'], predictions['said']), split).sum(axis=0)
        rates = {name: float(_share(sums, place)) for name, place in RATES.items()}
        if not self.beam:
            return rates
        sums = self._counted(self._searched(predictions), split).sum(axis=0)
        return {**rates, **{f'{name}_beam': float(_share(sums, RATES[name])) for name in ('wer', 'cer')}}

    def statistics(self, predictions: Tree, split: Split) -> np.ndarray:
        """Of each string: edits and words, edits and characters, 1 where it is right and 1. (N, 6)

        They are of the beam search where that is judged.
        """
        beam = self.score.endswith('_beam')
        found = self._searched(predictions) if beam else _strings(predictions['symbols'], predictions['said'])
        return self._counted(found, split)

    @property
    def has_statistics(self) -> bool:
        return self.score.removesuffix('_beam') in RATES

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return _share(sums, RATES[self.score.removesuffix('_beam')])

    def _searched(self, predictions: Tree) -> Strings:
        """What a beam search finds."""
        rows = zip(predictions['log_probabilities'], predictions['frames'], strict=True)
        return [ctc.beam_search(logs[:count], self.beam)[0].labels for logs, count in rows]

    def _counted(self, found: Strings, split: Split) -> np.ndarray:
        written = [self.written(string) for string in found]
        truth = [self.written(string) for string in _strings(split.column('labels'), split.column(LENGTH))]
        parts = []
        for apart in (str.split, list):
            ours, theirs = ([apart(text) for text in texts] for texts in (written, truth))
            parts += [ctc.edits(ours, theirs), np.asarray([len(text) for text in theirs])]
        right = np.asarray([ours == theirs for ours, theirs in zip(written, truth, strict=True)])
        return np.stack([*parts, right, np.ones_like(right)], axis=1).astype(np.float64)

    def written(self, string: Sequence[int]) -> str:
        """A string of symbols as it is read."""
        return self.joiner.join(self.symbols[symbol] for symbol in string)

    def balance(self, dataset: Dataset) -> dict[str, int]:
        """Training symbols."""
        train = dataset.splits['train']
        labels = np.asarray(train.column('labels'))
        real = (np.arange(labels.shape[1]) < np.asarray(train.column(LENGTH))[:, None]) & (labels != UNLABELLED)
        counts = np.bincount(labels[real], minlength=len(self.symbols))
        return {name: int(count) for name, count in zip(self.symbols, counts, strict=True)}


def frames_of(outputs: Outputs) -> Array:
    """Which frames of the logits are real, (B, T) bool; all where a network does not say it."""
    if 'logits' in outputs.masks:
        return outputs.masks['logits'][0] > 0
    return jnp.ones(outputs.logits.shape[:2], bool)


def _count(frames: Array) -> Array:
    return jnp.sum(frames, axis=1, dtype=jnp.int32)


def _strings(symbols: np.ndarray, lengths: np.ndarray) -> Strings:
    """Rows (N, L) up to their lengths."""
    return [tuple(row[:length].tolist()) for row, length in zip(np.asarray(symbols), np.asarray(lengths), strict=True)]


def _share(sums: np.ndarray, place: int) -> np.ndarray:
    """A number over the next; nan where there is nothing."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return sums[..., place] / sums[..., place + 1]
