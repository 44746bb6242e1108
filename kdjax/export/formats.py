"""The files that a student can be written to beside its weights: how each is called, made, and asked.

A file reads what the network reads, that is what preprocessing gives, which is told in `student.json`; it answers
logits. Its inputs have names: those of the network's inputs where they are several, such as 'frames' and 'mask', and
'inputs' otherwise. Every format has a module here with

- `write(program, path)`, and `write_int8(program, path, calibration)` where there is a form of whole numbers: raises
  UsageError, one line, where an operator of the network or a library is in the way;
- `session(path)` -> a function of {name: (N, ...)} to logits (N, ...), in the runtime that the format is for, with one
  thread.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.errors import UsageError, unknown

if TYPE_CHECKING:  # so that who asks for names alone loads no JAX
    from kdjax.export.program import Calibration, Program

Inputs = Mapping[str, np.ndarray]  # (N, ...) each
Session = Callable[[Inputs], np.ndarray]  # to logits (N, ...), float32


class Format(NamedTuple):
    """What a format is."""

    file: str  # name of its file in the folder of a student
    module: str  # in kdjax.export, where it is written and asked
    title: str  # what pages call it
    int8: bool = False  # whole numbers of 8 bits


FORMATS = {
    'stablehlo': Format('student.stablehlo', 'stablehlo', 'StableHLO'),
    'litert': Format('student.tflite', 'litert', 'LiteRT'),
    'litert-int8': Format('student.int8.tflite', 'litert', 'LiteRT, int8', int8=True),
    'onnx': Format('student.onnx', 'onnx', 'ONNX'),
    'onnx-int8': Format('student.int8.onnx', 'onnx', 'ONNX, int8', int8=True),
    'c': Format('student.h', 'c.code', 'C, int8', int8=True),
    'torch': Format('student.torch.safetensors', 'torch', 'PyTorch state dict'),
}


def named(names: str) -> tuple[str, ...]:
    """The formats of 'onnx,litert-int8', each once.

    Raises:
      UsageError: one that does not exist; lists those that do.
    """
    found = tuple(dict.fromkeys(filter(None, (name.strip() for name in names.split(',')))))
    for name in found:
        if name not in FORMATS:
            raise unknown('format', name, FORMATS)
    return found


def write(name: str, program: 'Program', folder: Path, calibration: 'Calibration | None' = None) -> Path:
    """Writes the file of a format; returns it.

    Args:
      name: of FORMATS.
      program: see there.
      folder: where to; it exists.
      calibration: examples, for formats of whole numbers.
    """
    spec = FORMATS[name]
    path = folder / spec.file
    if not spec.int8:
        _module(spec).write(program, path)
    elif calibration is None:
        raise UsageError(f'format {name!r} is of whole numbers: it needs examples to find their ranges')
    else:
        _module(spec).write_int8(program, path, calibration)
    return path


def session(name: str, path: Path) -> Session:
    """What answers a file in its own runtime; raises UsageError where that is not installed."""
    return _module(FORMATS[name]).session(path)


def _module(spec: Format) -> Any:
    return importlib.import_module(f'kdjax.export.{spec.module}')
