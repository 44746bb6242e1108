"""Confidence-aware teachers: of several teachers, the one nearest to the label teaches an example most."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.algebra import flat, pooled
from kdjax.techniques.base import Knobs, Paper, Taps, apply_module, init_module, knob
from kdjax.techniques.distributions import EnsembleTerm, divergence, label_loss, member_logits, member_taps
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper(
    'Zhang, Chen, Wang',
    'Confidence-Aware Multi-Teacher Knowledge Distillation',
    'ICASSP',
    2022,
    '2201.00007',
)
FORMS = ('paper', 'code')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfidentTeachers(EnsembleTerm):
    """sum_m w_m T^2 KL(p^m_T || p^s_T), w_m = (1 - softmax_m(CE_m)) / (M - 1) per example (eq. 3-4). Values: (B,).

    CE_m is the teacher's cross-entropy with the label, at temperature 1. Forms: 'paper': weights sum to 1; 'code':
    divided by M once more, as the authors' code averages.

    Attributes:
      members: M, teachers in the ensemble, at least 2.
      temperature: T; knob, > 0.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = FORMS
    LABELS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    temperature: float = knob(4.0, above=0.0)
    form: str = 'paper'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits_BMK, temperature = member_logits(inputs, self.members), knobs['temperature']
        divergence_BM = divergence(logits_BMK, inputs.student.logits[:, None], temperature)
        values = jnp.sum(_weights(logits_BMK, inputs.batch['labels'], self.form) * divergence_BM, axis=1)
        return values * jnp.square(temperature)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfidentHints(EnsembleTerm):
    """sum_m w_m mean_d (r_m(f_s) - f_m)^2 with a learned regressor r_m per teacher (eq. 7). Values: (B,).

    Weights come from the teachers' own predictions, as in `ConfidentTeachers` and its forms; the paper takes them from
    the teachers' classifiers on r_m(f_s) (eq. 5-6), which are not part of what a term sees.

    Attributes:
      layer: the student's tap, vectors (B, D), or maps, which are averaged over positions.
      tap: the same of every member of the teacher, without 'member0/'.
      members: M, teachers in the ensemble, at least 2.
      form: see `ConfidentTeachers`.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = FORMS
    LABELS: ClassVar[bool] = True
    reads_logits: ClassVar[tuple[bool, bool]] = (True, False)
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    layer: str = 'penult'
    tap: str = 'penult'
    form: str = 'paper'

    def taps(self) -> Taps:
        return Taps((self.layer,), (*super().taps().teacher, *member_taps(self.tap, self.members)))

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teachers = self._read(inputs)
        return {
            f'member{k}': init_module(nn.Dense(teacher.shape[1]), jax.random.fold_in(key, k), student)
            for k, teacher in enumerate(teachers)
        }, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teachers = self._read(inputs)
        distance_BM = jnp.stack([
            jnp.mean(jnp.square(apply_module(nn.Dense(teacher.shape[1]), params[f'member{k}'], student) - teacher), 1)
            for k, teacher in enumerate(teachers)
        ], axis=1)  # fmt: skip
        weights_BM = _weights(member_logits(inputs, self.members), inputs.batch['labels'], self.form)
        return TermOut(jnp.sum(weights_BM * distance_BM, axis=1), memory, {})

    def _read(self, inputs: TermInputs) -> tuple[Array, list[Array]]:
        teachers = [flat(pooled(inputs.teacher.features[tap])) for tap in member_taps(self.tap, self.members)]
        return flat(pooled(inputs.student.features[self.layer])), teachers


def _weights(logits_BMK: Array, labels_B: Array, form: str) -> Array:
    members = logits_BMK.shape[1]
    loss_BM = label_loss(logits_BMK, jnp.broadcast_to(labels_B[:, None], logits_BMK.shape[:2]))
    return (1 - jax.nn.softmax(loss_BM, axis=1)) / ((members - 1) * (members if form == 'code' else 1))
