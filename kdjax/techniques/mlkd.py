"""Multi-level logit distillation: predictions are aligned by example, between examples and between classes."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, real_median, same_classes, total, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, knob
from kdjax.techniques.distributions import divergence, label_loss, standardized
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper('Jin, Wang, Lin', 'Multi-Level Logit Distillation', 'CVPR', 2023)
LEVELS = ('instance', 'batch', 'class')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLevel(Term):
    """Three levels, summed over temperatures T and over a weak and a strong view of the examples. Values: (B,).

    With p = softmax(z / T), B real examples of the *global* batch and K classes (sec. 3.2-3.4):
    instance: T^2 KL(p_t || p_s); batch: 1/B || p_s p_s' - p_t p_t' ||_F^2; class: 1/K || p_s' p_s - p_t' p_t ||_F^2.
    The weak view are the logits, the strong one the logits in a tap. The hard labels of the strong view are
    `StrongLabels`. Forms: 'paper' is the above; 'repo' does what the authors' code does:

    - batch and class levels are those of the weak view only;
    - of the weak view, instance and batch levels are multiplied by the share of examples of which the teacher is at
      most as sure as of the median one, the class level by the share of classes with at most the median mass;
    - of the strong view, the last temperatures, from the third of `others` on, read the weak view instead.

    Attributes:
      temperature: the first T; knob, > 0.
      others: the other temperatures.
      levels: which levels, of 'instance', 'batch' and 'class'.
      strong: tap with the logits of the strong view, (B, K), on both sides; '' for the weak view alone.
      standardized: whether the instance level is of standardised logits (Sun et al., 2024).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'repo')
    scope: ClassVar[Scope] = 'batch'
    at_teacher: ClassVar[AtTeacher] = 'zero'
    reads_logits: ClassVar[tuple[bool, bool]] = (True, True)
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    temperature: float = knob(4.0, above=0.0)
    others: tuple[float, ...] = (3.0, 5.0, 2.0, 6.0)
    levels: tuple[str, ...] = LEVELS
    strong: str = 'strong'
    standardized: bool = False
    form: str = 'paper'

    def __post_init__(self) -> None:
        super().__post_init__()
        for level in self.levels:
            if level not in LEVELS:
                raise unknown('level', level, LEVELS, ' of MultiLevel')
        if not self.levels or not all(other > 0 for other in self.others):
            raise UsageError(f'MultiLevel needs at least one level, got {self.levels!r}, and temperatures > 0, got '
                             f'{self.others!r}')  # fmt: skip

    def taps(self) -> Taps:
        return Taps((self.strong,), (self.strong,)) if self.strong else Taps()

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        weak, strong, mask = same_classes(inputs), self._strong(inputs), example_mask(inputs)
        if weak[0].ndim != 2:
            raise UsageError(f'levels are of logits (B, K), got {weak[0].shape}')
        temperatures: list[Array | float] = [knobs['temperature'], *self.others]
        values = {level: self._summed(level, weak, temperatures, mask) for level in self.levels}
        if self.form == 'repo':
            shares = _shares(weak[1], mask)
            values = {level: shares[level] * value for level, value in values.items()}
        for level in self.levels if strong else ():
            if self.form == 'paper':
                values[level] += self._summed(level, strong, temperatures, mask)
            elif level == 'instance':
                values[level] += self._summed(level, strong, temperatures[:3], mask)
                values[level] += self._summed(level, weak, temperatures[3:], mask)
        count = jnp.maximum(jnp.sum(mask), 1)
        logs = {name: jnp.sum(jnp.where(mask > 0, value, 0)) / count.astype(value.dtype)
                for name, value in values.items()}  # fmt: skip
        summands = list(values.values())
        return TermOut(total(summands), memory, logs)

    def _strong(self, inputs: TermInputs) -> tuple[Array, ...]:
        if not self.strong:
            return ()
        sides = inputs.student.features[self.strong], inputs.teacher.features[self.strong]
        if any(side.shape != inputs.student.logits.shape for side in sides):
            raise UsageError(f'strong views {sides[0].shape} and {sides[1].shape} in {self.strong!r} must have the '
                             f'shape of the logits {inputs.student.logits.shape}')  # fmt: skip
        return sides

    def _summed(self, level: str, logits: Sequence[Array], temperatures: Sequence[Array | float], mask: Array) -> Array:
        """Of (student, teacher) logits over temperatures. (B,)"""
        total = jnp.zeros(mask.shape, jnp.float32)
        for temperature in temperatures:
            value = self._value(level, logits, temperature, mask)
            total = total.astype(value.dtype) + value
        return total

    def _value(self, level: str, logits: Sequence[Array], temperature: Array | float, mask: Array) -> Array:
        """Of (student, teacher) logits at one temperature. (B,)"""
        if level == 'instance':
            student, teacher = (standardized(z) if self.standardized else z for z in logits)
            return jnp.square(temperature) * divergence(teacher, student, temperature)
        student_BK, teacher_BK = (
            jnp.where(mask[:, None] > 0, jax.nn.softmax(wide(z) / temperature, axis=-1), 0) for z in logits
        )
        if level == 'batch':
            return jnp.sum(jnp.square(student_BK @ student_BK.T - teacher_BK @ teacher_BK.T), axis=1)
        square = jnp.sum(jnp.square(student_BK.T @ student_BK - teacher_BK.T @ teacher_BK))
        return jnp.broadcast_to(square / student_BK.shape[1], mask.shape)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form) for form in cls.FORMS), cls(strong='', standardized=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrongLabels(Term):
    """-log p_y of the strong view, in a tap of the student. Values: (B,).

    Attributes:
      tap: the student's tap with the logits, (B, K).
    """

    PAPER: ClassVar[Paper] = PAPER
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    tap: str = 'strong'

    def taps(self) -> Taps:
        return Taps(student=(self.tap,))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        return label_loss(inputs.student.features[self.tap], inputs.batch['labels'])


def _shares(teacher_BK: Array, mask: Array) -> dict[str, Array]:
    """Of examples and classes, the share with at most the median of the teacher's confidence or mass."""
    probability_BK = jnp.where(mask[:, None] > 0, jax.nn.softmax(wide(teacher_BK), axis=-1), 0)
    sure_B, mass_K = jnp.max(probability_BK, axis=1), jnp.sum(probability_BK, axis=0)
    examples = _below_median(sure_B, mask > 0)
    return {'instance': examples, 'batch': examples, 'class': _below_median(mass_K, jnp.ones(mass_K.shape, bool))}


def _below_median(x: Array, real: Array) -> Array:
    """Share of the real entries that are at most their median, the mean of the middle two. ()"""
    low = jnp.sum(real & (x <= real_median(x, real)))
    return low.astype(x.dtype) / jnp.maximum(jnp.sum(real), 1).astype(x.dtype)
