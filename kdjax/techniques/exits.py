"""What terms of early exits share: from a layer of the student a small learned head answers as the network does."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.techniques.algebra import wide
from kdjax.techniques.base import Taps, Term, apply_module, init_module
from kdjax.techniques.layers import as_seen
from kdjax.techniques.tokens import real_tokens
from kdjax.types import Array, TermInputs, Tree


def exit_vector(x: Array, real_BN: Array | None = None) -> Array:
    """What a head knows of a feature (B, D): neighbours or tokens are looked at by a layer, then averaged over.

    To be called in a compact module, whose layer it becomes. `real_BN` says of tokens (B, N, D) which are real.
    """
    if x.ndim == 4:
        return jnp.mean(nn.relu(Conv(2 * x.shape[-1], (3, 3), (2, 2))(x)), axis=(1, 2))
    if real_BN is not None:
        x = nn.gelu(nn.Dense(2 * x.shape[-1])(x))
        count = jnp.maximum(jnp.sum(real_BN, axis=1, keepdims=True), 1).astype(x.dtype)
        return jnp.sum(jnp.where(real_BN[..., None], x, 0), axis=1) / count
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExitTerm(Term):
    """A term of exits of the student, each with a learned head of its own, by the layer's name.

    Attributes:
      layers: taps of the student, maps (B, H, W, C), tokens (B, N, D) or vectors (B, D).
    """

    layers: tuple[str, ...] = ()

    def taps(self) -> Taps:
        return Taps(student=tuple(self.layers))

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        return {
            layer: init_module(self.head(inputs), jax.random.fold_in(key, index), *_feature(layer, inputs))
            for index, layer in enumerate(self.layers)
        }, {}

    def answers(self, params: Tree, inputs: TermInputs) -> list[Any]:
        """What the heads make of their layers."""
        return [apply_module(self.head(inputs), params[layer], *_feature(layer, inputs)) for layer in self.layers]

    def head(self, inputs: TermInputs) -> nn.Module:
        """From a feature, and which of its tokens are real where it has some, to what the term compares."""
        raise UsageError(f'{type(self).__name__} must define head(inputs)')


def _feature(layer: str, inputs: TermInputs) -> tuple[Array, Array | None]:
    feature = wide(inputs.student.features[layer])
    if feature.ndim not in (2, 3, 4):
        raise UsageError(f'exit {layer!r}: {feature.shape} is no map (B, H, W, C), tokens (B, N, D) or vector (B, D)')
    if feature.ndim != 3:
        return feature, None
    real_BN = real_tokens(as_seen(inputs, (layer, '')), feature.shape[1])
    return jnp.where(real_BN[..., None], feature, 0), real_BN
