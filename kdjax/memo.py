"""Equal structure, one program: what is made of equal arguments is the same object.

JAX traces and compiles anew for every function object, however alike two of them are. Functions that choose programs
are therefore made through here, and fits that differ in numbers alone find the program that is there.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

# Decorates a pure function of hashable arguments. Few are kept of each kind: with a function go its compiled programs,
# and a long sweep has many structures.
shared = functools.lru_cache(maxsize=32)


@shared
def bound(function: Callable[..., Any], **structure: Any) -> Callable[..., Any]:
    """`functools.partial`, the same object for equal arguments."""
    return functools.partial(function, **structure)


@shared
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit`, one for each function."""
    return jax.jit(function)


@shared
def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` of what runs once, and takes longer to compile: on a CPU it is optimised less, and says the same."""
    quick = {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None
    return jax.jit(function, compiler_options=quick)
