"""StableHLO: a program and its weights in one file that JAX alone reads.

It takes any number of examples, or one, where an operation needs to know how many there are. The same file runs on
processors, graphics cards and TPUs. JAX reads files that are up to half a year older than itself, and often older ones.
"""

import functools
from collections.abc import Callable, Mapping
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
      UsageError: an operation of the network cannot be written.
    """

    def exported(batch: Any) -> export.Exported:
        asked = {name: jax.ShapeDtypeStruct((batch, *one.shape), one.dtype) for name, one in program.inputs.items()}
        return export.export(jax.jit(functools.partial(program.function, loops=True)), platforms=PLATFORMS)(asked)

    try:
        found = exported(export.symbolic_shape('batch')[0])
    except Exception:  # of any kind, by the operation
        try:
            found = exported(1)
        except Exception as error:
            raise UsageError(f'this network has no StableHLO file: {said(error)}') from error
    path.write_bytes(found.serialize())


def session(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """What answers a file: {name: (N, ...)} -> logits (N, ...)."""
    found = export.deserialize(bytearray(path.read_bytes()))
    run = jax.jit(found.call)

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        if not isinstance(found.in_avals[0].shape[0], int):
            return np.asarray(run(dict(inputs)))
        count = len(next(iter(inputs.values())))
        rows = ({name: array[place : place + 1] for name, array in inputs.items()} for place in range(count))
        return np.concatenate([np.asarray(run(row)) for row in rows])

    return answer
