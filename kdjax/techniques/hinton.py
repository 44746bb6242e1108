"""Soft targets: the student matches the teacher's class probabilities at a raised temperature."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from kdjax.techniques.algebra import log_softmax, same_classes
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Term, knob
from kdjax.types import Array, TermInputs

ALONE = 'lopez_paz'  # how forms begin that soften the teacher alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets(Term):
    """T^2 KL(p^t_T || p^s_T), with p_T = softmax(z / T) (eq. 1; the factor T^2 in sec. 2).

    Values: (B,) for logits (B, K), (B, N) for logits (B, N, K).

    The forms that projects use under this name; down to 'tinybert' all but the factor have the gradient of the paper's:

    | form           | value                                | as in                                               |
    |----------------|--------------------------------------|-----------------------------------------------------|
    | kl             | T^2 KL                               | RepDistiller, mdistiller, attention-transfer, mmrazor |
    | paper          | T^2 H(p^t_T, p^s_T), cross-entropy   | the paper; cls_KD                                   |
    | kl_unscaled    | KL                                   | torchdistill without labels                         |
    | paper_unscaled | H(p^t_T, p^s_T)                      | TextBrewer                                          |
    | kl_mean        | T^2 KL / K                           | kl_div with reduction 'mean'                        |
    | tinybert       | H(p^t_T, p^s_T) / K                  | TinyBERT                                            |
    | lopez_paz      | H(p^t_T, p^s_1)                      | Lopez-Paz et al. 2016, eq. 2 with lambda = 1        |
    | lopez_paz_code | T^2 H(p^t_T, p^s_1)                  | the code of its authors                             |

    The last two soften the teacher alone, so that a student that equals it goes on learning.

    Attributes:
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Hinton, Vinyals, Dean',
        'Distilling the Knowledge in a Neural Network',
        'NIPS Deep Learning Workshop',
        2015,
        '1503.02531',
    )
    FORMS: ClassVar[tuple[str, ...]] = (
        'kl',
        'paper',
        'kl_unscaled',
        'paper_unscaled',
        'kl_mean',
        'tinybert',
        'lopez_paz',
        'lopez_paz_code',
    )

    temperature: float = knob(4.0, above=0.0)
    form: str = 'kl'

    @property
    def at_teacher(self) -> AtTeacher:
        if self.form.startswith(ALONE):
            return 'free'
        return 'zero' if self.form.startswith('kl') else 'stationary'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = same_classes(inputs)
        temperature = knobs['temperature']
        log_student = _finite(log_softmax(student, 1.0 if self.form.startswith(ALONE) else temperature))
        log_teacher = _finite(log_softmax(teacher, temperature))
        probability = jnp.exp(log_teacher)
        entropy_too = self.form.startswith('kl')
        values = jnp.sum(probability * ((log_teacher if entropy_too else 0.0) - log_student), axis=-1)
        if self.form in ('kl', 'paper', 'kl_mean', 'lopez_paz_code'):
            values = values * jnp.square(temperature)
        if self.form in ('kl_mean', 'tinybert'):
            values = values / student.shape[-1]
        return values


def _finite(log_probability: Array) -> Array:
    """A class that is ruled out (logit -inf) adds 0, not 0 * inf."""
    return jnp.maximum(log_probability, jnp.finfo(log_probability.dtype).min)
