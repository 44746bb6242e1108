"""How long texts are made comparable with short ones: what their log-probability is divided by.

Of two hypotheses the longer has nearly always the lower log-probability, and a search for the highest finds short
texts. With alpha 0 each rule leaves it at that.
"""

from collections.abc import Callable

import jax.numpy as jnp

from kdjax.types import Array

Rule = Callable[[Array, float], Array]  # tokens of a text, its end included, and alpha


def gnmt(length: Array, alpha: float) -> Array:
    """((5 + n) / 6)^alpha.

    Reference: Wu et al., Google's Neural Machine Translation System, arXiv 1609.08144, eq. 14.
    """
    return ((5.0 + length.astype(jnp.float32)) / 6.0) ** alpha


def mean(length: Array, alpha: float) -> Array:
    """n^alpha; with alpha 1 the score is the mean log-probability of a token."""
    return length.astype(jnp.float32) ** alpha


RULES: dict[str, Rule] = {'gnmt': gnmt, 'mean': mean}
