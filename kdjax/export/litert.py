"""LiteRT, formerly TensorFlow Lite: a file that telephones and microcontrollers run, made without TensorFlow.

A program becomes StableHLO text, which `litert-converter` turns into a file, of one example at a time. Of it
`ai-edge-quantizer` makes one of whole numbers, and `ai-edge-litert` runs both. The extra `litert` has all three.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from kdjax.errors import UsageError, said
from kdjax.export import ranges
from kdjax.export.program import Calibration, Program

SIGNATURE, LOGITS = 'serving_default', 'logits'
ADVICE = 'LiteRT files need the extra: pip install "kdjax[litert]"'
PRODUCTS = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED')
# What else there is in networks of convolutions, all of which may be done in whole numbers.
SIMPLE = ('ADD', 'SUB', 'MUL', 'MEAN', 'RESHAPE', 'PAD', 'CONCATENATION', 'MAX_POOL_2D', 'AVERAGE_POOL_2D', 'TRANSPOSE',
          'SLICE', 'STRIDED_SLICE', 'REDUCE_MAX', 'RELU', 'SPLIT', 'SUM', 'PADV2')  # fmt: skip
# Of another platform than a CPU: what a CPU has of its own is left out.
PLATFORM = 'tpu'
FOREIGN = re.compile(r'"?\b((?:stablehlo|chlo|vhlo|shape|func|scf|arith)\.(?!func\b|return\b|constant\b)\w+)')

ERROR = re.compile('error: (.*)')  # among where it was met


def write(program: Program, path: Path) -> None:
    """Writes the file, for one example.

    Raises:
      UsageError: an operation that LiteRT does not have, or the extra is not installed.
    """
    path.write_bytes(_converted(program))


def write_int8(program: Program, path: Path, calibration: Calibration) -> None:
    """Writes the file of whole numbers: weights by output channel, all else by tensor; raises as `write`."""
    with _installed():
        from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils
    source = _converted(program)
    names = list(interpreted(source).get_signature_runner(SIGNATURE).get_input_details())
    count = len(next(iter(calibration.examples.values())))
    rows = [{name: calibration.examples[name][place : place + 1] for name in names} for place in range(count)]
    known = _weights(source)
    if not known:
        raise UsageError(f'this network has no LiteRT file of whole numbers: it has none of {", ".join(PRODUCTS)}')
    with quiet():
        try:
            how = recipe_manager.RecipeManager()
            for name in _rounded(source):
                how.add_static_config('.*', qtyping.TFLOperationName(name), activation_num_bits=8, weight_num_bits=8)
            # By itself it takes moving averages, and clips what is larger.
            seen = calibrator.Calibrator(bytearray(source), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
            seen.calibrate({SIGNATURE: rows}, how)
            found = {name: _with_room(ends) for name, ends in seen.get_model_qsvs().items()}
            for name, (low, high) in ranges.by_tensor(calibration.ranges, known).items():
                ends = {'min': low, 'max': high}
                found[name] |= {end: np.full_like(found[name][end], value) for end, value in ends.items()}
            work = quantizer.Quantizer(bytearray(source), how.get_quantization_recipe())
            result = work.quantize(found, enable_progress_bar=False, enable_progress_report=False)
        except Exception as error:  # of any kind, by the operation
            raise UsageError(f'this network has no LiteRT file of whole numbers: {said(error)}') from error
    path.write_bytes(bytes(result.quantized_model))


def session(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """What answers a file, one example after the other: {name: (N, ...)} -> logits (N, ...)."""
    interpreter = interpreted(path)
    run = interpreter.get_signature_runner(SIGNATURE)
    into, out = run.get_input_details(), run.get_output_details()[LOGITS]

    def one(inputs: Mapping[str, np.ndarray], place: int) -> np.ndarray:
        given = {name: coded(inputs[name][place : place + 1], detail) for name, detail in into.items()}
        return decoded(run(**given)[LOGITS], out)

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        count = len(next(iter(inputs.values())))
        return np.concatenate([one(inputs, place) for place in range(count)])

    return answer


def interpreted(path: Path | bytes) -> Any:
    """The interpreter of a file, with one thread."""
    with _installed():
        from ai_edge_litert.interpreter import Interpreter
    content = path if isinstance(path, bytes) else path.read_bytes()
    found = Interpreter(model_content=content, num_threads=1)
    found.allocate_tensors()
    return found


def coded(array: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """Numbers as an input of the file takes them: whole ones of int8 where it is of those."""
    scale, zero = detail['quantization']
    if not scale:
        return array.astype(detail['dtype'], copy=False)
    bounds = np.iinfo(detail['dtype'])
    return np.clip(np.rint(array / scale) + zero, bounds.min, bounds.max).astype(detail['dtype'])


def decoded(array: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """What an output of the file means. float32"""
    scale, zero = detail['quantization']
    return ((array.astype(np.float32) - zero) * scale if scale else array).astype(np.float32)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what these libraries print, log and warn of every operation."""
    old = logging.root.manager.disable
    logging.disable(logging.WARNING)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(old)


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(f'{ADVICE} ({said(error)})') from error


def _converted(program: Program) -> bytes:
    with _installed():
        from litert_converter import converter_api_ext as api
        from litert_converter.mlir import ir
        from litert_converter.mlir.passmanager import PassManager
    names = list(program.inputs)
    asked = [jax.ShapeDtypeStruct((1, *one.shape), one.dtype) for one in program.inputs.values()]

    def function(*given: Any) -> Any:
        return program.function(dict(zip(names, given, strict=True)))

    try:
        found = export.export(jax.jit(function), platforms=(PLATFORM,))(*asked)
    except Exception as error:  # of any kind, by the operation
        raise UsageError(f'this network has no LiteRT file: {said(error)}') from error
    names = [names[place] for place in found.module_kept_var_idx]  # without those that nothing depends on
    with ir.Context() as context:
        api.prepare_mlir_context(context)
        module = ir.Module.parse(found.mlir_module())
        api.set_signature(module.operation, SIGNATURE, names, [LOGITS])
        try:
            api.run_convert_to_tfl_passes(module, PassManager(), api.ConvertToTFLConfig())
            return api.export_flatbuffer_to_bytes(module.operation)
        except Exception as error:  # of any kind, by the operation
            left = sorted(set(FOREIGN.findall(str(module))))
            met = ERROR.search(str(error))
            why = f'it has no operation for {", ".join(left)}' if left else met[1] if met else said(error)
            raise UsageError(f'this network has no LiteRT file: {why}') from error


def _with_room(ends: Mapping[str, Any]) -> dict[str, Any]:
    """A range that is one number as a wider one: of steps of size 0 the interpreter ends the process."""
    if 'min' not in ends:
        return dict(ends)
    low, high = np.asarray(ends['min']), np.asarray(ends['max'])
    return {**ends, 'max': np.where(high - low > 1e-30, high, low + 1).astype(high.dtype)}


def _rounded(source: bytes) -> Sequence[str]:
    """The operations that work with whole numbers: all, or products alone, where others reach far or divide."""
    used = {operation['op_name'] for operation in interpreted(source)._get_ops_details()} - {'DELEGATE'}
    return ('*',) if used <= {*PRODUCTS, *SIMPLE} else PRODUCTS


def _weights(source: bytes) -> list[tuple[str, np.ndarray]]:
    """Of every product with constant weights the name of the tensor that it multiplies, and the weights."""
    interpreter = interpreted(source)
    tensors = {detail['index']: detail for detail in interpreter.get_tensor_details()}
    found = []
    for operation in interpreter._get_ops_details():
        if operation['op_name'] in PRODUCTS:
            inputs, weights = (tensors[place] for place in operation['inputs'][:2])
            found.append((inputs['name'], interpreter.get_tensor(weights['index'])))
    return found
