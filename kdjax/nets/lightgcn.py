"""LightGCN: vectors are averaged over the graph of who took what, and nothing else is done to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen
from kdjax.nets.recommenders import TAPS, Vectors, answered, check, dot
from kdjax.types import Array, Net


class _LightGCN(nn.Module):
    users: int
    items: int
    taken: tuple[int, ...]
    width: int
    layers: int
    scale: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        user_E, item_E = np.asarray(self.taken, np.int32).reshape(-1, 2).T
        degrees = (np.bincount(ids, minlength=size) for ids, size in ((user_E, self.users), (item_E, self.items)))
        of_user, of_item = (1 / np.sqrt(np.maximum(degree, 1)) for degree in degrees)
        weight_E1 = jnp.asarray((of_user[user_E] * of_item[item_E])[:, None], self.dtype)
        users, items = (Vectors(rows, self.width, self.scale, name=name)().astype(self.dtype)
                        for name, rows in (('users', self.users), ('items', self.items)))  # fmt: skip
        layers = [(users, items)]
        for _ in range(self.layers):
            users, items = (
                jax.ops.segment_sum(weight_E1 * items[item_E], user_E, self.users),
                jax.ops.segment_sum(weight_E1 * users[user_E], item_E, self.items),
            )
            layers.append((users, items))
        users, items = (sum(side[1:], side[0]) / len(layers) for side in zip(*layers, strict=True))
        return answered(self, inputs, users, items, dot)


def lightgcn(
    *,
    users: int,
    items: int,
    taken: Sequence[int],
    width: int = 20,
    layers: int = 2,
    scale: float = 0.1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The mean, over 0 to `layers` steps, of vectors spread over the graph: E' = D^(-1/2) A D^(-1/2) E (eq. 3, 4, 8).

    Inputs and taps are those of all recommenders: see `nets.recommenders`. Each step goes through the whole graph.

    Args:
      users, items: how many there are, as the data set says.
      taken: the training interactions, user, item, user, item, ..., as the data set says.
      width: of vectors.
      layers: steps over the graph.
      scale: standard deviation of what vectors are at first.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: unused: nothing in it depends on how a batch is split.

    Raises:
      UsageError: a number below 1, a scale of 0, no interactions, or one of a user or an item that there is not.

    Reference: He, Deng, Wang, Li, Zhang, Wang, LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation, SIGIR 2020.
    """
    check('lightgcn', scale, users=users, items=items, width=width, layers=layers)
    taken_E2 = np.asarray(taken, np.int32)
    if not taken_E2.size or taken_E2.size % 2:
        raise UsageError(f'lightgcn needs interactions, user, item, user, item, ..., got {taken_E2.size} numbers')
    for side, ids, count in (('users', taken_E2[::2], users), ('items', taken_E2[1::2], items)):
        if ids.min() < 0 or ids.max() >= count:
            raise UsageError(f'lightgcn has {count} {side}, and its interactions are of {ids.min()} to {ids.max()}')
    del axis
    module = _LightGCN(users, items, tuple(taken), width, layers, scale, compute_dtype(precision))
    return from_linen(module, TAPS)
