"""Two networks that write together: every token is drawn from the mean of what both say."""

import jax
import jax.numpy as jnp

from kdjax.types import Array, Cache, Generator, Tree


def mixed(student: Generator, teacher: Generator, share: float) -> Generator:
    """share p + (1 - share) q of teacher p and student q, token by token; its variables are (student's, teacher's).

    Args:
      student, teacher: of one vocabulary.
      share: alpha, in (0, 1).

    Reference: Gu et al., MiniLLM: Knowledge Distillation of Large Language Models, ICLR 2024, eq. 4.
    """

    def start(variables: Tree, source: Tree, length: int, width: int = 1) -> Cache:
        both = [
            writer.start(mine, source, length, width)
            for writer, mine in zip((student, teacher), variables, strict=True)
        ]
        return Cache(tuple(cache.own for cache in both), tuple(cache.rest for cache in both))

    def extend(variables: Tree, cache: Cache, token: Array, t: Array | int) -> tuple[Array, Cache]:
        caches = [Cache(*parts) for parts in zip(cache.own, cache.rest, strict=True)]
        (q, own), (p, other) = (
            writer.extend(mine, kept, token, t)
            for writer, mine, kept in zip((student, teacher), variables, caches, strict=True)
        )
        log_q, log_p = (jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1) for logits in (q, p))
        mean = jnp.logaddexp(log_p + jnp.log(share), log_q + jnp.log1p(-share))
        return mean, Cache((own.own, other.own), (own.rest, other.rest))

    return Generator(start, extend)
