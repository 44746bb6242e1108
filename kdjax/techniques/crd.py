"""Contrastive representation distillation: both networks' embeddings of one example agree, of two examples do not."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_keys, example_mask, real_rows, unit
from kdjax.techniques.base import Knobs, Paper, Scope, apply_module, init_module, number
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree

ADDED = 1e-7  # to the denominators, as in the authors' code
# A row that is gathered costs as much as so many that a matrix product passes over: on CPUs 12 where everything fits in
# the cache to 50 where nothing does.
GATHERED = 32


def scores_of_all(x_BD: Array, bank_ND: Array, chosen_BK: Array) -> Array:
    """Inner products with the chosen rows of a bank: one matrix product with all of it, then scalars. (B, K)

    The gradient adds those scalars up to (B, N) and is one more product. Memory: B N numbers.
    """
    return jnp.take_along_axis(x_BD @ bank_ND.T, chosen_BK, axis=1, mode='promise_in_bounds')


def scores_of_rows(x_BD: Array, bank_ND: Array, chosen_BK: Array) -> Array:
    """The same where the bank has many more rows than are chosen. Memory: B K D numbers."""
    return jnp.einsum('bd,bkd->bk', x_BD, bank_ND[chosen_BK])


class _Seen(NamedTuple):
    """What a call works with."""

    student: Array  # embeddings of length 1, (B, width)
    teacher: Array
    ids: Array  # rows in the banks; `examples`, a row that is not there, for padding and for ids outside. (B,)
    outside: Array  # whether an id of a real example is outside. (B,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveRepresentation(LayerTerm):
    """-log h(s_i, t_i) - sum_j log(1 - h(s_i, t_j)) over negatives j, and with s and t exchanged. Values: (B,).

    h(s, t) = P / (P + m / n), P = exp(s . t / tau) / Z (sec. 3.1, noise-contrastive as in the authors' code):
    s and t are linear embeddings, learned on both sides, of length 1; m is the number of negatives, n that of training
    examples. The other side of a pair comes from a bank with one embedding per training example, which after each step
    moves to momentum * old + (1 - momentum) * new, scaled to length 1. Z is n times the mean of exp(s . t / tau) over
    the batch that the fit starts from, and stays.

    The m negatives of an example are drawn with replacement from the examples of other classes that had a label in a
    batch so far, this one included; where there are none, from all others. Every device remembers the same.

    Where the banks are not much larger than what is drawn, all scores come from one matrix product (`scores_of_all`).

    The value of a real example whose id is not in 0 ... examples - 1 is nan, so that training stops at it.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      examples: n; 0 is refused, it must be given.
      negatives: m.
      width: of the embeddings.
      temperature: tau, > 0; no knob, since Z is computed with it once.
      momentum: how slowly the banks move, in [0, 1).
    """

    PAPER: ClassVar[Paper] = Paper(
        'Tian, Krishnan, Isola', 'Contrastive Representation Distillation', 'ICLR', 2020, '1910.10699'
    )
    LABELS: ClassVar[bool] = True
    scope: ClassVar[Scope] = 'batch'
    DRAWS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    examples: int = 0
    negatives: int = number(16384, minimum=1)
    width: int = number(128, minimum=1)
    temperature: float = number(0.07, above=0.0)
    momentum: float = number(0.5, minimum=0.0, below=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 2:
            raise UsageError(
                'examples of ContrastiveRepresentation must be at least 2, the number of training examples, '
                f'got {self.examples!r}'
            )

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        keys = dict(zip(('student', 'teacher', 'student_bank', 'teacher_bank', 'draws'), jax.random.split(key, 5),
                        strict=True))  # fmt: skip
        sides = dict(zip(('student', 'teacher'), self.features(inputs), strict=True))
        params = {name: init_module(nn.Dense(self.width), keys[name], rows) for name, rows in sides.items()}
        bound = 1 / math.sqrt(self.width / 3)
        memory = {
            bank: jax.random.uniform(keys[bank], (self.examples, self.width), minval=-bound, maxval=bound)
            for bank in ('student_bank', 'teacher_bank')
        }
        memory['labels'] = jnp.full(self.examples, -1, jnp.int32)
        return params, {**memory, **self.normalisers(params, memory, inputs, keys['draws'])}

    def normalisers(self, params: Tree, memory: Tree, inputs: TermInputs, key: Array) -> Tree:
        """log Z of both sides, from this batch; log n where nothing in it is real."""
        seen = self._embedded(params, inputs)
        chosen = self._chosen(seen, self._labelled(memory['labels'], seen, inputs), inputs, key)
        mask = example_mask(inputs)[:, None] > 0
        found = {}
        for side, scores in zip(('student', 'teacher'), self._scores(seen, memory, chosen), strict=True):
            count = jnp.sum(mask) * scores.shape[1]
            mean = jax.nn.logsumexp(jnp.where(mask, scores, -jnp.inf)) - jnp.log(jnp.maximum(count, 1))
            found[f'{side}_log_z'] = math.log(self.examples) + jnp.where(count > 0, mean, 0)
        return found

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        seen = self._embedded(params, inputs)
        labels = self._labelled(memory['labels'], seen, inputs)
        student, teacher = self._scores(seen, memory, self._chosen(seen, labels, inputs, key))
        values = self._estimate(student - memory['student_log_z']) + self._estimate(teacher - memory['teacher_log_z'])
        moved = {
            'student_bank': self._moved(memory['student_bank'], seen.student, seen, inputs),
            'teacher_bank': self._moved(memory['teacher_bank'], seen.teacher, seen, inputs),
            'labels': labels,
        }
        return TermOut(jnp.where(seen.outside, jnp.nan, values), {**memory, **moved}, {})

    def contrast_ids(self, ids_B: Array, labels_B: Array, known_n: Array, keys_B: Array) -> Array:
        """The rows of the banks that each example is contrasted with. (B, negatives)

        Args:
          ids_B, labels_B: of the examples.
          known_n: labels of the training examples seen so far, -1 for the others.
          keys_B: random keys of the examples.
        """

        # Sorted by label, the examples of a class are neighbours, behind all that are unknown: the others of each class
        # are a range with a gap, so that a draw is arithmetic, on one order for the whole batch.
        order_n = jnp.argsort(known_n)
        sorted_n = known_n[order_n]
        unknown = jnp.searchsorted(sorted_n, 0)

        def draw(own: Array, label: Array, key: Array) -> Array:
            gap = jnp.maximum(jnp.searchsorted(sorted_n, jnp.stack([label, label + 1])), unknown)
            any_other = self.examples - unknown > gap[1] - gap[0]
            start = jnp.where(any_other, unknown, 0)
            gap = jnp.where(any_other, gap, jnp.stack([own, own + 1]))
            count = self.examples - start - (gap[1] - gap[0])
            # The remainder of 32 bits: no row is likelier than another by more than one in 2^32 / count.
            drawn = jax.random.bits(key, (self.negatives,), jnp.uint32) % count.astype(jnp.uint32)
            place = start + drawn.astype(start.dtype)
            place = jnp.where(place < gap[0], place, place + gap[1] - gap[0])
            return jnp.where(any_other, order_n[place], place)

        return jax.vmap(draw)(ids_B, labels_B.astype(known_n.dtype), keys_B)

    def features(self, inputs: TermInputs) -> Pair:
        labels, mask = inputs.batch['labels'], inputs.batch['mask']
        if labels.ndim != 1 or mask.ndim != 1:
            raise UsageError(f'ContrastiveRepresentation needs one label per example, got labels {labels.shape}')
        student, teacher = super().features(inputs)
        return real_rows(student, inputs), real_rows(teacher, inputs)

    def _embedded(self, params: Tree, inputs: TermInputs) -> _Seen:
        student, teacher = (
            unit(apply_module(nn.Dense(self.width), params[side], rows))
            for side, rows in zip(('student', 'teacher'), self.features(inputs), strict=True)
        )
        ids, real = inputs.batch['id'], example_mask(inputs) > 0
        inside = (ids >= 0) & (ids < self.examples)
        return _Seen(student, teacher, jnp.where(real & inside, ids, self.examples), real & ~inside)

    def _labelled(self, known_n: Array, seen: _Seen, inputs: TermInputs) -> Array:
        return known_n.at[seen.ids].set(inputs.batch['labels'].astype(known_n.dtype), mode='drop')

    def _chosen(self, seen: _Seen, known_n: Array, inputs: TermInputs, key: Array) -> Array:
        """Rows of the banks: the example's own, then its negatives. (B, 1 + negatives)"""
        own = jnp.minimum(seen.ids, self.examples - 1)  # padding and nan may read any row
        others = self.contrast_ids(own, inputs.batch['labels'], known_n, example_keys(key, inputs))
        return jnp.concatenate([own[:, None], others.astype(own.dtype)], axis=1)

    def _scores(self, seen: _Seen, memory: Tree, chosen: Array) -> tuple[Array, Array]:
        """s . t / tau of the student with the teacher's bank, and the reverse; both (B, 1 + negatives)."""
        score = scores_of_all if self.examples <= GATHERED * chosen.shape[1] else scores_of_rows
        student, teacher = (
            score(side, jax.lax.stop_gradient(memory[bank]).astype(side.dtype), chosen)
            for side, bank in ((seen.student, 'teacher_bank'), (seen.teacher, 'student_bank'))
        )
        return student / self.temperature, teacher / self.temperature

    def _estimate(self, log_p: Array) -> Array:
        """-log h of the first column, -log(1 - h) of the others, in logarithms so that nothing overflows. (B,)"""
        noise = self.negatives / self.examples
        log_rest = jnp.logaddexp(log_p, math.log(noise + ADDED)) - math.log(noise)
        return jnp.sum(log_rest, axis=1) + math.log(noise) - log_p[:, 0]

    def _moved(self, bank: Array, embedding: Array, seen: _Seen, inputs: TermInputs) -> Array:
        """The bank after this batch; several views of one example count by their mean, in whatever order they lie."""
        same = (seen.ids[:, None] == seen.ids).astype(embedding.dtype) * example_mask(inputs).astype(embedding.dtype)
        embedding = jax.lax.stop_gradient(embedding)
        mean = same @ embedding / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1)
        old = bank[jnp.minimum(seen.ids, self.examples - 1)]
        new = unit(self.momentum * old + (1 - self.momentum) * mean.astype(bank.dtype))
        return bank.at[seen.ids].set(new, mode='drop')

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        small = cls(examples=200, negatives=7, width=5, temperature=0.5)
        return [small, dataclasses.replace(small, layer='stage2:penult')]
