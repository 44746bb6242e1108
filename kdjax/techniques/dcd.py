"""Dual correction: the student is shown what it ranks too low, above what it ranks too high."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_keys
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Taps, knob, number
from kdjax.techniques.candidates import CandidateTerm, asking
from kdjax.types import Array, TermInputs, TermOut, Tree

NOTHING = -1e30  # the score of an item that was not drawn: nothing beside any other


class Drawn(NamedTuple):
    """Items that were drawn: places among the candidates (B, K), and which of them count, (B, K) booleans."""

    places: Array
    real: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualCorrection(CandidateTerm):
    """The relaxed ranking of items that the student ranks too low, above those that it ranks too high. Values: (B,).

    Among the candidates of a user an item of rank r_s on the student's side and r_t on the teacher's is drawn as
    underestimated in proportion to tanh(slope max(r_s - r_t, 0)), as overestimated to tanh(slope max(r_t - r_s, 0)),
    without replacement. The first, in the teacher's order, are each to stand before all of the second (sec. 3). Of
    users of an item, with other candidates, it is the correction of the item's side.

    The authors rank all items every third epoch; here ranks are those among the candidates, in every step: the
    teacher's first items, and others that are drawn.

    Attributes:
      candidates: the taps of the candidates, on both sides.
      under, over: how many of each kind are drawn at most.
      slope: of the chance over the discrepancy, > 0; knob.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Lee, Kim', 'Dual Correction Strategy for Ranking Distillation in Top-N Recommender System', 'CIKM', 2021,
        '2109.03459',
    )  # fmt: skip
    at_teacher: ClassVar[AtTeacher] = 'zero'
    DRAWS: ClassVar[bool] = True

    candidates: tuple[str, ...] = ('first', 'uninteresting')
    under: int = number(40, minimum=1)
    over: int = number(40, minimum=1)
    slope: float = knob(0.1, above=0.0)

    def taps(self) -> Taps:
        return Taps(tuple(self.candidates), tuple(self.candidates))

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student_BM, teacher_BM = (
            jnp.concatenate([self.scores(side, tap, inputs) for tap in self.candidates], axis=1) for side in inputs[:2]
        )
        if max(self.under, self.over) > student_BM.shape[1]:
            raise UsageError(f'DualCorrection draws {self.under} and {self.over} of the candidates, got scores '
                             f'{student_BM.shape}')  # fmt: skip
        rank_BM = ranks(teacher_BM)
        gap_BM = jax.lax.stop_gradient(ranks(student_BM) - rank_BM)
        keys = jax.vmap(jax.random.split)(asking(example_keys(key, inputs), len(student_BM)))
        under = drawn(jnp.tanh(knobs['slope'] * jnp.maximum(gap_BM, 0)), self.under, keys[:, 0])
        over = drawn(jnp.tanh(knobs['slope'] * jnp.maximum(-gap_BM, 0)), self.over, keys[:, 1])
        values = corrected(student_BM, rank_BM, under, over)
        return TermOut(self.counted(values, inputs), memory, {})

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(under=3, over=3), cls(under=3, over=1, once='user')]


def ranks(scores_BM: Array) -> Array:
    """How many of the same row are higher, of equals also those before. (B, M)"""
    ahead_MM = jnp.tri(scores_BM.shape[1], k=-1, dtype=bool)
    mine, other = scores_BM[:, :, None], scores_BM[:, None, :]
    return jnp.sum((other > mine) | ((other == mine) & ahead_MM), axis=2).astype(scores_BM.dtype)


def drawn(chance_BM: Array, count: int, keys_B: Array) -> Drawn:
    """Draws without replacement in proportion to `chance`; where fewer have one, only those count."""
    noise_BM = jax.vmap(lambda key: jax.random.gumbel(key, chance_BM.shape[1:], jnp.float32))(keys_B)
    possible_BM = chance_BM > 0
    logs_BM = jnp.where(possible_BM, jnp.log(jnp.where(possible_BM, chance_BM, 1)), -jnp.inf)
    _, places_BK = jax.lax.top_k(logs_BM + noise_BM.astype(logs_BM.dtype), count)
    return Drawn(places_BK, jnp.take_along_axis(possible_BM, places_BK, axis=1))


def corrected(scores_BM: Array, rank_BM: Array, under: Drawn, over: Drawn) -> Array:
    """The relaxed ranking of what was drawn, `under` in the order of `rank`; 0 where nothing was. (B,)"""
    order_BK = jnp.argsort(jnp.take_along_axis(rank_BM, under.places, axis=1), axis=1)
    places, real = (jnp.take_along_axis(part, order_BK, axis=1) for part in under)
    low, high = (
        jnp.where(known, jnp.take_along_axis(scores_BM, where, axis=1), NOTHING)
        for where, known in ((places, real), over)
    )
    behind = jax.lax.cumlogsumexp(low, axis=1, reverse=True)
    others = jax.nn.logsumexp(high, axis=1, keepdims=True)
    return jnp.sum(jnp.where(real, jnp.logaddexp(behind, others) - low, 0), axis=1)
