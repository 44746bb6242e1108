"""Shapes of the learning rate over the steps of a run, with peak 1."""

import jax.numpy as jnp
import optax

from kdjax.errors import UsageError, unknown
from kdjax.types import Array

SCHEDULES = ('constant', 'step', 'cosine', 'linear', 'inverse_sqrt')


def shape(name: str, steps: int, warmup: int, milestones: tuple[float, ...], factor: float) -> optax.Schedule:
    """What the learning rate is multiplied by at each step; arguments are those of `optim.build`.

    Raises:
      UsageError: an unknown name, or 'inverse_sqrt' without a warm-up, whose length is its scale.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017, eq. 3 ('inverse_sqrt', whose peak is 1 here).
    """
    length = max(steps - warmup, 1)
    if name == 'inverse_sqrt' and not warmup:
        raise UsageError("schedule 'inverse_sqrt' is sqrt(warmup / step) after the warm-up: set warmup >= 1, got 0")

    def inverse_sqrt(count: Array) -> Array:
        return jnp.sqrt(warmup / (warmup + count))

    drops: dict[int, float] = {}
    for at in milestones:  # on short runs several may fall on one step
        drops[round(at * length)] = drops.get(round(at * length), 1.0) * factor
    shapes: dict[str, optax.Schedule] = {
        'constant': optax.constant_schedule(1.0),
        'step': optax.piecewise_constant_schedule(1.0, drops),
        'cosine': optax.cosine_decay_schedule(1.0, length),
        'linear': optax.linear_schedule(1.0, 0.0, length),
        'inverse_sqrt': inverse_sqrt,
    }
    if name not in shapes:
        raise unknown('schedule', name, SCHEDULES)
    found = shapes[name]
    if warmup:
        found = optax.join_schedules([optax.linear_schedule(1 / (warmup + 1), 1.0, warmup), found], [warmup])
    # In float32, which counts exactly to 16 million: optax's schedules mix the count with floats.
    return lambda count: jnp.asarray(found(count.astype(jnp.float32)), jnp.float32)
