"""The most probable token, one after the other."""

from kdjax.decoding.base import Limits, Written, write
from kdjax.decoding.highest import first
from kdjax.types import Array, Generator, Tree


def greedy(generator: Generator, variables: Tree, source: Tree, prompt: Array, limits: Limits) -> Written:
    """Texts whose every token is the most probable one after those before; of equal ones that of the lowest id.

    Args:
      generator, variables: the network.
      source: what it reads, (B, ...).
      prompt: (B, P) ids that texts begin with, 0 for padding on the right.
      limits: what may be written.

    Raises:
      UsageError: prompts that are longer than texts may be.
    """
    return write(generator, variables, source, prompt, limits, lambda logs, t: first(logs))
