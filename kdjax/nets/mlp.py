"""Multi-layer perceptron."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.nets.layers import Dropout
from kdjax.nets.sequences import at_least
from kdjax.types import Array, Net


class _MLP(nn.Module):
    widths: tuple[int, ...]
    classes: int
    dropout: float
    input_dropout: float
    axis: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        x = inputs.reshape(inputs.shape[0], -1).astype(self.dtype)
        x = Dropout(self.input_dropout, self.axis, name='input_dropout')(x, train)
        for depth, width in enumerate(self.widths, start=1):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f'dense{depth}')(x))
            x = tap(self, f'hidden{depth}', x)
            x = Dropout(self.dropout, self.axis)(x, train)
        return nn.Dense(self.classes, dtype=self.dtype, name='head')(x)


def mlp(
    *,
    classes: int,
    widths: tuple[int, ...] = (256, 256),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """Fully connected ReLU network over flattened inputs; taps 'hidden1', 'hidden2', ... of shape (B, width).

    The MNIST teacher of Hinton, Vinyals, Dean, 2015, sec. 3, is widths=(1200, 1200) with dropout, at rates that they do
    not give, and weights kept to a norm (`max_norm` of the optimiser); their students have no dropout.

    Args:
      classes: number of logits.
      widths: units of each hidden layer.
      dropout: probability of dropping a hidden unit in training.
      input_dropout: that of dropping an input.
      precision: dtype of activations, 'float32' or 'bfloat16'.
      axis: name of the device axis that a batch is split over, None where it is whole: which units are dropped.
    """
    at_least('mlp', widths=min(widths, default=1), classes=classes)
    module = _MLP(tuple(widths), classes, dropout, input_dropout, axis, compute_dtype(precision))
    return from_linen(module, tuple(f'hidden{depth}' for depth in range(1, len(widths) + 1)))
