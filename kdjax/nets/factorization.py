"""Matrix factorisation: the score of an item for a user is the product of their vectors."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen
from kdjax.nets.recommenders import TAPS, Vectors, answered, check, dot
from kdjax.types import Array, Net


class _Factorization(nn.Module):
    users: int
    items: int
    width: int
    scale: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        users, items = (Vectors(rows, self.width, self.scale, name=name)().astype(self.dtype)
                  for name, rows in (('users', self.users), ('items', self.items)))  # fmt: skip
        return answered(self, inputs, users, items, dot)


def factorization(
    *,
    users: int,
    items: int,
    width: int = 20,
    scale: float = 0.01,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """A vector for each user and each item; with BPR as its loss, BPR-MF.

    Inputs and taps are those of all recommenders: see `nets.recommenders`.

    Args:
      users, items: how many there are, as the data set says.
      width: of vectors.
      scale: standard deviation of what they are at first.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: unused: nothing in it depends on how a batch is split.

    Raises:
      UsageError: a number below 1, or a scale of 0.

    Reference: Koren, Bell, Volinsky, Matrix Factorization Techniques for Recommender Systems, Computer 2009, eq. 1.
    """
    check('factorization', scale, users=users, items=items, width=width)
    del axis
    return from_linen(_Factorization(users, items, width, scale, compute_dtype(precision)), TAPS)
