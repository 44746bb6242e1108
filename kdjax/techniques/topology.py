"""Topology distillation: how the users and items of a batch lie to each other is as in the teacher's space."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.techniques import mixture
from kdjax.techniques.algebra import example_keys, example_mask, log_softmax, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, apply_module, knob, number
from kdjax.techniques.candidates import once, thinned
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree

PAPER = Paper(
    'Kang, Hwang, Kweon, Yu', 'Topology Distillation for Recommender System', 'KDD', 2021, '2106.08700',
)  # fmt: skip
ADDED = 1e-10  # to the probabilities of groups, as in the authors' code
LEVELS = ('prototypes', 'entities')
SIDES = ('users', 'items')


class Entities(NamedTuple):
    """The users and the items of a batch, one after the other: E = B (1 + n)."""

    student: Array  # (E, D), 0 where there is padding
    teacher: Array  # (E, D')
    counts: Array  # (E,) how much each counts; 0 for padding
    examples: int  # B

    @property
    def sides(self) -> tuple[slice, slice]:
        """Where users are, and items."""
        return slice(self.examples), slice(self.examples, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Topology(Term):
    """
    Attributes:
      user, items: taps of the embeddings of the user (B, D) and of the items (B, n, D) of an interaction.
      columns: two columns of the batch, ids of the user (B,) and of the items (B, n): of those that are equal only one
        counts, as in the authors' code. () where each counts.
      every: of so many interactions of a batch the first counts, and stands for the others. Pairs are then so many
        times squared fewer, and sums over k so many times shorter.
    """

    PAPER: ClassVar[Paper] = PAPER
    OTHER_CLASSES: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('recommendation',)
    COLUMNS: ClassVar[tuple[str, ...]] = ('columns',)

    user: str = 'user_vector'
    items: str = 'item_vectors'
    columns: tuple[str, ...] = ()
    every: int = number(1, minimum=1)

    @property
    def scope(self) -> Scope:
        return 'batch'

    def taps(self) -> Taps:
        return Taps((self.user, self.items), (self.user, self.items))

    def entities(self, inputs: TermInputs) -> Entities:
        """The users, then the items, of the interactions that count."""
        return self._entities(self.part(inputs))

    def _entities(self, inputs: TermInputs) -> Entities:
        mask_B = example_mask(inputs)
        student, teacher = (self._joined(side, mask_B) for side in inputs[:2])
        each = student.shape[0] // len(mask_B) - 1
        mask_E = jnp.concatenate([mask_B, jnp.repeat(mask_B, each)])
        if not self.columns:
            return Entities(student, teacher, mask_E, len(mask_B))
        user_B, items_BN = (self._column(name, inputs) for name in self.columns)
        counts = once(user_B, mask_B), once(items_BN.reshape(-1), jnp.repeat(mask_B, each))
        return Entities(student, teacher, mask_E * jnp.concatenate(counts), len(mask_B))

    def part(self, inputs: TermInputs) -> TermInputs:
        """The interactions that count."""
        return inputs if self.every == 1 else thinned(inputs, self.every, type(self).__name__)

    def _column(self, name: str, inputs: TermInputs) -> Array:
        if name not in inputs.batch:
            raise unknown('column', name, inputs.batch, f' of the batch, read by {type(self).__name__}')
        return inputs.batch[name]

    def _joined(self, side: Outputs, mask_B: Array) -> Array:
        user, items = (wide(side.features[tap]) for tap in (self.user, self.items))
        if user.ndim != 2 or items.ndim != 3:
            raise UsageError(f'{type(self).__name__} reads embeddings (B, D) and (B, n, D), got {user.shape} and '
                             f'{items.shape}')  # fmt: skip
        real = mask_B > 0
        user, items = jnp.where(real[:, None], user, 0), jnp.where(real[:, None, None], items, 0)
        return jnp.concatenate([user, items.reshape(-1, items.shape[-1])])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullTopology(_Topology):
    """sum_jk (cos(s_j, s_k) - cos(t_j, t_k))^2 over all entities of a batch (eq. 2-3). Values: (B,).

    An example's value is the sum over its own user and items j and over all k: the mean over the B examples is the
    authors' sum over B, as it is of their other losses.
    """

    at_teacher: ClassVar[AtTeacher] = 'zero'

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        known = self.entities(inputs)
        gap_E = gaps(unit(known.student), unit(known.teacher), known.counts)
        return jnp.repeat(by_example(known.counts * gap_E, known.examples), self.every)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(columns=('user', 'items'))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HierarchicalTopology(_Topology):
    """alpha (topology within groups, and of the groups) + (1 - alpha) (assignment to groups). Values: (B,).

    Users and items are each assigned to groups by a learned softmax of the teacher's embedding. Assignment is learned
    as experts are in DE: || t - sum_g z_g f_g(s) ||^2 with z = softmax((log p + Gumbel) / T) (eq. 7-8). The
    topology, with the likeliest group of each, is sum (cos(s_j, s_k) - cos(t_j, t_k))^2 over pairs of one group, as
    far as cos(t_j, t_k) > 0, and the same of prototypes, the means of the groups: with each other, or with all
    entities (eq. 4-6). In the authors' code prototypes are constants, so that the first of these would teach nothing.

    Attributes:
      groups: how many of users, and how many of items.
      level: what prototypes are held against: 'prototypes' or 'entities'.
      temperature: T; knob, > 0.
      topology: alpha, in [0, 1]; knob.
      experts_every: of so many interactions that count the first is in the assignment, and stands for the others; all
        are in the topology. Experts cost four times as much as the topology of 1,024 interactions.
    """

    DRAWS: ClassVar[bool] = True

    groups: int = number(30, minimum=2)
    level: str = 'prototypes'
    temperature: float = knob(0.1, above=0.0)
    topology: float = knob(0.5, minimum=0.0, maximum=1.0)
    experts_every: int = number(1, minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in LEVELS:
            raise unknown('level', self.level, LEVELS, ' of HierarchicalTopology')

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        known = self.entities(inputs)
        width = (known.student.shape[1] + known.teacher.shape[1]) // 2
        return {
            side: mixture.init(jax.random.fold_in(key, place), self.groups, width, known.student, known.teacher)
            for place, side in enumerate(SIDES)
        }, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        counting, share = self.part(inputs), knobs['topology']
        known = self._entities(counting)
        groups = [
            jnp.argmax(_log_gate(params[side], self.groups, known.teacher[part]), axis=1) + place * self.groups
            for place, (side, part) in enumerate(zip(SIDES, known.sides, strict=True))
        ]
        topology = jnp.repeat(self._topology(known, jnp.concatenate(groups)), self.every)
        assignment = jnp.repeat(self._assignment(params, counting, knobs, key), self.every * self.experts_every)
        return TermOut(share * topology + (1 - share) * assignment, memory, {})

    def _assignment(self, params: Tree, inputs: TermInputs, knobs: Knobs, key: Array) -> Array:
        """Distances of what the experts say, of the interactions they see. (A,)"""
        if self.experts_every > 1:
            inputs = thinned(inputs, self.experts_every, type(self).__name__, 'experts_every')
        known, keys = self._entities(inputs), example_keys(key, inputs)
        each = known.student.shape[0] // known.examples - 1
        own = keys, jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 1), each))(keys).reshape(-1)
        distance = [
            self._distances(params[side], known.student[part], known.teacher[part], keys_E, knobs)
            for side, part, keys_E in zip(SIDES, known.sides, own, strict=True)
        ]
        return by_example(known.counts * jnp.concatenate(distance), known.examples)

    def _distances(self, params: Tree, student: Array, teacher: Array, keys_E: Array, knobs: Knobs) -> Array:
        """Of users, or of items. (E,)"""
        log_p_EG = _log_gate(params, self.groups, teacher)
        noise_EG = jax.vmap(lambda key: jax.random.gumbel(key, (self.groups,), jnp.float32))(keys_E)
        softened = jnp.logaddexp(log_p_EG, jnp.log(jnp.asarray(ADDED, log_p_EG.dtype))) + noise_EG.astype(
            log_p_EG.dtype
        )
        guess = mixture.guessed(params['experts'], jax.nn.softmax(softened / knobs['temperature']), student)
        return jnp.sum(jnp.square(teacher - guess), axis=1)

    def _topology(self, known: Entities, group_E: Array) -> Array:
        """Both levels, (B,). A group counts as its members do: shared among them."""
        counted_EG = jax.nn.one_hot(group_E, 2 * self.groups, dtype=known.student.dtype) * known.counts[:, None]
        size_G = jnp.sum(counted_EG, axis=0)
        share_EG = counted_EG / jnp.where(size_G > 0, size_G, 1)
        # No group has users and items.
        within = jnp.concatenate([_within(known, group_E, part) for part in known.sides])
        centres = [share_EG.T @ side for side in known[:2]]
        filled_G = (size_G > 0).astype(known.student.dtype)
        if self.level == 'entities':
            gap_GE = jnp.square(cosines(centres[0], known.student) - cosines(centres[1], known.teacher))
            across = known.counts * (filled_G @ gap_GE)
        else:
            gap_GG = jnp.square(cosines(centres[0], centres[0]) - cosines(centres[1], centres[1]))
            across = share_EG @ (filled_G * (gap_GG @ filled_G))
        return by_example(within + across, known.examples)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(groups=2), cls(groups=3, level='entities', temperature=0.5, columns=('user', 'items'))]


def _log_gate(params: Tree, groups: int, teacher: Array) -> Array:
    """log p of each group. (E, G)"""
    return log_softmax(apply_module(nn.Dense(groups), params['gate'], teacher))


def _within(known: Entities, group_E: Array, part: slice) -> Array:
    """What users, or items, add of the topology within groups."""
    group, counts, own = group_E[part], known.counts[part], unit(known.student[part])
    other = cosines(known.teacher[part], known.teacher[part])
    together = (group[:, None] == group) & (other > 0)
    return counts * _compared(own, other, together, counts)


@jax.custom_vjp
def _compared(own_ED: Array, other_EE: Array, together_EE: Array, counts_E: Array) -> Array:
    """sum_k counts_k (s_j . s_k - t_j . t_k)^2 over the k that j is compared with, and k with j. (E,)

    Of s alone there is a gradient. A pair is in the sums of both its entities, with one difference. So its gradient is
    one product of the pairs with all s, where that of s @ s.T is two, of which the second, by columns, is the slower.
    """
    return _forth(own_ED, other_EE, together_EE, counts_E)[0]


def _forth(own_ED: Array, other_EE: Array, together_EE: Array, counts_E: Array) -> tuple[Array, tuple[Array, ...]]:
    gap_EE = jnp.where(together_EE, own_ED @ own_ED.T - other_EE, 0)
    return jnp.square(gap_EE) @ counts_E, (own_ED, gap_EE, counts_E)


def _back(kept: tuple[Array, ...], slope_E: Array) -> tuple[Array | None, ...]:
    own_ED, gap_EE, counts_E = kept
    of_pair_EE = slope_E[:, None] * counts_E + counts_E[:, None] * slope_E
    return 2 * (gap_EE * of_pair_EE) @ own_ED, None, None, None


_compared.defvjp(_forth, _back)


def gaps(student_ED: Array, teacher_EK: Array, counts_E: Array) -> Array:
    """Sums over all k of counts_k (s_j . s_k - t_j . t_k)^2, which is s_j' S s_j - 2 s_j' X t_j + t_j' T t_j with the
    moments S = sum_k counts_k s_k s_k', X of s_k t_k' and T of t_k t_k'. (E,)

    So no pair is looked at: E (D + K)^2 operations and not E^2 (D + K), a seventh where 3,072 entities have 20 and 200
    numbers.
    """

    def product(left: Array, right: Array) -> Array:
        return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)  # what is left is small beside each

    def moment(left: Array, right: Array) -> Array:
        """What left says of itself and of right, by entity. (E,)"""
        return jnp.sum(product(left, product((left * counts_E[:, None]).T, right)) * right, axis=1)

    return moment(student_ED, student_ED) - 2 * moment(student_ED, teacher_EK) + moment(teacher_EK, teacher_EK)


def cosines(left: Array, right: Array) -> Array:
    """Cosines of all pairs of rows; 0 with a row of 0."""
    return unit(left) @ unit(right).T


def by_example(values_E: Array, examples: int) -> Array:
    """Sums of the values of an example's user and items. (B,)"""
    return values_E[:examples] + jnp.sum(values_E[examples:].reshape(examples, -1), axis=1)
