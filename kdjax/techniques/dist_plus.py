"""DIST+: besides predictions, a feature map correlates with the teacher's, over channels and between examples."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_mask, flat, per_example, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, apply_module, init_module, knob
from kdjax.techniques.distributions import decorrelation
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapCorrelations(LayerTerm):
    """channel * (1 - rho over channels) + spatial * (1 - rho between examples). Values: (B,).

    What DIST+ adds to DIST (dist.Correlations), of which it is a sum. The first rho is Pearson's correlation of the two
    maps' channels, averaged over positions; the second that of the sums over channels at a position, between the real
    examples of the *global* batch, averaged over positions. Forms: 'relation' is the above; 'torchdistill' has
    + rho over channels in the place of 1 - rho, which pushes the channels apart.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', maps (B, H, W, C) of one height and width.
      projector: whether a linear map of the student's channels to the teacher's is learned; without one, the maps must
        have as many channels.
      channel: weight over channels (iota); knob, >= 0.
      spatial: weight between examples (kappa); knob, >= 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Huang, You, Wang, Qian, Xu', 'DIST+: Knowledge Distillation From a Stronger Adaptive Teacher', 'TPAMI', 2025
    )
    FORMS: ClassVar[tuple[str, ...]] = ('relation', 'torchdistill')
    scope: ClassVar[Scope] = 'batch'
    PLAIN: ClassVar[Mapping[str, Any]] = {'projector': False}

    layer: str = 'stage2'
    projector: bool = False
    channel: float = knob(1.0, minimum=0.0)
    spatial: float = knob(1.0, minimum=0.0)
    form: str = 'relation'

    @property
    def at_teacher(self) -> AtTeacher:
        # What is added to the product of norms keeps the correlation of a map with itself a little below 1.
        return 'free' if self.projector else 'stationary'

    @property
    def minimum(self) -> float:
        return 0.0 if self.form == 'relation' else -float('inf')

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        return (init_module(nn.Dense(teacher.shape[3]), key, student) if self.projector else {}), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        if self.projector:
            student = apply_module(nn.Dense(teacher.shape[3]), params, student)
        over_channels = per_example(decorrelation(student, teacher, 3, added=1e-8))
        first = over_channels if self.form == 'relation' else 1 - over_channels
        sums = flat(jnp.sum(student, axis=3)), flat(jnp.sum(teacher, axis=3))
        between = jnp.mean(decorrelation(*sums, 0, example_mask(inputs)[:, None]))
        return TermOut(knobs['channel'] * first + knobs['spatial'] * between, memory, {})

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = super().features(inputs)
        same = 3 if self.projector else 4
        if student.ndim != 4 or student.shape[:same] != teacher.shape[:same]:
            raise UsageError(
                f'correlations of {self.layer!r} need maps (B, H, W, C) of one shape, got {student.shape} and '
                f'{teacher.shape}; name other taps, or set projector=True where only the channels differ'
            )
        return wide(student), wide(teacher)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [*(cls(form=form, layer='map') for form in cls.FORMS), cls(projector=True)]
