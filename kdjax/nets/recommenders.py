"""What recommenders share: tables of embeddings, and scores of the items or users that they are asked about.

Inputs say who is asked about what:

- {'user': (B,)}: all items for each user, logits (B, items);
- {'item': (B,)}: all users for each item, logits (B, users);
- {'user': (B,), 'items': {group: (B, M)}}, and {'item': (B,), 'users': {group: (B, M)}} beside it or not: chosen ones,
  in groups. The scores of a group are the tap of its name, (B, M); logits are those of all groups of items, one after
  the other. Groups may be of the first of every r rows alone, (B / r, M), and are then no logits. Beside them are the
  taps 'user_vector' (B, D) and, where there are the groups 'positive' and 'negative',
  'item_vectors' (B, 2, D): of the item of the interaction, and of the first that is held against it.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import tap
from kdjax.nets.sequences import at_least
from kdjax.types import Array

TAPS = ('user_vector', 'item_vectors')
# Vectors (..., D) of users and of items that broadcast against each other -> scores (...).
Score = Callable[[Array, Array], Array]


class Vectors(nn.Module):
    """A vector for each of so many rows, N(0, scale^2) at first. Called without arguments, (rows, width)."""

    rows: int
    width: int
    scale: float

    @nn.compact
    def __call__(self) -> Array:
        return self.param('table', nn.initializers.normal(self.scale), (self.rows, self.width), jnp.float32)


def check(network: str, scale: float, **numbers: int) -> None:
    """Raises UsageError for a number of a recommender below 1, or vectors of which all are one at first."""
    at_least(network, **numbers)
    if not scale > 0:
        raise UsageError(f'scale of {network} must be > 0, or all users are alike and stay so, got {scale}')


def answered(module: nn.Module, inputs: Mapping[str, Any], users_UD: Array, items_ID: Array, score: Score) -> Array:
    """The scores that `inputs` ask for, as logits and taps of `module`; see the module of this function.

    Args:
      module: whose taps they become.
      inputs: of a batch.
      users_UD, items_ID: the vectors of all users and items.
      score: of pairs of vectors.

    Raises:
      UsageError: inputs that ask for nothing.
    """
    if not isinstance(inputs, Mapping) or not {'user', 'item'} & set(inputs):
        said = sorted(inputs) if isinstance(inputs, Mapping) else getattr(inputs, 'shape', inputs)
        raise UsageError(f"a recommender reads inputs {{'user': ids}} or {{'item': ids}}, got {said}")
    if 'items' not in inputs:
        if 'user' in inputs:
            return everything(score, rows(users_UD, inputs['user']), items_ID)
        return everything(lambda item, user: score(user, item), rows(items_ID, inputs['item']), users_UD)
    user_BD = tap(module, 'user_vector', rows(users_UD, inputs['user']))
    items = inputs['items']
    if {'positive', 'negative'} <= items.keys():
        pair_B2 = jnp.stack([items[group][:, 0] for group in ('positive', 'negative')], axis=1)
        tap(module, 'item_vectors', rows(items_ID, pair_B2))
    if users := inputs.get('users', {}):
        _scored(module, users, users_UD, rows(items_ID, inputs['item']), lambda item, user: score(user, item))
    return _scored(module, items, items_ID, user_BD, score)


def _scored(module: nn.Module, groups: Mapping[str, Array], table_ND: Array, own_BD: Array, score: Score) -> Array:
    """The scores of the members of groups, those of each as a tap; of all groups of B rows, (B, M).

    Groups of as many rows are looked up as one: a table has one gradient to add up then, however many groups read it.
    """
    scores = {}
    for size in {len(ids): None for ids in groups.values()}:
        alike = {group: ids for group, ids in groups.items() if len(ids) == size}
        vectors_AMD = rows(table_ND, jnp.concatenate(list(alike.values()), axis=1))
        scores[size] = score(own_BD[:: len(own_BD) // size, None], vectors_AMD)
        ends = itertools.accumulate(ids.shape[1] for ids in alike.values())
        for (group, ids), end in zip(alike.items(), ends, strict=True):
            tap(module, group, scores[size][:, end - ids.shape[1] : end])
    return scores.get(len(own_BD), own_BD[:, :0])


def rows(table: Array, ids: Array) -> Array:
    """The vectors (..., D) of ids (...)."""
    return jnp.take(table, ids, axis=0, mode='clip')


def everything(score: Score, own_BD: Array, others_ND: Array) -> Array:
    """Scores of each against all, (B, N): of dot products one product, of others one after the other."""
    if score is dot:
        return own_BD @ others_ND.T
    return jax.lax.map(lambda own_D: score(own_D, others_ND), own_BD)


def dot(left: Array, right: Array) -> Array:
    """Their product, summed over the last axis."""
    return jnp.einsum('...d,...d->...', left, right)
