"""Tokens drawn from what the network says, as they are or from the most probable ones."""

import jax
import jax.numpy as jnp

from kdjax.decoding.base import LOWEST, Limits, Written, write
from kdjax.errors import UsageError
from kdjax.types import Array, Generator, Tree


def sample(
    generator: Generator,
    variables: Tree,
    source: Tree,
    prompt: Array,
    limits: Limits,
    keys: Array,
    *,
    temperature: Array | float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Written:
    """Texts whose every token is drawn. Their log-probabilities are the network's, whatever they were drawn from.

    Args:
      generator, variables: the network.
      source: what it reads, (B, ...).
      prompt: (B, P) ids that texts begin with, 0 for padding on the right.
      limits: what may be written.
      keys: (B,) random keys, one of each text, whose draws depend on nothing else.
      temperature: what logits are divided by first, > 0; may be traced.
      top_k: only so many tokens, the most probable ones, are drawn from (Fan et al. 2018); 0 for all.
      top_p: only the fewest that together have this probability are (Holtzman et al. 2020), of those that `top_k` left.

    Raises:
      UsageError: a top_k or top_p out of range, or prompts that are longer than texts may be.

    Reference: Fan, Lewis, Dauphin, Hierarchical Neural Story Generation, ACL 2018; Holtzman et al., The Curious Case of
    Neural Text Degeneration, ICLR 2020.
    """
    if top_k < 0 or not 0 < top_p <= 1:
        raise UsageError(f'sampling needs top_k >= 0 and top_p in (0, 1], got {top_k} and {top_p}')

    def choose(logs: Array, t: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, t)
        return jax.vmap(jax.random.categorical)(own, truncated(logs / temperature, top_k, top_p))

    return write(generator, variables, source, prompt, limits, choose)


def truncated(logits: Array, top_k: int, top_p: float) -> Array:
    """Logits (..., K), LOWEST of what is not drawn from; of equal ones at the border all stay."""
    if 0 < top_k < logits.shape[-1]:
        logits = jnp.where(logits < jax.lax.top_k(logits, top_k)[0][..., -1:], LOWEST, logits)
    if top_p < 1:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        least = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, LOWEST, logits)
    return logits
