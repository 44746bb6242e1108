"""DistilBERT: hidden states of the student point where the teacher's do."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.techniques.algebra import unit
from kdjax.techniques.base import Knobs, Paper
from kdjax.techniques.tokens import ProjectedTokens, over_tokens
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenDirections(ProjectedTokens):
    """1 - cos(h^S, h^T) per token (L_cos, sec. 2), summed over pairs of layers. Values: (B,), or (B, N) per token.

    A state counts as at least 1e-6 long, so that one of zeros has a finite gradient.

    Attributes:
      layers: pairs of tokens (B, N, D) or vectors (B, D), 'tap' or 'student_tap:teacher_tap'; the paper's is the last.
      projection: whether each layer learns a matrix to the teacher's width, as DistillKit may; the paper's widths are
        equal.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Sanh, Debut, Chaumond, Wolf',
        'DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter',
        'NeurIPS Workshop on Energy Efficient Machine Learning and Cognitive Computing',
        2019,
        '1910.01108',
    )

    layers: tuple[str, ...] = ('hidden2',)

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        cosine = jnp.sum(unit(student, floor=1e-6) * unit(teacher, floor=1e-6), axis=-1)
        return over_tokens(1 - cosine, inputs)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layers=('match',)), cls(layers=('hidden1', 'hidden2'), projection=True)]
