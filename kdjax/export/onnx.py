"""ONNX: a file that servers, browsers and many devices run; made by `jax2onnx`, run by `onnxruntime`.

The conversion has a process of its own, since `jax2onnx` leaves operations of its own in what JAX keeps of a network,
which then no longer runs. The extra `onnx` has all that is needed.
"""

import contextlib
import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from kdjax.errors import UsageError, said
from kdjax.export import bundle, ranges
from kdjax.export.litert import quiet
from kdjax.export.program import Calibration, Program

LOGITS, BATCH = 'logits', 'batch'
OPSET = 21
ADVICE = 'ONNX files need the extra: pip install "kdjax[onnx]"'
EXAMPLE = 'example.pickle'
PRODUCTS = ['Conv', 'Gemm', 'MatMul']
# What else there is in networks of convolutions, all of which may be done in whole numbers.
SIMPLE = ('Add', 'Sub', 'Mul', 'Relu', 'ReduceMean', 'ReduceMax', 'ReduceSum', 'Div', 'GlobalAveragePool',
          'AveragePool', 'MaxPool', 'Reshape', 'Transpose', 'Pad', 'Concat', 'Slice', 'Split', 'Flatten', 'Squeeze',
          'Unsqueeze')  # fmt: skip
SHAPES = ('Shape', 'Gather', 'Expand')  # of any number of examples


def write(program: Program, path: Path) -> None:
    """Writes the file: for any number of examples, or for one, where an operation needs to know.

    Raises:
      UsageError: an operation that `jax2onnx` does not know, or the extra is not installed.
    """
    path.write_bytes(_converted(program))


_kept: list[tuple[Any, bytes]] = []  # the latest, with its student: its file of whole numbers begins with it


def _converted(program: Program) -> bytes:
    if _kept and _kept[0][0] is program.student.variables:
        return _kept[0][1]
    _check()
    with tempfile.TemporaryDirectory() as place:
        folder = program.student.save(place)
        path = folder / 'converted.onnx'
        (folder / EXAMPLE).write_bytes(pickle.dumps(program.example))
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path)), 'JAX_PLATFORMS': 'cpu'}
        command = [sys.executable, '-m', 'kdjax.export.onnx', str(folder), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ['no word of it']
            raise UsageError(f'this network has no ONNX file: {lines[-1]}')
        _kept[:] = [(program.student.variables, path.read_bytes())]
    return _kept[0][1]


def write_int8(program: Program, path: Path, calibration: Calibration) -> None:
    """Writes the file of whole numbers: weights by output channel, all else by tensor; raises as `write`.

    Ranges are those of the examples. A file that finds them anew for every example is slow where it convolves: there is
    none. Codes of weights have no sign: of signed ones sums of two overflow on x86 processors without VNNI, silently.
    """
    path.write_bytes(quantized(_converted(program), calibration))


def quantized(content: bytes, calibration: Calibration) -> bytes:
    """A file of whole numbers, of one of float32."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as place, quiet():
        plain, ready, coarse = (Path(place) / f'{name}.onnx' for name in ('plain', 'ready', 'coarse'))
        plain.write_bytes(content)
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            _drop_scalars(ready)
            learned = ranges.by_tensor(calibration.ranges, _weights(ready))
            overrides = {name: [{'rmin': np.float32(low), 'rmax': np.float32(high)}]
                         for name, (low, high) in learned.items()}  # fmt: skip
            quantization.quantize_static(
                str(ready), str(coarse), _Reader(calibration.examples), per_channel=True,
                quant_format=quantization.QuantFormat.QDQ, activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QUInt8, op_types_to_quantize=_rounded(ready),
                extra_options={'TensorQuantOverrides': overrides, 'WeightSymmetric': True},
            )  # fmt: skip
        except Exception as error:  # of any kind, by the operation
            raise UsageError(f'this network has no ONNX file of whole numbers: {said(error)}') from error
        return coarse.read_bytes()


def session(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """What answers a file, with one thread: {name: (N, ...)} -> logits (N, ...)."""
    run = started(path)
    alone = any(one.shape[0] == 1 for one in run.get_inputs())
    names = [one.name for one in run.get_inputs()]  # an input that nothing depends on is left out

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        given = {name: inputs[name] for name in names}
        if not alone:
            return run.run([LOGITS], given)[0]
        count = len(next(iter(inputs.values())))
        rows = ({name: array[place : place + 1] for name, array in given.items()} for place in range(count))
        return np.concatenate([run.run([LOGITS], row)[0] for row in rows])

    return answer


def started(path: Path) -> Any:
    """The session of `onnxruntime` for a file, with one thread."""
    _check()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def _check() -> None:
    missing = [name for name in ('jax2onnx', 'onnx', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'{ADVICE} (there is no {missing[0]})')


class _Reader:
    """Examples one after the other, as `onnxruntime` asks for them."""

    def __init__(self, examples: Mapping[str, np.ndarray]) -> None:
        count = len(next(iter(examples.values())))
        self._rows = iter([{name: array[k : k + 1] for name, array in examples.items()} for k in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def _drop_scalars(path: Path) -> None:
    """Takes biases that are the number 0 out of products: the quantizer wants one for each output."""
    import onnx

    model = onnx.load(str(path))
    zeros = {one.name for one in model.graph.initializer if not one.dims and not onnx.numpy_helper.to_array(one)}
    for node in model.graph.node:
        if node.op_type == 'Gemm' and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
    onnx.save(model, str(path))


def _rounded(path: Path) -> Sequence[str] | None:
    """The operations of whole numbers: None for all, or products alone, where others reach far or divide."""
    import onnx

    used = {node.op_type for node in onnx.load(str(path)).graph.node}
    return None if used <= {*PRODUCTS, *SIMPLE, *SHAPES} else PRODUCTS


def _weights(path: Path) -> list[tuple[str, np.ndarray]]:
    """Of every product with constant weights the name of the tensor that it multiplies, and the weights."""
    import onnx

    graph = onnx.load(str(path)).graph
    constants = {one.name: one for one in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in PRODUCTS and node.input[1] in constants:
            found.append((node.input[0], onnx.numpy_helper.to_array(constants[node.input[1]])))
    return found


def convert(folder: Path, target: Path) -> None:
    """Converts the student of a folder; for the process that does nothing else."""
    from jax2onnx import to_onnx

    example = pickle.loads((folder / EXAMPLE).read_bytes())
    program = Program(bundle.read(folder), example)
    names = list(program.inputs)

    def function(*given: Any) -> Any:
        return program.function(dict(zip(names, given, strict=True)))

    def converted(batch: Any, first: bool) -> None:
        asked = [jax.ShapeDtypeStruct((batch, *one.shape), one.dtype) for one in program.inputs.values()]
        run = jaxpr_as_fun(jax.make_jaxpr(function)(*asked)) if first else function
        model = to_onnx(run, asked, model_name='kdjax', opset=OPSET, input_names=names, output_names=[LOGITS])
        _simplified(model.SerializeToString(), target)

    errors: list[Exception] = []
    # While it traces, `jax2onnx` has layers of its own in the place of flax's, which make smaller files and do not do
    # all that flax's do; products of a rounded network are not found among them. And some operations need to know how
    # many examples there are.
    ways = (True,) if ranges.rounded(program.student) else (False, True)
    for batch, first in itertools.product((jax.export.symbolic_shape(BATCH)[0], 1), ways):
        try:
            return converted(batch, first)
        except Exception as error:  # of any kind, by the operation
            errors.append(error)
    raise errors[-1]


def _simplified(content: bytes, target: Path) -> None:
    """Writes a model with what follows from constants computed, and transpositions that undo each other left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        sys.stderr.write(f'\n{said(error)}\n')
        sys.exit(1)


if __name__ == '__main__':
    with _one_line():
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
