"""Neural matrix factorisation: a weighted product of two vectors beside an MLP of two others."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen
from kdjax.nets.recommenders import TAPS, Vectors, answered, check
from kdjax.types import Array, Net


class _Tower(nn.Module):
    """Scores of pairs of vectors, of which one half is multiplied and the other goes through an MLP."""

    hidden: tuple[int, ...]
    dtype: jnp.dtype

    def setup(self) -> None:
        width = self.hidden[0]
        # The first layer of the MLP in two parts: that of the users is the same for all items.
        self.of_user = nn.Dense(width, dtype=self.dtype)
        self.of_item = nn.Dense(width, use_bias=False, dtype=self.dtype)
        self.layers = [nn.Dense(width, dtype=self.dtype) for width in self.hidden[1:]]
        self.head = nn.Dense(1, dtype=self.dtype)

    def __call__(self, user: Array, item: Array) -> Array:
        (user_product, user_mlp), (item_product, item_mlp) = (jnp.split(x, 2, axis=-1) for x in (user, item))
        x = nn.relu(self.of_user(user_mlp) + self.of_item(item_mlp))
        for layer in self.layers:
            x = nn.relu(layer(x))
        return self.head(jnp.concatenate([user_product * item_product, x], axis=-1))[..., 0]


class _NeuMF(nn.Module):
    users: int
    items: int
    width: int
    hidden: tuple[int, ...]
    scale: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Mapping[str, Any]) -> Array:
        users, items = (Vectors(rows, 2 * self.width, self.scale, name=name)().astype(self.dtype)
                  for name, rows in (('users', self.users), ('items', self.items)))  # fmt: skip
        tower = _Tower(self.hidden, self.dtype, name='tower')
        if self.is_initializing():
            tower(users[:1], items[:1])  # its parameters are made outside of loops over users
        return answered(self, inputs, users, items, tower)


def neumf(
    *,
    users: int,
    items: int,
    width: int = 20,
    hidden: Sequence[int] = (20, 10),
    scale: float = 0.01,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Vectors of 2 x `width`: the first half is multiplied item by user, the second goes through an MLP (eq. 12).

    Inputs and taps are those of all recommenders: see `nets.recommenders`. Scores of all items are made user by user.

    Args:
      users, items: how many there are, as the data set says.
      width: of each half of a vector.
      hidden: units of the layers of the MLP.
      scale: standard deviation of what vectors are at first.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: unused: nothing in it depends on how a batch is split.

    Raises:
      UsageError: a number below 1, a scale of 0, or no hidden layer.

    Reference: He, Liao, Zhang, Nie, Hu, Chua, Neural Collaborative Filtering, WWW 2017, sec. 3.4.
    """
    if not hidden:
        raise UsageError('hidden of neumf must name at least one layer; without any it is factorization.factorization')
    check('neumf', scale, users=users, items=items, width=width, hidden=min(hidden))
    del axis
    return from_linen(_NeuMF(users, items, width, tuple(hidden), scale, compute_dtype(precision)), TAPS)
