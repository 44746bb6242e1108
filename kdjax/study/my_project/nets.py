"""The networks, one in flax.linen and one in flax.nnx, and the names of what terms may read of them.

Both have the taps 'block1' and 'block2', maps (B, H, W, C), and 'embedding' (B, D).
"""

import jax
import jax.numpy as jnp
from flax import linen, nnx

from kdjax.nets.adapters import from_nnx
from kdjax.nets.base import compute_dtype, from_linen, tap
from kdjax.types import Net

TAPS = ('block1', 'block2', 'embedding')


class ConvNet(linen.Module):
    """Two convolutions, the mean over the map, a linear layer."""

    widths: tuple[int, int]
    classes: int
    dtype: jnp.dtype

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (B, classes) of images (B, H, W, C)."""
        # Change here: layers of your own. What a term is to read is named by `tap`, and listed in TAPS.
        x = linen.relu(linen.Conv(self.widths[0], (3, 3), dtype=self.dtype)(x))
        x = tap(self, 'block1', x)
        x = linen.relu(linen.Conv(self.widths[1], (3, 3), strides=2, dtype=self.dtype)(x))
        x = tap(self, 'block2', x)
        x = tap(self, 'embedding', jnp.mean(x, axis=(1, 2)))
        return linen.Dense(self.classes, dtype=self.dtype)(x)


def conv_net(
    *, classes: int, widths: tuple[int, int] = (16, 32), precision: str = 'float32', axis: str | None = None
) -> Net:
    """The network as configs name it: it is told the classes by the data, and its widths by the config."""
    return from_linen(ConvNet(widths, classes, compute_dtype(precision)), TAPS, axis=axis)


class NnxConvNet(nnx.Module):
    """The same in nnx; `channels` are those of the images."""

    def __init__(self, widths: tuple[int, int], classes: int, channels: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(channels, widths[0], (3, 3), dtype=dtype, rngs=rngs)
        self.second = nnx.Conv(widths[0], widths[1], (3, 3), strides=2, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(widths[1], classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (B, classes) of images (B, H, W, C)."""
        x = nnx.relu(self.first(x))
        self.sow(nnx.Intermediate, 'block1', x)
        x = nnx.relu(self.second(x))
        self.sow(nnx.Intermediate, 'block2', x)
        x = jnp.mean(x, axis=(1, 2))
        self.sow(nnx.Intermediate, 'embedding', x)
        return self.head(x)


def nnx_conv_net(
    *,
    classes: int,
    widths: tuple[int, int] = (16, 32),
    channels: int = 1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The nnx network as configs name it."""
    del axis  # of devices over which batch statistics are taken, of which it has none
    dtype = compute_dtype(precision)
    return from_nnx(lambda rngs: NnxConvNet(widths, classes, channels, dtype, rngs), TAPS)
