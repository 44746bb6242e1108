"""The task loss of a conditional random field, a term like any other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.crf import log_likelihood
from kdjax.errors import UsageError
from kdjax.techniques.base import Knobs, Paper, Taps
from kdjax.techniques.chains import TAPS, SentenceTerm, chain
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfLikelihood(SentenceTerm):
    """-log p(y) of a sentence's tags y under the student's CRF. Values: (B,), or (B, N) with per='token'.

    Where only some tags of a sentence are known, of all sequences that have them together (Tsuboi et al. 2008).

    Attributes:
      labels: the column of the tags (B, N); of another than 'labels', tags below 0 are not known.
      per: as pytorch-crf's reductions: the mean of 'sentence' is its 'mean', that of 'token' its 'token_mean'.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lafferty, McCallum, Pereira',
        'Conditional Random Fields: Probabilistic Models for Segmenting and Labeling Sequence Data',
        'ICML',
        2001,
    )
    TEACHER: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[str, ...]] = ('labels',)

    labels: str = 'labels'

    @property
    def reads_labels(self) -> bool:
        return self.labels == 'labels'

    def taps(self) -> Taps:
        return Taps(student=TAPS)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        scores = chain(inputs.student, inputs)
        tags = inputs.batch[self.labels]
        if tags.shape != scores.mask.shape:
            raise UsageError(f'tags {tags.shape} do not fit emissions {scores.emissions.shape}')
        if inputs.batch['mask'].ndim == 2:  # it leaves out what has no label, and says so nowhere else
            tags = jnp.where(inputs.batch['mask'] > 0, tags, -1)
        return self.spread(-log_likelihood(*scores, tags), tags.shape[1], inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(labels='tags', per=per) for per in cls.UNITS]
