"""Linear networks of two classes, shallow and deep, that begin at or next to zero."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError
from kdjax.nets.base import compute_dtype, from_linen
from kdjax.types import Array, Net

SCALE = 0.03  # standard deviation of the weights that a deep network begins with; those of a shallow one are 0


class _Linear(nn.Module):
    depth: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        x = inputs.reshape(inputs.shape[0], -1).astype(self.dtype)
        begun = nn.initializers.normal(SCALE) if self.depth > 1 else nn.initializers.zeros
        for layer in range(1, self.depth):
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, kernel_init=begun, name=f'dense{layer}')(x)
        half = nn.Dense(1, use_bias=False, dtype=self.dtype, kernel_init=begun, name='head')(x) / 2
        return jnp.concatenate([-half, half], axis=-1)


def linear(
    *, classes: int, depth: int = 1, width: int = 40, precision: str = 'float32', axis: str | None = None
) -> Net:
    """w = W_1 ... W_N, without biases; logits are -w'x / 2 and w'x / 2, so that the second class has sigmoid(w'x).

    Args:
      classes: two.
      depth: N, layers.
      width: of those between.
      precision: dtype of activations.
      axis: unused: nothing in it depends on how a batch is split.

    Raises:
      UsageError: other than two classes, or no layer.

    Reference: Phuong, Lampert, Towards Understanding Knowledge Distillation, ICML 2019, sec. 2.
    """
    if classes != 2 or depth < 1:
        raise UsageError(f'linear tells 2 classes apart with at least 1 layer, got classes={classes}, depth={depth}')
    del axis
    return from_linen(_Linear(depth, width, compute_dtype(precision)))
