"""Networks that do not know of each other, one for each of many data sets, trained and judged side by side."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.nets.base import compute_dtype, from_linen
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Net, Outputs

# As in early Keras: uniform, by the mean of units before and after; of each network by itself.
GLOROT = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform', in_axis=-2, out_axis=-1, batch_axis=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws(Task):
    """Classification of N data sets at once: logits (B, N, K), labels (B, N); an example is one of each of them.

    Every metric is over all of them. The loss is too, so that a network's gradient is 1 / N of what it is by itself:
    weights N times as large make up for it.
    """

    score: str = 'accuracy'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric('accuracy', 'accuracy', '%'),
            Metric('agreement', 'agreement with the teacher', '%', 'higher', 2, 'agrees'),
        )

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            inputs, labels = split.inputs, split.column('labels')
            if inputs.ndim != 3 or labels.shape != inputs.shape[:2] or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'inputs must be (examples, N, D) and labels integers (examples, N), split {name!r} '
                                 f'has {inputs.shape} and {labels.dtype} {labels.shape}')  # fmt: skip

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(dataset.classes)}

    def prepare(self, batch: Batch) -> Batch:
        """Each example counts N times."""
        mask = batch['mask']
        return {**batch, 'mask': jnp.broadcast_to(mask[:, None], batch['inputs'].shape[:2])}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        answers, mask = jnp.argmax(outputs.logits, axis=-1), batch['mask']
        meters = {'accuracy': mean((answers == batch['labels']).astype(jnp.float32), mask)}
        if teacher_logits is not None:
            meters['agreement'] = mean((answers == jnp.argmax(teacher_logits, axis=-1)).astype(jnp.float32), mask)
        return meters


class _Apart(nn.Module):
    widths: tuple[int, ...]
    classes: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        x, count = inputs.astype(self.dtype), inputs.shape[1]
        for depth, width in enumerate((*self.widths, self.classes)):
            if depth:
                x = nn.relu(x)
            kernel = self.param(f'kernel{depth}', GLOROT, (count, x.shape[-1], width))
            bias = self.param(f'bias{depth}', nn.initializers.zeros, (count, width))
            x = jax.lax.dot_general(x, kernel.astype(self.dtype), (((2,), (1,)), ((1,), (0,))))
            x = jnp.moveaxis(x, 0, 1) + bias.astype(self.dtype)
        return x


def networks(*, classes: int, widths: tuple[int, ...] = (), precision: str = 'float32', axis: str | None = None) -> Net:
    """N perceptrons over inputs (B, N, D), each with weights of its own; without `widths` softmax regressions.

    Args:
      classes: logits of each.
      widths: units of hidden layers, ReLU.
      precision: dtype of activations.
      axis: unused: nothing in it depends on how a batch is split.
    """
    del axis
    return from_linen(_Apart(tuple(widths), classes, compute_dtype(precision)))
