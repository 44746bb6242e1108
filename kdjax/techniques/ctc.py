"""The task loss of transcription, a term like any other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.ctc import surprise
from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask
from kdjax.techniques.alignments import FrameTerm
from kdjax.techniques.base import Knobs, Paper
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ctc(FrameTerm):
    """-log p of a string of labels, over all its alignments (eqs. 8 and 12). Values: (B,).

    Of a string that has no alignment, since it needs more frames than there are, the value is 0; the log 'impossible'
    counts them. 0 is a bound that values keep, whatever rounding does.

    | form      | value                              | as in                                      |
    |-----------|------------------------------------|--------------------------------------------|
    | per_label | -log p / number of labels, 1 if 0  | PyTorch's reduction 'mean'                 |
    | sum       | -log p                             | the paper; PyTorch's reductions 'sum', 'none' |

    Attributes:
      labels, lengths: the columns of the strings (B, L) and of how long they are (B,).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Graves, Fernandez, Gomez, Schmidhuber',
        'Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks',
        'ICML',
        2006,
    )
    FORMS: ClassVar[tuple[str, ...]] = ('per_label', 'sum')
    TEACHER: ClassVar[bool] = False
    COLUMNS: ClassVar[tuple[str, ...]] = ('labels', 'lengths')

    labels: str = 'labels'
    lengths: str = 'label_length'
    form: str = 'per_label'

    @property
    def reads_labels(self) -> bool:
        return self.labels == 'labels'

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        if self.lengths not in inputs.batch:
            raise UsageError(f'needs the column {self.lengths!r}, of how many labels an example has')
        frames, lengths = self.of_student(inputs), inputs.batch[self.lengths]
        found = surprise(frames.logits, frames.lengths, inputs.batch[self.labels], lengths, self.blank)
        values = found.loss
        if self.form == 'per_label':
            values = values / jnp.maximum(lengths, 1).astype(values.dtype)
        lost = jnp.sum(jnp.where(found.possible, 0, example_mask(inputs)))
        return TermOut(values, memory, {'impossible': lost})

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='frame_logits', labels='transcripts', lengths='transcript_length', form=form)
                for form in cls.FORMS]  # fmt: skip
