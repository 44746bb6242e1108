"""Distillation experts and relaxed ranking: a recommender's embeddings and its ranking are taught."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.techniques import mixture
from kdjax.techniques.algebra import example_keys, log_softmax, real_rows, same_classes
from kdjax.techniques.base import Knobs, Paper, Term, apply_module, knob, number
from kdjax.techniques.candidates import RankedCandidates, relaxed, thinned
from kdjax.techniques.distributions import real_logits
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper(
    'Kang, Hwang, Kweon, Yu', 'DE-RRD: A Knowledge Distillation Framework for Recommender System', 'CIKM', 2020,
    '2012.04357',
)  # fmt: skip
ADDED = 1e-10  # to the probabilities of experts, as in the authors' code


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationExperts(LayerTerm):
    """|| h_t - sum_m g_m E_m(h_s) ||^2, experts E_m chosen by the teacher's embedding (sec. 3.1). Values: (B,).

    g = softmax((log p + G) / T), p = softmax(gate(h_t)), G Gumbel noise: for T -> 0 one expert, drawn by p. Anneal T
    with a schedule, such as ('temperature', 1, 0.1, steps). Experts and gate are learned. The authors' code sums
    over the batch.

    Attributes:
      layer: features of any shape (B, ...), 'tap' or 'student_tap:teacher_tap'.
      each: whether features (B, n, D) are n embeddings, such as those of the items of an interaction, which share the
        experts; values are their mean.
      experts: how many, M.
      width: of an expert's inner layer; 0 for half of the two sides' sizes together.
      every: of so many examples the first is looked at, and stands for the others.
      temperature: T; knob, > 0.
    """

    PAPER: ClassVar[Paper] = PAPER
    DRAWS: ClassVar[bool] = True

    each: bool = False
    experts: int = 5
    width: int = 0
    every: int = number(1, minimum=1)
    temperature: float = knob(1.0, above=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts < 2 or self.width < 0:
            raise UsageError('DistillationExperts needs experts >= 2 (for one, fitnets.Hint) and width >= 0, '
                             f'got {self.experts!r} and {self.width!r}')  # fmt: skip

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        width = self.width or (student.shape[1] + teacher.shape[1]) // 2
        return mixture.init(key, self.experts, width, student, teacher), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        if self.every > 1:
            inputs = thinned(inputs, self.every, type(self).__name__)
        student, teacher = self.features(inputs)
        log_p_BM = log_softmax(apply_module(nn.Dense(self.experts), params['gate'], teacher))
        noise_BM = self.noise(_apart(example_keys(key, inputs), teacher.shape[0])).astype(log_p_BM.dtype)
        chosen_BM = jax.nn.softmax((jnp.logaddexp(log_p_BM, math.log(ADDED)) + noise_BM) / knobs['temperature'])
        distance = jnp.sum(jnp.square(teacher - mixture.guessed(params['experts'], chosen_BM, student)), axis=1)
        distance_B = jnp.mean(distance.reshape(inputs.batch['id'].shape[0], -1), axis=1)
        return TermOut(jnp.repeat(distance_B, self.every), memory, {})

    def noise(self, keys_B: Array) -> Array:
        """Gumbel noise of each example. (B, experts)"""
        return jax.vmap(lambda key: jax.random.gumbel(key, (self.experts,), jnp.float32))(keys_B)

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = super().features(inputs)
        if self.each and not student.ndim == teacher.ndim == 3:
            raise UsageError(f'DistillationExperts with each=True reads embeddings (B, n, D), got {student.shape} and '
                             f'{teacher.shape}')  # fmt: skip
        rows = (lambda x: (-1, x.shape[2])) if self.each else (lambda x: (x.shape[0], -1))
        return real_rows(student, inputs).reshape(rows(student)), real_rows(teacher, inputs).reshape(rows(teacher))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(experts=3), cls(layer='stage2:penult', experts=2, width=4, temperature=2.0),
                cls(layer='item_vectors', each=True, experts=2)]  # fmt: skip


def _apart(keys_B: Array, rows: int) -> Array:
    """A key for each of the embeddings of every example, of which there are `rows` together."""
    each = rows // keys_B.shape[0]
    return keys_B if each == 1 else jax.vmap(lambda key: jax.random.split(key, each))(keys_B).reshape(rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelaxedRanking(Term):
    """-log P(interesting items in the teacher's order, each before all uninteresting ones) (eq. 8). Values: (B,).

    -sum_k (s_k - log(sum_{l >= k} exp s_l + sum_u exp s_u)), Plackett-Luce without an order among the uninteresting.
    Logits (B, items) are scores of items. Interesting: drawn without replacement from the teacher's first `pool` items,
    that of rank r with a chance in proportion to exp(-r / sharpness), in the teacher's order; uninteresting: drawn
    uniformly, without replacement, from those behind the pool. Draws change from step to step, by the example's id.

    Attributes:
      interesting, uninteresting: how many of each are drawn.
      pool: how many of the teacher's first items may be interesting; at least `interesting`.
      sharpness: over how many ranks the chance falls by a factor e, > 0.
      skip_label: whether the label, which is known, is in neither.
    """

    PAPER: ClassVar[Paper] = PAPER
    DRAWS: ClassVar[bool] = True
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    interesting: int = 40
    uninteresting: int = 40
    pool: int = 100
    sharpness: float = 10.0
    skip_label: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.interesting <= self.pool or self.uninteresting < 1 or not self.sharpness > 0:
            raise UsageError(
                'RelaxedRanking needs 1 <= interesting <= pool, uninteresting >= 1 and sharpness > 0, got '
                f'{self.interesting!r}, {self.pool!r}, {self.uninteresting!r} and {self.sharpness!r}'
            )

    @property
    def reads_labels(self) -> bool:
        return self.skip_label

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = (real_logits(logits, inputs) for logits in same_classes(inputs))
        available = student.shape[-1] - self.skip_label
        if student.ndim != 2 or self.pool + self.uninteresting > available:
            raise UsageError(f'RelaxedRanking draws from the first {self.pool} items and {self.uninteresting} of the '
                             f'others, so it needs scores (B, items) of more, got logits {student.shape}')  # fmt: skip
        if self.skip_label:
            teacher = jnp.where(jax.nn.one_hot(inputs.batch['labels'], teacher.shape[1], dtype=bool), -jnp.inf, teacher)
        _, ranked = jax.lax.top_k(teacher, available)
        first, rest = self.drawn_ranks(available, example_keys(key, inputs))
        interesting, uninteresting = (
            jnp.take_along_axis(student, jnp.take_along_axis(ranked, ranks, axis=1), axis=1) for ranks in (first, rest)
        )
        return TermOut(relaxed(interesting, uninteresting), memory, {})

    def drawn_ranks(self, items: int, keys_B: Array) -> tuple[Array, Array]:
        """Ranks, from 0, of the interesting items, ascending (B, interesting), and of the others (B, uninteresting)."""

        def draw(key: Array) -> tuple[Array, Array]:
            # The largest sums of log-chance and Gumbel noise: a draw without replacement.
            noise = jax.random.gumbel(key, (items,), jnp.float32)
            chance = noise[: self.pool] - jnp.arange(self.pool, dtype=jnp.float32) / self.sharpness
            _, first = jax.lax.top_k(chance, self.interesting)
            _, rest = jax.lax.top_k(noise[self.pool :], self.uninteresting)
            return jnp.sort(first), rest + self.pool

        return jax.vmap(draw)(keys_B)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [
            cls(interesting=3, uninteresting=4, pool=4, sharpness=2.0),
            cls(interesting=5, uninteresting=5, pool=5, skip_label=False),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateRanking(RankedCandidates):
    """`RelaxedRanking` of items that the batch brings (eq. 8), where there are too many to rank all. Values: (B,).

    Which items are interesting is the task's to say: drawn by the teacher's ranking, tap 'interesting', or its first
    ones, tap 'first', which the authors later found better. They take each user of a batch once (`once`).
    """

    PAPER: ClassVar[Paper] = PAPER

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(interesting='first', once='user')]
