"""Curriculum temperature: the temperature is learned against the student, ever harder as training goes on."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import same_classes, wide
from kdjax.techniques.base import (
    AtTeacher,
    Knobs,
    Paper,
    Schedule,
    Term,
    apply_module,
    checked_schedules,
    init_module,
    knob,
)
from kdjax.techniques.distributions import divergence, standardized
from kdjax.types import Array, TermInputs, TermOut, Tree


@jax.custom_vjp
def _reversed(x: Array, strength: Array) -> Array:
    """`x`, whose gradient is multiplied by -strength."""
    del strength
    return x


_reversed.defvjp(
    lambda x, strength: (x, strength), lambda strength, slope: (-strength.astype(slope.dtype) * slope, None)
)


class _Temperature(nn.Module):
    """One number per example from both predictions: two layers, the hidden one of the width of the classes."""

    @nn.compact
    def __call__(self, x_BF: Array) -> Array:
        x_BH = nn.relu(nn.Dense(x_BF.shape[-1] // 2)(x_BF))
        return nn.Dense(1)(x_BH)[..., 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumTemperature(Term):
    """T^2 KL(p^t_T || p^s_T) with a learned T = T_min + T_range sigmoid(theta) (eq. 8). Values: (B,) or (B, N).

    The gradient that theta receives is multiplied by -lambda (eq. 4-5): the temperature ascends the loss that the
    student descends. lambda goes from `start` to `end` over `steps` steps, by a cosine (eq. 7) or a line.

    | form     | theta                                                            | as in                    |
    |----------|------------------------------------------------------------------|--------------------------|
    | global   | one learned number                                               | Global-T; the authors' code |
    | instance | a learned function of the two probability vectors of an example | Instance-T               |

    Attributes:
      lowest: T_min; knob, > 0.
      span: T_range; knob, > 0.
      start, end, steps, shape: the curriculum of lambda; a negative lambda makes the temperature descend too.
      standardized: whether logits are standardised first (Sun et al., 2024).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Li, Li, Yang, Zhao, Song, Luo, Li, Yang',
        'Curriculum Temperature for Knowledge Distillation',
        'AAAI',
        2023,
        '2211.16231',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('global', 'instance')
    at_teacher: ClassVar[AtTeacher] = 'zero'
    COUNTS: ClassVar[bool] = True

    lowest: float = knob(1.0, above=0.0)
    span: float = knob(20.0, above=0.0)
    start: float = 0.0
    end: float = 1.0
    steps: int = 1000
    shape: str = 'cosine'
    standardized: bool = False
    form: str = 'global'

    def __post_init__(self) -> None:
        super().__post_init__()
        # The curriculum obeys the rules of schedules, and answers with their errors.
        checked_schedules(type(self).__name__, (self._curriculum,), {self._curriculum.knob: 1.0})

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = same_classes(inputs)
        if self.form == 'global':
            return {'theta': jnp.ones((), wide(student).dtype)}, {}  # the authors' start: T of about 15.6
        return init_module(_Temperature(), key, _probabilities(student, teacher)), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = same_classes(inputs)
        if self.standardized:
            student, teacher = standardized(student), standardized(teacher)
        temperature = self.temperature(params, inputs, knobs, self.strength(step))
        values = divergence(teacher, student, temperature[..., None]) * jnp.square(temperature)
        return TermOut(values, memory, {})

    def strength(self, step: Array) -> Array:
        """lambda at a step. ()"""
        return self._curriculum.factor(step)

    def temperature(self, params: Tree, inputs: TermInputs, knobs: Knobs, strength: Array) -> Array:
        """T, () or as the values; its gradient is reversed."""
        theta = params['theta'] if self.form == 'global' else self._theta(params, inputs)
        theta = _reversed(theta, strength)
        return wide(knobs['lowest'] + knobs['span'] * jax.nn.sigmoid(theta))

    def _theta(self, params: Tree, inputs: TermInputs) -> Array:
        # The module alone plays against the student: its inputs are given, not moved.
        return apply_module(_Temperature(), params, jax.lax.stop_gradient(_probabilities(*same_classes(inputs))))

    @property
    def _curriculum(self) -> Schedule:
        return Schedule('theta', self.start, self.end, self.steps, self.shape)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # lambda = -1 turns nothing round: the laws ask for the gradient of the value.
        return [cls(form=form, span=2.0, start=-1.0, end=-1.0) for form in cls.FORMS]


def _probabilities(student: Array, teacher: Array) -> Array:
    return jnp.concatenate([jax.nn.softmax(wide(logits), axis=-1) for logits in (student, teacher)], axis=-1)
