"""Sequence-level distillation of CTC: the student learns the strings that its teacher hears, by what they weigh."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.ctc import greedy, surprise
from kdjax.techniques.alignments import FrameTerm
from kdjax.techniques.base import Knobs, Paper, Taps
from kdjax.types import Array, TermInputs

HYPOTHESES, LENGTHS, WEIGHTS = 'hypotheses', 'hypothesis_lengths', 'hypothesis_weights'


@dataclasses.dataclass(frozen=True, kw_only=True)
class HypothesisCtc(FrameTerm):
    """sum_n w_n CTC(string n of the teacher), when each is said does not matter. Values: (B,).

    The teacher's n best strings are made once by a beam search (`kdjax.ctc.n_best`): 'hypotheses' (B, n, L),
    'hypothesis_lengths' (B, n), 'hypothesis_weights' (B, n), such as their posteriors over their sum. They are columns
    of the data, or features of a teacher that is a table (`train.given`). Where there are none, it is the one string of
    the teacher's most probable alignment, weight 1. A string without an alignment to the student's frames counts 0.

    | form      | value                        |
    |-----------|------------------------------|
    | sum       | as above                     |
    | per_label | each CTC over its labels     |

    Attributes:
      form: which of the above.
      given: whether they are features of the teacher.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Takashima, Sheng, Kawai',
        'Investigation of Sequence-Level Knowledge Distillation Methods for CTC Acoustic Models',
        'ICASSP',
        2019,
    )
    FORMS: ClassVar[tuple[str, ...]] = ('sum', 'per_label')

    form: str = 'sum'
    given: bool = False

    def taps(self) -> Taps:
        own = super().taps()
        return Taps(own.student, (HYPOTHESES, LENGTHS, WEIGHTS)) if self.given else own

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        losses, weights = self.losses(inputs)
        return jnp.sum(jnp.where(weights > 0, weights * losses, 0), axis=1)

    def losses(self, inputs: TermInputs) -> tuple[Array, Array]:
        """Of every string its CTC and its weight. (B, n) each"""
        student = self.of_student(inputs)
        strings, lengths, weights = self._strings(inputs)

        def one(string: Array, length: Array) -> Array:
            return surprise(student.logits, student.lengths, string, length, self.blank).loss

        losses = jax.vmap(one, in_axes=1, out_axes=1)(strings, lengths)
        if self.form == 'per_label':
            losses = losses / jnp.maximum(lengths, 1).astype(losses.dtype)
        return losses, weights.astype(losses.dtype)

    def _strings(self, inputs: TermInputs) -> tuple[Array, Array, Array]:
        found = inputs.teacher.features if self.given else inputs.batch
        if HYPOTHESES in found:
            strings, lengths, weights = (found[name] for name in (HYPOTHESES, LENGTHS, WEIGHTS))
            return strings, lengths, weights
        _, teacher = self.of_both(inputs)
        string, length = greedy(teacher.logits, teacher.lengths, self.blank)
        return string[:, None], length[:, None], jnp.ones((len(length), 1), teacher.logits.dtype)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='frame_logits', form=form) for form in cls.FORMS]
