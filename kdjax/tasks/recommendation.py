"""Recommendation: which items a user takes next. What was taken is known, and nothing of what is disliked.

A training example is an interaction: the user is its input, the item its label. Beside the item it has others, chosen
anew in every epoch by the example's id and view: those that are held against it, and, where a cached teacher says in
which order it ranks what the user does not have, groups of its first items and of others. All of them are inputs of the
network (`nets.recommenders`), whose scores of them terms read as taps.

An example of validation or test is a user with one item that was kept from training.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.dataset import Dataset, Shared, Split, picked
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks import draws
from kdjax.tasks.base import Question, Task
from kdjax.types import Array, Batch, Outputs, Tree

CUTS = (5, 10, 20)  # among candidates
WHOLE = 50  # among all items
SHOWN = 100  # items that a user is shown, whose choice is timed
LIKE = 10  # first items that are compared with the teacher's
METRICS = (
    *(Metric(f'hit_{cut}', f'hit rate at {cut}', '%', short=f'H@{cut}') for cut in CUTS),
    *(Metric(f'ndcg_{cut}', f'NDCG at {cut}', '%', short=f'N@{cut}') for cut in CUTS),
    *(Metric(f'mrr_{cut}', f'MRR at {cut}', '%', short=f'M@{cut}') for cut in CUTS),
    Metric(f'recall_{WHOLE}', f'recall at {WHOLE} of all items', '%', short=f'R@{WHOLE}'),
    Metric(f'ndcg_all_{WHOLE}', f'NDCG at {WHOLE} of all items', '%', short=f'N@{WHOLE} of all'),
)
OVERLAP = Metric('overlap', f"share of the teacher's first {LIKE} items", '%', short='overlap')
COSTS = (
    Metric('table_mb', 'parameters in memory', 'MB', 'lower', 2),
    Metric('ms_per_user', f'first {SHOWN} items of a user', 'ms', 'lower', 3),
    Metric('users_per_second', 'users', '1/s', 'higher', 0),
)
ITEMS, USERS = 'ranked_items', 'ranked_users'  # questions to a teacher
OF_ITEMS = ('first', 'interesting', 'uninteresting')  # groups that its answers make
OF_USERS = tuple(f'{group}_users' for group in OF_ITEMS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation(Task):
    """Items ranked for users.

    Metrics are of the rank of the one item that was kept: among it and the candidates of its user, items that the user
    never took ('hit', 'ndcg', 'mrr' at 5, 10 and 20), and among all items that the user does not have ('recall',
    'ndcg_all' at 50). Of equal scores half count as higher.

    Attributes:
      negatives: items that are held against that of an interaction, drawn uniformly from what its user did not take.
      first: items in the group 'first', the teacher's first ones in its order.
      interesting: in the group 'interesting', drawn without replacement from the teacher's first `pool`, in order: the
        chance is in proportion to exp(-rank / sharpness).
      uninteresting: in the group 'uninteresting', drawn uniformly from what the user did not take, outside of the pool.
      first_users, interesting_users, uninteresting_users: the same of users for the item of an interaction.
      asked_every: of so many interactions of a batch the first asks about groups that terms of a teacher read, and
        stands for the others; 1 for all. A batch of 1,024 that asks 128 users costs little more than one without.
      pool: items, or users, that the teacher ranks first of which some are interesting.
      sharpness: over how many ranks the chance falls by a factor e.
      kept: items that are kept of a ranking.
    """

    ASKED_BY: ClassVar[tuple[str, ...]] = (*OF_ITEMS, *OF_USERS)
    OF_FITS: ClassVar[tuple[str, ...]] = (*ASKED_BY, 'pool', 'sharpness')
    TOGETHER: ClassVar[str] = 'asked_every'

    score: str = 'hit_5'
    negatives: int = 1
    first: int = 0
    interesting: int = 0
    uninteresting: int = 0
    first_users: int = 0
    interesting_users: int = 0
    uninteresting_users: int = 0
    asked_every: int = 1
    pool: int = 150
    sharpness: float = 10.0
    kept: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('negatives', 'asked_every', 'pool', 'kept'):
            if getattr(self, name) < 1:
                raise UsageError(f'{name} of Recommendation must be >= 1, got {getattr(self, name)}')
        counts = {name: getattr(self, name) for name in (*OF_ITEMS, *OF_USERS)}
        for name, count in counts.items():
            if not 0 <= count <= self.pool and (count < 0 or not name.startswith('uninteresting')):
                raise UsageError(f'{name} of Recommendation must be in 0 to pool, {self.pool}, got {count}')
        if self.pool > self.kept or not self.sharpness > 0:
            raise UsageError(f'Recommendation needs pool <= kept and sharpness > 0, got {self.pool}, {self.kept} and '
                             f'{self.sharpness}')  # fmt: skip

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*METRICS, OVERLAP)

    def check(self, dataset: Dataset) -> None:
        for fact in ('users', 'items'):
            if fact not in dataset.facts:
                raise UsageError(f'recommendation needs a data set that says how many {fact} there are')
        for name, split in dataset.splits.items():
            needed = {'labels', 'seen', *(() if name == 'train' else ('candidates',))}
            if missing := sorted(needed - set(split.columns())):
                raise UsageError(f'recommendation needs the column {missing[0]!r}, split {name!r} has '
                                 f'{sorted(split.columns())}')  # fmt: skip
            users = split.inputs.get('user') if isinstance(split.inputs, Mapping) else None
            if users is None or not isinstance(split.column('seen'), Shared):
                raise UsageError("recommendation needs inputs {'user': ids} and 'seen' as rows that examples share, as "
                                 f'citeulike.of_interactions makes them; split {name!r} has others')  # fmt: skip
            if users.min() < 0 or users.max() >= dataset.facts['users']:
                raise UsageError(f'users of split {name!r} must be in 0 to {dataset.facts["users"] - 1}, got '
                                 f'{users.min()} to {users.max()}')  # fmt: skip
            labels = split.column('labels')
            if labels.ndim != 1 or labels.min() < 0 or labels.max() >= dataset.facts['items']:
                raise UsageError(f'labels of split {name!r} must be items in 0 to {dataset.facts["items"] - 1}, one '
                                 f'for each example, got {labels.shape}, {labels.min()} to {labels.max()}')  # fmt: skip
        most = min(dataset.facts[name] for name in ('items', *(('users',) if self._asked(OF_USERS) else ())))
        if self.has_questions and self.pool > most:
            raise UsageError(f'pool of Recommendation must be at most {most}, as many as there are, got {self.pool}')

    # ---- what is asked

    def questions(self, dataset: Dataset) -> Mapping[str, Question]:
        """Which items each user is shown first, and, where terms of the item's side need it, which users each item."""
        train, facts = dataset.splits['train'], dataset.facts
        found = {}
        if self._asked(OF_ITEMS):
            of = Split({'user': np.arange(facts['users'], dtype=np.int32)}, None, {'seen': train.column('seen').table})
            found[ITEMS] = Question(of, np.asarray(train.inputs['user']))
        if self._asked(OF_USERS):
            items = np.arange(facts['items'], dtype=np.int32)
            of = Split({'item': items}, None, {'seen': train.column('seen_by').table})
            found[USERS] = Question(of, np.asarray(train.labels))
        return found

    def _asked(self, groups: Sequence[str]) -> bool:
        """Whether any of the groups has members."""
        return any(getattr(self, group) for group in groups)

    def answer(self, outputs: Outputs, batch: Batch) -> Array:
        """The first `kept` of those that are not taken, best first. (B, kept) int32"""
        scores = _unseen(outputs.logits, batch['seen'])
        return jax.lax.top_k(scores, min(self.kept, scores.shape[1]))[1].astype(jnp.int32)

    def check_answer(self, name: str, answer: np.ndarray, dataset: Dataset) -> None:
        most = dataset.facts['items' if name == ITEMS else 'users']
        if answer.ndim != 2 or answer.shape[1] < self.pool or answer.min() < 0 or answer.max() >= most:
            raise UsageError(f'{name} must be at least the first {self.pool} (pool) of each, in 0 to {most - 1}, got '
                             f'{answer.shape}, {answer.min()} to {answer.max()}')  # fmt: skip

    def prepare(self, batch: Batch) -> Batch:
        """A training batch asks about groups of items, and of users; one of evaluation about all items."""
        if 'view' not in batch:
            return batch
        lookups = ('seen', 'seen_by', f'teacher/{ITEMS}', f'teacher/{USERS}')
        whole, user = {name: value for name, value in batch.items() if name not in lookups}, batch['inputs']['user']
        keys = jax.vmap(draws.key_of)(batch['id'], batch['view'])
        item = batch['labels']
        items = {'positive': item[:, None], 'negative': draws.drawn(draws.part(keys, 0), self.negatives, batch['seen'])}
        inputs: dict[str, Any] = {'user': user, 'items': items}
        asking = self._asking(batch, lookups)
        if f'teacher/{ITEMS}' in batch:
            items |= self._groups(keys[:: self.asked_every], 1, asking[f'teacher/{ITEMS}'], asking['seen'], OF_ITEMS)
        if f'teacher/{USERS}' in batch:
            asked = keys[:: self.asked_every]
            users = self._groups(asked, 3, asking[f'teacher/{USERS}'], asking['seen_by'], OF_USERS)
            inputs |= {'item': item, 'users': users}
        both = jnp.stack([item, items['negative'][:, 0]], axis=1)
        return {**whole, 'inputs': inputs, 'user': user, 'item': item, 'items': both}

    def _asking(self, batch: Batch, names: Sequence[str]) -> dict[str, Any]:
        """The columns of those interactions that ask.

        Raises:
          UsageError: a batch of which so many are no whole part.
        """
        if (size := len(batch['id'])) % self.asked_every:
            raise UsageError(f'asked_every of Recommendation must divide the batch of {size}, got {self.asked_every}')
        part = slice(None, None, self.asked_every)
        return {name: column.of(part) if isinstance(column := batch[name], Shared) else column[part]
                for name in names if name in batch}  # fmt: skip

    def _groups(self, keys_B: Array, place: int, ranked: Any, seen: Any, names: Sequence[str]) -> dict[str, Array]:
        """Those of the three groups that have members, each (B, count), by the draws from `place` on."""
        rows = len(keys_B)
        pool_BP = picked(ranked, jnp.broadcast_to(jnp.arange(self.pool, dtype=jnp.int32), (rows, self.pool)))
        first, interesting, uninteresting = (getattr(self, name) for name in names)

        def draw(key: Array) -> Array:
            # The largest sums of log-chance and Gumbel noise: a draw without replacement.
            noise = jax.random.gumbel(key, (self.pool,), jnp.float32)
            chance = noise - jnp.arange(self.pool, dtype=jnp.float32) / self.sharpness
            return jnp.sort(jax.lax.top_k(chance, interesting)[1])

        found = {}
        if first:
            found[names[0]] = pool_BP[:, :first]
        if interesting:
            found[names[1]] = jnp.take_along_axis(pool_BP, jax.vmap(draw)(draws.part(keys_B, place)), axis=1)
        if uninteresting:
            found[names[2]] = draws.drawn(draws.part(keys_B, place + 1), uninteresting, seen, pool_BP)
        return found

    # ---- what is measured

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of all metrics; 'overlap' against what a teacher ranks first, (B, kept)."""
        candidates_B, whole_B = self.predict(outputs, batch).T
        meters = {}
        for metric in METRICS:
            rank_B = whole_B if metric in METRICS[-2:] else candidates_B
            meters[metric.name] = mean(_value(metric.name, rank_B, jnp), batch['mask'])
        if teacher_logits is None:
            return meters
        _, own_BL = jax.lax.top_k(_unseen(outputs.logits, batch['seen']), min(LIKE, outputs.logits.shape[1]))
        teachers_BL = teacher_logits[:, : own_BL.shape[1]].astype(own_BL.dtype)
        both_B = jnp.mean(jnp.any(own_BL[:, :, None] == teachers_BL[:, None], axis=2).astype(jnp.float32), axis=1)
        return {**meters, OVERLAP.name: mean(both_B, batch['mask'])}

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """Ranks of the item that was kept, from 0, among the candidates and among all that the user lacks. (B, 2)"""
        scores_BI, item_B1 = outputs.logits.astype(jnp.float32), batch['labels'][:, None]
        own_B1 = jnp.take_along_axis(scores_BI, item_B1, axis=1)
        candidates_BM = jnp.take_along_axis(scores_BI, batch['candidates'], axis=1)
        others_BI = ~_taken(batch['seen'], scores_BI.shape[1])
        others_BI &= jnp.arange(scores_BI.shape[1]) != item_B1
        among = rank(own_B1, candidates_BM, jnp.ones_like(candidates_BM, bool))
        return jnp.stack([among, rank(own_B1, scores_BI, others_BI)], axis=1)

    @property
    def has_statistics(self) -> bool:
        return self.score != OVERLAP.name

    def statistics(self, predictions: Tree, split: Split) -> np.ndarray:
        """What the score is for each user, and 1. (N, 2)"""
        of_all = self.by_name[self.score] in METRICS[-2:]
        values = _value(self.score, np.asarray(predictions, np.float64)[:, int(of_all)], np)
        return np.stack([values, np.ones(len(values))], axis=1)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    # ---- what is shown, and what it costs

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any] | None:
        """The validation user of the middle number of items, of those whose kept item the teacher has in its first 10:
        how often those are taken in training, and which is the one; None where there is none."""
        split = dataset.splits['validation']
        found = outputs[:, :LIKE] == np.asarray(split.labels)[:, None]
        train = dataset.splits['train']
        counts = np.bincount(np.asarray(train.inputs['user']), minlength=dataset.facts['users'])
        users = np.asarray(split.inputs['user'])
        right = np.flatnonzero(found.any(axis=1))
        if not len(right):
            return None
        example = int(right[np.argsort(counts[users[right]], kind='stable')[len(right) // 2]])
        taken = np.bincount(np.asarray(train.labels), minlength=dataset.facts['items'])
        items = outputs[example, :LIKE]
        return {
            'kind': 'ranking',
            'user': int(users[example]),
            'has': int(counts[users[example]]),
            'items': [int(item) for item in items],
            'taken': [int(taken[item]) for item in items],
            'kept': int(split.column('labels')[example]),
        }

    def served(self, outputs: Outputs) -> Array:
        """The first items of every user. (B, 100)"""
        return jax.lax.top_k(outputs.logits, min(SHOWN, outputs.logits.shape[1]))[1]

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return COSTS

    def costs(self, variables: Tree, latency_ms: Mapping[str, float], length: int | None) -> dict[str, float]:
        most = max(latency_ms, key=int)
        return {
            'table_mb': trees.nbytes(variables['params']) / 1e6,
            'ms_per_user': latency_ms['1'],
            'users_per_second': int(most) / latency_ms[most] * 1e3,
        }


def rank(own_B1: Array, others_BM: Array, counted_BM: Array) -> Array:
    """How many others score higher, and half of those that score the same, from 0. (B,)

    A score that is not finite is behind all others: a network that diverged must not look perfect.
    """
    half_BM = 2 * (~(others_BM <= own_B1)).astype(jnp.int32) + (others_BM == own_B1).astype(jnp.int32)
    return jnp.sum(jnp.where(counted_BM, half_BM, 0), axis=1).astype(own_B1.dtype) / 2


def _value(name: str, rank_B: Any, xp: Any) -> Any:
    """A metric of ranks (B,), from 0, as `xp` computes it: numpy or jax.numpy."""
    kind, _, cut = name.rpartition('_')
    found = xp.ones_like(rank_B)
    values = {'hit': found, 'recall': found, 'mrr': 1 / (rank_B + 1)}
    value = values[kind] if kind in values else 1 / xp.log2(rank_B + 2)
    return xp.where(rank_B < int(cut), value, xp.zeros_like(value))


def _taken(seen: Any, size: int) -> Array:
    """Bits of a batch (B, W) as booleans (B, size)."""
    words = seen.table[seen.rows] if isinstance(seen, Shared) else seen
    bits = (words[:, :, None] >> jnp.arange(32, dtype=words.dtype)) & 1
    return bits.reshape(len(words), -1)[:, :size] > 0


def _unseen(scores_BI: Array, seen: Any) -> Array:
    """Scores, -inf of what is seen."""
    return jnp.where(_taken(seen, scores_BI.shape[1]), -jnp.inf, scores_BI)
