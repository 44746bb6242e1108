"""Mixing the examples of a batch with each other: pure functions of (key, inputs), drawn anew in every step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.types import Array, Batch


class Mixed(NamedTuple):
    """A mixed batch: example i is `share` of itself and 1 - share of the example at `partner[i]`."""

    inputs: Array  # (B, ...)
    partner: Array  # (B,) positions in the batch
    share: Array  # ()


Mix = Callable[[Array, Array], Mixed]  # (key, inputs (B, ...) floats)

# Keys of augmentation come from example ids, which are int32: no example has this one.
APART = 2**32 - 1


def mixup(*, alpha: float = 0.2) -> Mix:
    """share * x_i + (1 - share) * x_j, with share drawn from Beta(alpha, alpha), one for the batch.

    Raises:
      UsageError: `alpha` is not positive.

    Reference: Zhang, Cisse, Dauphin, Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018, eq. 1 and fig. 1.
    """
    _check('mixup', alpha)

    def mix(key: Array, inputs: Array) -> Mixed:
        share, partner, _ = _drawn(key, alpha, len(inputs))
        own = share.astype(inputs.dtype)
        return Mixed(own * inputs + (1 - own) * inputs[partner], partner, share)

    return mix


def cutmix(*, alpha: float = 1.0) -> Mix:
    """A box of x_i is filled with that of x_j; share is the area that stays.

    The box has the image's proportions and 1 - Beta(alpha, alpha) of its area; its centre is drawn from the whole
    image, and it is cut off at the border. One box for the batch. Inputs (B, H, W) or (B, H, W, C).

    Raises:
      UsageError: `alpha` is not positive.

    Reference: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV
    2019, eq. 1 and 2.
    """
    _check('cutmix', alpha)

    def mix(key: Array, inputs: Array) -> Mixed:
        wanted, partner, key = _drawn(key, alpha, len(inputs))
        sides = inputs.shape[1:3]
        inside = []
        for size, own in zip(sides, jax.random.split(key), strict=True):
            half = (size * jnp.sqrt(1 - wanted)).astype(jnp.int32) // 2
            place = jnp.arange(size) - jax.random.randint(own, (), 0, size)
            inside.append((place >= -half) & (place < half))
        box = inside[0][:, None] & inside[1]
        mixed = jnp.where(box.reshape(*sides, *[1] * (inputs.ndim - 3)), inputs[partner], inputs)
        return Mixed(mixed, partner, 1 - jnp.mean(box.astype(jnp.float32)))

    return mix


def blended(mix: Mix, seed: int, batch: Batch, steps: Array) -> Batch:
    """The batches of several steps, mixed: all cells of a step alike, and the teacher's own inputs as the student's.

    Args:
      mix: how.
      seed: of the draws, which follow the step alone.
      batch: leaves (steps, B, ...) or (steps, C, B, ...).
      steps: (steps,) their numbers.

    Returns:
      The batch; instead of 'labels' it has 'labels_mixed' (..., B, 2), the labels of both examples, and 'mix'
      (..., B, 2), their shares.

    Raises:
      UsageError: inputs that are no floats, such as tokens.
    """
    if not jnp.issubdtype(batch['inputs'].dtype, jnp.floating):
        raise UsageError(f'inputs of {batch["inputs"].dtype} cannot be mixed; data.preprocess must make floats of them')

    def one(batch: Batch, key: Array) -> Batch:
        inputs, partner, share = mix(key, batch['inputs'])
        both = {'inputs': inputs}
        if 'labels' in batch:
            both['labels_mixed'] = jnp.stack([batch['labels'], batch['labels'][partner]], axis=-1)
            both['mix'] = jnp.broadcast_to(jnp.stack([share, 1 - share]), (*batch['labels'].shape, 2))
        if 'teacher_inputs' in batch:
            both['teacher_inputs'] = mix(key, batch['teacher_inputs']).inputs
        return {name: leaf for name, leaf in {**batch, **both}.items() if name != 'labels'}

    root = jax.random.fold_in(jax.random.key(seed), APART)
    keys = jax.vmap(lambda step: jax.random.fold_in(root, step))(steps)
    cells = batch['id'].ndim == 3
    return jax.vmap(jax.vmap(one, in_axes=(0, None)) if cells else one)(batch, keys)


def _drawn(key: Array, alpha: float, count: int) -> tuple[Array, Array, Array]:
    """The share, the partners, and a key for what else is drawn."""
    of_share, of_partner, rest = jax.random.split(key, 3)
    return jax.random.beta(of_share, alpha, alpha, dtype=jnp.float32), jax.random.permutation(of_partner, count), rest


def _check(name: str, alpha: float) -> None:
    if not alpha > 0:
        raise UsageError(f'alpha of {name} must be > 0, got {alpha}')
