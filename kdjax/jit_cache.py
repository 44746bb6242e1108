"""Equal structure, one program: what is made of equal arguments is the same object.

JAX traces and compiles anew for every function object, however alike two of them are. Functions that choose programs
are therefore made through here, and fits that differ in numbers alone find the program that is there.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import JaxprEqn, jaxpr_as_fun
from jax.interpreters import partial_eval

MAPPINGS = Path('/proc/self/maps')  # one line for each piece of memory of this process, on Linux
MOST_MAPPINGS = Path('/proc/sys/vm/max_map_count')  # how many a process may have

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
    """`jax.jit` of what runs once and takes longer to compile, as initial weights do.

    Compiled as a whole, the random numbers of every parameter are compiled by themselves. Where several parts are alike
    it is therefore run operation by operation: those of every shape are compiled, once. What the outputs do not need is
    not run. A process that draws a resnet56 and a resnet20 takes 6 s of CPU time, 29 with `jax.jit`; where what was
    compiled had been kept, 2.5 and 3.6. Of an MLP no parts are alike, and neither is faster.
    """
    # On a CPU optimised less, which takes a fraction of the time and gives the same numbers.
    options = {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else {}
    whole = jax.jit(function, compiler_options=options)

    def quick(equation: JaxprEqn) -> JaxprEqn:
        if equation.primitive.name != 'jit':
            return equation
        return equation.replace(params={**equation.params, 'compiler_options_kvs': tuple(options.items())})

    def evaluated(*arguments: Any) -> Any:
        traced = whole.trace(*arguments)
        leaves, structure = jax.tree.flatten(traced.out_info)
        needed, _ = partial_eval.dce_jaxpr(traced.jaxpr.jaxpr, [True] * len(leaves), instantiate=True)
        parts = [equation.params['jaxpr'] for equation in needed.eqns if equation.primitive.name == 'jit']
        if len(set(parts)) == len(parts):
            return whole(*arguments)
        operations = traced.jaxpr.replace(jaxpr=needed.replace(eqns=[quick(equation) for equation in needed.eqns]))
        return jax.tree.unflatten(structure, jaxpr_as_fun(operations)(*jax.tree.leaves(arguments)))

    return evaluated


def let_go(share: float = 0.5) -> bool:
    """Drops all compiled programs where they crowd the process; returns whether it did. What runs again compiles again.

    A program has dozens of memory mappings and a process may have 65,530; past that the compiler ends with "Cannot
    allocate memory", however much is free. Does nothing where the kernel does not count them.

    Args:
      share: of the mappings that a process may have, how many it keeps.
    """
    if not (MAPPINGS.exists() and MOST_MAPPINGS.exists()):
        return False
    if MAPPINGS.read_bytes().count(b'\n') <= share * int(MOST_MAPPINGS.read_text()):
        return False
    jax.clear_caches()
    return True
