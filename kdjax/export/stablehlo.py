"""StableHLO: a program and its weights in one file that JAX alone reads, for any number of examples.

One file has the program for processors, graphics cards and TPUs. JAX reads files that are up to half a year older than
itself, and often older ones.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from kdjax.errors import UsageError, said
from kdjax.export.program import Program

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(program: Program, path: Path) -> None:
    """Writes the file.

    Raises:
      UsageError: an operation of the network needs to know how many examples there are.
    """
    scope = export.SymbolicScope()
    batch = export.symbolic_shape('batch', scope=scope)
    asked = {name: jax.ShapeDtypeStruct((*batch, *one.shape), one.dtype) for name, one in program.inputs.items()}
    try:
        found = export.export(jax.jit(functools.partial(program.function, loops=True)), platforms=PLATFORMS)(asked)
    except Exception as error:  # of any kind, by the operation
        raise UsageError(f'this network has no StableHLO file for any number of examples: {said(error)}') from error
    path.write_bytes(found.serialize())


def session(path: Path) -> Any:
    """What answers a file: {name: (N, ...)} -> logits (N, ...)."""
    run = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda inputs: np.asarray(run(dict(inputs)))
