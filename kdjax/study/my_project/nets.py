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
    """Two convolutions with batch normalisation, the mean over the map, a linear layer."""

    widths: tuple[int, int]
    classes: int
    dtype: jnp.dtype
    axis: str | None

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits (B, classes) of images (B, H, W, C)."""
        # Change here: layers of your own. What a term is to read is named by `tap`, and listed in TAPS.
        for block, (width, stride) in enumerate(zip(self.widths, (1, 2), strict=True), start=1):
            x = linen.Conv(width, (3, 3), strides=stride, use_bias=False, dtype=self.dtype)(x)
            x = linen.BatchNorm(not train, momentum=0.9, dtype=self.dtype, axis_name=self.axis)(x)
            x = tap(self, f'block{block}', linen.relu(x))
        x = tap(self, 'embedding', jnp.mean(x, axis=(1, 2)))
        return linen.Dense(self.classes, dtype=self.dtype)(x)


def conv_net(
    *, classes: int, widths: tuple[int, int] = (16, 32), precision: str = 'float32', axis: str | None = None
) -> Net:
    """The network as configs name it: it is told the classes by the data, and its widths by the config.

    `axis` names the devices over which batch statistics are taken, where there are several.
    """
    return from_linen(ConvNet(widths, classes, compute_dtype(precision), axis), TAPS)


class NnxConvNet(nnx.Module):
    """The same in nnx; `channels` are those of the images."""

    def __init__(
        self,
        widths: tuple[int, int],
        classes: int,
        channels: int,
        dtype: jnp.dtype,
        axis: str | None,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = nnx.Conv(channels, widths[0], (3, 3), use_bias=False, dtype=dtype, rngs=rngs)
        self.norm1 = nnx.BatchNorm(widths[0], momentum=0.9, dtype=dtype, axis_name=axis, rngs=rngs)
        self.conv2 = nnx.Conv(widths[0], widths[1], (3, 3), strides=2, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.BatchNorm(widths[1], momentum=0.9, dtype=dtype, axis_name=axis, rngs=rngs)
        self.head = nnx.Linear(widths[1], classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (B, classes) of images (B, H, W, C)."""
        x = self.named('block1', nnx.relu(self.norm1(self.conv1(x))))
        x = self.named('block2', nnx.relu(self.norm2(self.conv2(x))))
        return self.head(self.named('embedding', jnp.mean(x, axis=(1, 2))))

    def named(self, name: str, x: jax.Array) -> jax.Array:
        """Names `x` so that terms may read it."""
        self.sow(nnx.Intermediate, name, x)
        return x


def nnx_conv_net(
    *,
    classes: int,
    widths: tuple[int, int] = (16, 32),
    channels: int = 1,
    precision: str = 'float32',
    axis: str | None = None,
) -> Net:
    """The nnx network as configs name it."""
    dtype = compute_dtype(precision)
    return from_nnx(lambda rngs: NnxConvNet(widths, classes, channels, dtype, axis, rngs), TAPS)
