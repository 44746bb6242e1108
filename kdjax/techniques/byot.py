"""Be your own teacher: the shallow parts of a network learn from its deepest."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import flat, total
from kdjax.techniques.base import Knobs, Paper, Taps, knob
from kdjax.techniques.distributions import divergence, label_loss
from kdjax.techniques.exits import ExitTerm, exit_vector
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Exit(nn.Module):
    """A feature of the deepest one's width, and logits from it."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, x: Array, real_BN: Array | None = None) -> tuple[Array, Array]:
        feature_BD = nn.Dense(self.width, name='feature')(exit_vector(x, real_BN))
        return feature_BD, nn.Dense(self.classes, name='logits')(feature_BD)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfDistillation(ExitTerm):
    """sum_i (1 - alpha) CE(q^i, y) + alpha T^2 KL(q^C_T || q^i_T) + lambda ||F_i - F_C||^2 (eq. 2-5). Values: (B,).

    Over exits i with learned heads; C is the deepest classifier, which is the student itself and a constant here (its
    own cross-entropy is a term of its own). Exits are dropped after training.

    Attributes:
      layers: taps of the student with an exit each, maps (B, H, W, C), tokens (B, N, D) or vectors (B, D).
      deepest: the tap of F_C, a vector (B, D).
      alpha: share of the soft labels, at most 1; knob, >= 0.
      hint: lambda; knob, >= 0.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zhang, Song, Gao, Chen, Bao, Ma',
        'Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation',
        'ICCV',
        2019,
        '1905.08094',
    )
    TEACHER: ClassVar[bool] = False
    LABELS: ClassVar[bool] = True
    reads_logits: ClassVar[tuple[bool, bool]] = (True, False)
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    layers: tuple[str, ...] = ('stage1', 'stage2')
    deepest: str = 'penult'
    alpha: float = knob(0.3, minimum=0.0, maximum=1.0)
    hint: float = knob(0.03, minimum=0.0)
    temperature: float = knob(3.0, above=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise UsageError("SelfDistillation needs at least one exit in layers, as ('stage1',)")

    def taps(self) -> Taps:
        return Taps(student=(*self.layers, *(() if self.deepest in self.layers else (self.deepest,))))

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        values = [self._value(feature, logits, inputs, knobs) for feature, logits in self.answers(params, inputs)]
        return TermOut(total(values), memory, {})

    def _value(self, feature_BD: Array, logits_BK: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        deepest = jax.lax.stop_gradient(inputs.student)
        soft = jnp.square(knobs['temperature']) * divergence(deepest.logits, logits_BK, knobs['temperature'])
        hint = jnp.sum(jnp.square(feature_BD - flat(deepest.features[self.deepest])), axis=1)
        hard = label_loss(logits_BK, inputs.batch['labels'])
        return (1 - knobs['alpha']) * hard + knobs['alpha'] * soft + knobs['hint'] * hint

    def head(self, inputs: TermInputs) -> nn.Module:
        width = inputs.student.features[self.deepest].shape
        if len(width) != 2:
            raise UsageError(f'deepest {self.deepest!r} must be a vector (B, D), got {width}')
        return _Exit(width[1], inputs.student.logits.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # With an exit on the deepest feature too, all that is read has a gradient.
        return [cls(layers=('stage1', 'penult')), cls(layers=('hidden1', 'penult'), alpha=0.5)]
