"""What a LiteRT file asks of a microcontroller: operators, types, and memory, as its graph tells them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.export import litert, memory
from kdjax.export.memory import Buffer

# What TFLite-Micro's resolver has (micro_mutable_op_resolver.h, 2025).
NAMES = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV
ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT
LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU
QUANTIZE READ_VARIABLE REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2
ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
OPERATORS = frozenset(NAMES.split())
DELEGATE = 'DELEGATE'  # what the interpreter puts beside the operators that it hands over


class Asked(NamedTuple):
    """What a file asks for."""

    operators: tuple[str, ...]  # each once
    missing: tuple[str, ...]  # of them, those that TFLite-Micro does not have
    whole: bool  # whether all that is computed are whole numbers
    ram: int  # bytes that no order of places in memory goes below

    @property
    def says(self) -> str:
        """As a table may say it: that operators are there is not that it runs."""
        return f'not there: {", ".join(self.missing)}' if self.missing else 'operators supported'


def asked(path: Path) -> Asked:
    """What a LiteRT file asks for; raises UsageError where LiteRT is not installed."""
    interpreter = litert.interpreted(path)
    steps = [step for step in interpreter._get_ops_details() if step['op_name'] != DELEGATE]
    names = sorted({step['op_name'] for step in steps})
    tensors = {detail['index']: detail for detail in interpreter.get_tensor_details()}
    buffers = _buffers(interpreter, steps, tensors)
    kinds = {np.dtype(tensors[buffer.name]['dtype']).kind for buffer in buffers}
    return Asked(tuple(names), tuple(name for name in names if name not in OPERATORS), kinds <= {'i', 'b'},
                 memory.bound(buffers))  # fmt: skip


def _buffers(interpreter: Any, steps: list[Any], tensors: Any) -> list[Buffer]:
    """Activations; what no step makes and nobody gives is constant."""
    made = {int(detail['index']): -1 for detail in interpreter.get_input_details()}
    made |= {int(tensor): place for place, step in enumerate(steps) for tensor in step['outputs']}
    last = {int(tensor): place for place, step in enumerate(steps) for tensor in step['inputs']}
    last |= {int(detail['index']): len(steps) for detail in interpreter.get_output_details()}
    return [
        Buffer(tensor, int(np.prod(tensors[tensor]['shape'])) * np.dtype(tensors[tensor]['dtype']).itemsize, first,
               max(first, last.get(tensor, first)))
        for tensor, first in made.items() if tensor in tensors
    ]  # fmt: skip
