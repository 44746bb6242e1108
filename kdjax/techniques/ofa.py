"""One-for-all: stages of any architecture are compared where all are alike, in the logits."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import log_softmax, same_classes, total
from kdjax.techniques.base import Knobs, Paper, knob
from kdjax.techniques.exits import ExitTerm, exit_vector
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Exit(nn.Module):
    """Logits from a feature: a layer that looks at neighbours or tokens, a mean over positions, a linear layer."""

    classes: int

    @nn.compact
    def __call__(self, x: Array, real_BN: Array | None = None) -> Array:
        x = exit_vector(x, real_BN)
        return nn.Dense(self.classes)(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneForAll(ExitTerm):
    """-sum_c [(p^t_c + 1_{c=y})^gamma - 1_{c=y}] log p^s_c, summed over the student's exits (eq. 6). Values: (B,).

    p = softmax(z / T); no factor T^2. gamma > 1 raises the label's share of a teacher that is sure of it; gamma = 1 is
    the cross-entropy with the teacher's soft labels.

    Attributes:
      layers: taps of the student that get a learned head each, maps (B, H, W, C), tokens (B, N, D) or vectors (B, D);
        () for the student's own logits. The paper sums both: two terms.
      gamma: the exponent; knob, > 0.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Hao, Guo, Han, Tang, Hu, Wang, Xu',
        'One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation',
        'NeurIPS',
        2023,
        '2310.19444',
    )
    LABELS: ClassVar[bool] = True
    PLAIN: ClassVar[Mapping[str, Any]] = {'layers': ()}
    reads_logits: ClassVar[tuple[bool, bool]] = (True, True)

    gamma: float = knob(1.5, above=0.0)
    temperature: float = knob(1.0, above=0.0)

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = same_classes(inputs)
        exits = self.answers(params, inputs) or [student]
        return TermOut(total([self._value(x, teacher, inputs.batch['labels'], knobs) for x in exits]), memory, {})

    def _value(self, student: Array, teacher: Array, labels: Array, knobs: Knobs) -> Array:
        log_teacher = log_softmax(teacher, knobs['temperature'])
        target = jax.nn.one_hot(labels, student.shape[-1], dtype=log_teacher.dtype)
        share = (jnp.exp(log_teacher) + target) ** knobs['gamma'] - target
        log_student = log_softmax(student, knobs['temperature'])
        return -jnp.sum(share * jnp.maximum(log_student, jnp.finfo(log_student.dtype).min), axis=-1)

    def head(self, inputs: TermInputs) -> nn.Module:
        return _Exit(inputs.teacher.logits.shape[-1])

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layers=('stage1', 'penult')), cls(layers=('hidden1',), gamma=1.2)]
