"""What recommenders share: tables of embeddings, and scores of the items or users that they are asked about.

Inputs say who is asked about what:

- {'user': (B,)}: all items for each user, logits (B, items);
- {'item': (B,)}: all users for each item, logits (B, users);
- {'user': (B,), 'items': {group: (B, M)}}, and {'item': (B,), 'users': {group: (B, M)}} beside it or not: chosen ones,
  in groups. The scores of a group are the tap of its name, (B, M); logits are those of all groups of items, one after
  the other. Beside them are the taps 'user_vector' (B, D) and, where there are the groups 'positive' and 'negative',
  'item_vectors' (B, 2, D): of the item of the interaction, and of the first that is held against it.
"""

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
    vectors = {group: rows(items_ID, ids) for group, ids in inputs['items'].items()}
    if {'positive', 'negative'} <= vectors.keys():
        tap(module, 'item_vectors', jnp.stack([vectors[group][:, 0] for group in ('positive', 'negative')], axis=1))
    scores = [tap(module, group, score(user_BD[:, None], items_BMD)) for group, items_BMD in vectors.items()]
    for group, ids in inputs.get('users', {}).items():
        tap(module, group, score(rows(users_UD, ids), rows(items_ID, inputs['item'])[:, None]))
    return jnp.concatenate(scores, axis=1)


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
