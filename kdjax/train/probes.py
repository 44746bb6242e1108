"""What a term may ask of a network beyond its outputs: derivatives of the logits, and its answers to other views.

Random choices depend on the example's own pixels, so that student, teacher and cache make the same ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.data.augment import erase, shift
from kdjax.errors import UsageError
from kdjax.types import Array, Net, Outputs, Tree

DIRECTIONS = 4  # of 'tangents', per example

Forward = Callable[[Array], Outputs]  # inputs -> outputs


class Probe(NamedTuple):
    """Taps that need further passes through a network."""

    taps: tuple[str, ...]
    ask: Callable[[Forward, Array], Mapping[str, Array]]
    train: bool  # whether a network in training answers with the statistics of the batch


def probed(net: Net, taps: Sequence[str]) -> Net:
    """`net` with those of the taps that probes give:

    'tangents' (B, 4, K): derivatives of the logits along random directions of length 1, by forward mode;
    'jacobian' (B, K, H, W, C): all derivatives of the logits by the inputs;
    'strong' (B, K): logits of a strongly augmented view;
    'rotated' (B, 4, K), 'rotated_penult' (B, 4, D): logits and last features of the images turned by 0 to 270 degrees.

    Derivatives are those of the network as it is used, with its running statistics: an example's are its own.
    """
    wanted = [probe for probe in PROBES if set(probe.taps) & set(taps)]
    if not wanted:
        return net

    def apply(variables: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        outputs, stats = net.apply(variables, inputs, train=train, key=key)
        features = dict(outputs.features)
        for probe in wanted:

            def forward(x: Array, training: bool = train and probe.train) -> Outputs:
                return net.apply(variables, x, train=training, key=key)[0]

            features.update(probe.ask(forward, inputs))
        return Outputs(outputs.logits, features, outputs.masks), stats

    return Net(net.init, apply, (*net.taps, *(tap for probe in wanted for tap in probe.taps)))


def _tangents(forward: Forward, inputs: Array) -> dict[str, Array]:
    _, push = jax.linearize(lambda x: forward(x).logits, inputs)
    drawn = jax.vmap(lambda key, x: jax.random.normal(key, (DIRECTIONS, *x.shape), x.dtype))(_keys(inputs), inputs)
    length = jnp.sqrt(jnp.sum(jnp.square(drawn), axis=range(2, drawn.ndim), keepdims=True))
    return {'tangents': jnp.moveaxis(jax.vmap(push)(jnp.moveaxis(drawn / length, 1, 0)), 0, 1)}


def _jacobian(forward: Forward, inputs: Array) -> dict[str, Array]:
    by_example = jax.vmap(jax.jacrev(lambda x: forward(x[None]).logits[0]))(inputs)
    return {'jacobian': by_example[..., None] if inputs.ndim == 3 else by_example}


def _strong(forward: Forward, inputs: Array) -> dict[str, Array]:
    for augment in STRONG:
        inputs = jax.vmap(augment)(_keys(inputs), inputs)
    return {'strong': forward(inputs).logits}


def _rotated(forward: Forward, inputs: Array) -> dict[str, Array]:
    if inputs.shape[1] != inputs.shape[2]:
        raise UsageError(f"the tap 'rotated' needs square images, got {inputs.shape[1:3]}")
    turned = jnp.concatenate([jnp.rot90(inputs, turns, axes=(1, 2)) for turns in range(4)])
    outputs = forward(turned)
    if 'penult' not in outputs.features:
        raise UsageError("the tap 'rotated_penult' needs a network with the tap 'penult'")
    both = {'rotated': outputs.logits, 'rotated_penult': outputs.features['penult']}
    return {name: jnp.moveaxis(leaf.reshape(4, -1, *leaf.shape[1:]), 0, 1) for name, leaf in both.items()}


def _keys(inputs: Array) -> Array:
    """A random key per example, from its pixels. (B,)"""
    bits = jax.lax.bitcast_convert_type(inputs.astype(jnp.float32), jnp.uint32).reshape(inputs.shape[0], -1)
    odd = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    return jax.vmap(jax.random.key)(jnp.sum(bits * odd * jnp.uint32(2654435761), axis=1, dtype=jnp.uint32))


STRONG: tuple[Any, ...] = (shift(pixels=2), erase(share=0.25))
PROBES = (
    Probe(('tangents',), _tangents, train=False),
    Probe(('jacobian',), _jacobian, train=False),
    Probe(('strong',), _strong, train=True),
    Probe(('rotated', 'rotated_penult'), _rotated, train=True),
)
