"""Teacher-free distillation: a made-up teacher that is right and, softened, nearly even."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import log_softmax
from kdjax.techniques.base import Knobs, Paper, Term, knob
from kdjax.techniques.distributions import kl_divergence
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class VirtualTeacher(Term):
    """KL(p^d_T || p^s_T), p^d_T = softmax(u / T) of a virtual teacher u (Tf-KD_reg, eq. 9-10).

    u is `correct` for the label and (1 - correct) / (K - 1) for each other class. The paper has no factor T^2. Values:
    (B,), or (B, N) for logits (B, N, K). Forms: 'virtual' is the above; 'repo': p^s at temperature 1, and the KL over
    K, as the authors' code has it (there times a multiplier, here the weight).

    Attributes:
      correct: the probability that the teacher gives the label, in (0, 1]; knob.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yuan, Tay, Li, Wang, Feng',
        'Revisiting Knowledge Distillation via Label Smoothing Regularization',
        'CVPR',
        2020,
        '1909.11723',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('virtual', 'repo')
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True

    correct: float = knob(0.99, above=0.0, maximum=1.0)
    temperature: float = knob(20.0, above=0.0)
    form: str = 'virtual'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits, labels, temperature = inputs.student.logits, inputs.batch['labels'], knobs['temperature']
        classes = logits.shape[-1]
        if labels.shape != logits.shape[:-1] or classes < 2:
            raise UsageError(f'labels {labels.shape} and logits {logits.shape} do not fit: wanted are logits (..., K) '
                             'of at least 2 classes with one label (...) each')  # fmt: skip
        log_student = log_softmax(logits, 1.0 if self.form == 'repo' else temperature)
        label = jax.nn.one_hot(labels, classes, dtype=bool)
        virtual = jnp.where(label, knobs['correct'], (1 - knobs['correct']) / (classes - 1)).astype(log_student.dtype)
        values = kl_divergence(log_softmax(virtual, temperature), log_student)
        return values / classes if self.form == 'repo' else values
