"""C: a network as one header, for what has neither an operating system nor memory to spare.

The header has constant arrays and a few functions, includes `stdint.h` alone, and allocates nothing. It computes in
whole numbers (`integers`): `student_integers` gives the same sums on every machine, `student_predict` logits of floats.
"""

import ctypes
import functools
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.compress.quantized import ROUNDING
from kdjax.errors import UsageError
from kdjax.export import memory
from kdjax.export.c import integers, operators
from kdjax.export.c.integers import Integers, Step
from kdjax.export.c.kinds import MAXIMUM, PRODUCT, Graph
from kdjax.export.c.operators import FRAMES
from kdjax.export.memory import Buffer
from kdjax.export.program import Calibration, Program
from kdjax.types import Tree

KERNELS = Path(__file__).with_name('kernels.h')
FLAGS = ('-O2', '-std=c99', '-ffp-contract=off')
WIDTH = 118  # of a line of numbers
WRAPPER = """#include "student.h"
void kdjax_predict(const float *inputs, float *logits) { student_predict(inputs, logits); }
void kdjax_integers(const int8_t *inputs, int32_t *sums) { student_integers(inputs, sums); }
static const int sizes[] = {STUDENT_INPUTS, STUDENT_LOGITS, STUDENT_RAM_BYTES, STUDENT_CONSTANT_BYTES};
int kdjax_size(int which) { return sizes[which]; }
"""


def write_int8(program: Program, path: Path, calibration: Calibration) -> None:
    """Writes the header.

    Raises:
      UsageError: an operator of the network is in the way.
    """
    path.write_text(header(network(program, calibration), program.student.about))


def network(program: Program, calibration: Calibration) -> Integers:
    """A student in whole numbers, by the ranges that it was trained with, and those of examples where it has none.

    Raises:
      UsageError: an operator of the network is in the way.
    """
    graph = operators.graph(program.function, program.inputs)
    seen = integers.ranges(graph, examples(calibration.examples))
    products = [operator for operator in graph.operators if operator.site is not None]
    if calibration.ranges and len(calibration.ranges) != len(products):
        raise UsageError(
            f'the network was rounded in {len(calibration.ranges)} products, and {len(products)} are written'
        )
    seen |= {one.reads: (known.low, known.high)
             for one, known in zip(products, calibration.ranges.values(), strict=False)}  # fmt: skip
    return integers.integers(graph, seen, [_bits(program.student.variables, key) for key in calibration.ranges])


def _bits(variables: Tree, key: str) -> int:
    """Bits of the weights of a product: fewer than 8 where they lie on a grid of so few."""
    own = variables['stats'][ROUNDING]
    learned = ROUNDING in variables['params']  # steps that do not follow from the largest weight
    return 8 if learned else min(8, int(max(own['bits'][0], own['least'][key])))


def examples(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is read of inputs by name: their frames, or the only ones."""
    return inputs[FRAMES] if FRAMES in inputs else next(iter(inputs.values()))


def buffers(graph: Graph) -> list[Buffer]:
    """The activations of a network of 8 bits and how long each is kept; the logits are not among them."""
    last = {operator.reads: step for step, operator in enumerate(graph.operators)}
    for step, operator in enumerate(graph.operators):
        if operator.adds is not None:
            last[operator.adds] = max(last.get(operator.adds, step), step)
    made = {operator.makes: step for step, operator in enumerate(graph.operators)}
    return [Buffer(tensor, graph.sizes[tensor], made.get(tensor, -1), end) for tensor, end in last.items()]


def ram(graph: Graph) -> int:
    """Bytes that the header keeps while it runs: activations, and sums of 4 bytes of which the logits are made."""
    return memory.placed(buffers(graph))[1] + 4 * graph.operators[-1].gives[2]


def header(network: Integers, about: Mapping[str, Any]) -> str:
    """The text of the header."""
    graph = network.graph
    places, arena = memory.placed(buffers(graph))
    scale = np.broadcast_to(network.scale, np.broadcast_shapes(network.scale.shape, network.offset.shape))
    offset = np.broadcast_to(network.offset, scale.shape)
    defines = {
        'INPUTS': graph.sizes[0],
        'LOGITS': graph.operators[-1].gives[2],
        'ARENA_BYTES': arena,
        'RAM_BYTES': ram(graph),
        'CONSTANT_BYTES': network.weight_bytes + 8 * len(scale) + 4 * len(network.steps[-1].scales),
        'SCALES': len(scale),
    }
    parts = [
        _comment(graph, about),
        '#ifndef STUDENT_H\n#define STUDENT_H\n\n#include <stdint.h>',
        '\n'.join(f'#define STUDENT_{name} {value}' for name, value in defines.items()),
        KERNELS.read_text().rstrip(),
        'static int8_t student_arena[STUDENT_ARENA_BYTES];',
        _array('float', 'scale', scale),
        _array('float', 'offset', offset),
        _array('float', 'step', network.steps[-1].scales),
        *(_constants(step, place) for place, step in enumerate(network.steps)),
        _integers(network, places),
        _predict(network, places),
        '#endif',
    ]
    return '\n\n'.join(parts) + '\n'


def _comment(graph: Graph, about: Mapping[str, Any]) -> str:
    shape = ' x '.join(map(str, graph.shape))
    classes = ', '.join(about.get('classes', ()))[:200].replace('*/', '')
    return f"""/* A network in whole numbers of 8 bits, written by kdjax.

   student_predict(inputs, logits) reads {shape} floats, as they are after {about.get('preprocess', 'preprocessing')}.
   student_integers(inputs, sums) reads codes of 8 bits and gives the sums that the logits are multiples of.
   Classes: {classes or 'none'}.
   Neither allocates, and neither may be called again before it has returned. */"""


def _constants(step: Step, place: int) -> str:
    if step.operator.kind == MAXIMUM:
        return f'/* {place}: maximum of {step.operator.sees} */'
    kernel = [_array('int8_t', f'weights{place}', step.codes)] if step.operator.kind == PRODUCT else []
    return '\n'.join([f'/* {place}: {step.operator.kind} of {step.operator.sees}, {step.operator.gives} */', *kernel,
                      _array('int32_t', f'bias{place}', step.bias),
                      _array('int32_t', f'multipliers{place}', step.multipliers)])  # fmt: skip


def _integers(network: Integers, places: Mapping[int, int]) -> str:
    lines = [line for place, step in enumerate(network.steps) for line in _calls(network, places, place, step)]
    return '\n'.join(['static inline void student_integers(const int8_t *inputs, int32_t *sums)', '{', *lines, '}'])


def _calls(network: Integers, places: Mapping[int, int], place: int, step: Step) -> list[str]:
    """A step of the network: its shapes and codes, and the function that does it."""
    one, last = step.operator, step is network.steps[-1]
    (top, _), (left, _) = one.pads
    shape = [*one.sees, *one.gives, *one.window, *one.strides, top, left, one.groups]
    codes = [step.reads.zero, step.adds.zero, step.gives.zero, step.low, step.shift, step.added]
    x = 'inputs' if one.reads == 0 else f'student_arena + {places[one.reads]}'
    beside = '0' if one.adds is None else 'inputs' if one.adds == 0 else f'student_arena + {places[one.adds]}'
    y = '0' if last else f'student_arena + {places[one.makes]}'
    numbers = '0, 0' if one.kind == MAXIMUM else f'student_bias{place}, student_multipliers{place}'
    call = (f'student_product(&shape, &codes, student_weights{place}, {numbers}, {x}, {beside}, {y}, '
            f'{"sums" if last else "0"});' if one.kind == PRODUCT
            else f'student_pooled(&shape, &codes, {numbers}, {x}, {y});')  # fmt: skip
    return [
        '    {',
        f'        static const student_shape shape = {{{", ".join(map(str, shape))}}};',
        f'        static const student_codes codes = {{{", ".join(map(str, codes))}}};',
        f'        {call}',
        '    }',
    ]


def _predict(network: Integers, places: Mapping[int, int]) -> str:
    return f"""static inline void student_predict(const float *inputs, float *logits)
{{
    static int32_t sums[STUDENT_LOGITS];
    int8_t *codes = student_arena + {places[0]};
    int place;
    for (place = 0; place < STUDENT_INPUTS; ++place) {{
        float scaled = inputs[place] * student_scale[place % STUDENT_SCALES] + student_offset[place % STUDENT_SCALES];
        scaled = scaled < -128.0f ? -128.0f : scaled > 127.0f ? 127.0f : scaled;
        codes[place] = (int8_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    }}
    student_integers(codes, sums);
    for (place = 0; place < STUDENT_LOGITS; ++place) {{
        logits[place] = (float)sums[place] * student_step[place];
    }}
}}"""


def _array(kind: str, name: str, numbers: np.ndarray) -> str:
    """A constant array, in lines of some width."""
    texts = [_float(number) if kind == 'float' else str(int(number)) for number in np.asarray(numbers).reshape(-1)]
    lines = ['   ']
    for text in texts:
        if len(lines[-1]) + len(text) + 2 > WIDTH:
            lines.append('   ')
        lines[-1] += f' {text},'
    return '\n'.join([f'static const {kind} student_{name}[{len(texts)}] = {{', *lines, '};'])


def _float(number: Any) -> str:
    text = f'{float(number):.9g}'
    return f'{text if set(text) & set(".en") else f"{text}.0"}f'


class Compiled:
    """A header, compiled on this machine.

    Attributes:
      ram: bytes that it keeps while it runs, as it says itself.
      constants: bytes of its arrays.
    """

    def __init__(self, path: Path) -> None:
        self.library = _compiled(path.read_text())
        self.size, self.count, self.ram, self.constants = (self.library.kdjax_size(which) for which in range(4))

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """(N, K) float32 of examples (N, ...)."""
        return self._each(self.library.kdjax_predict, np.ascontiguousarray(inputs, np.float32), np.float32)

    def sums(self, codes: np.ndarray) -> np.ndarray:
        """(N, K) int32 of codes (N, numbers) int8."""
        return self._each(self.library.kdjax_integers, np.ascontiguousarray(codes, np.int8), np.int32)

    def _each(self, function: Callable[..., None], rows: np.ndarray, dtype: Any) -> np.ndarray:
        rows = rows.reshape(len(rows), -1)
        if rows.shape[1] != self.size:
            raise UsageError(f'the header reads {self.size} numbers of an example, got {rows.shape[1]}')
        found = np.empty((len(rows), self.count), dtype)
        for row, answer in zip(rows, found, strict=True):
            function(row.ctypes.data_as(ctypes.c_void_p), answer.ctypes.data_as(ctypes.c_void_p))
        return found


def compiler() -> str | None:
    """The C compiler of this machine; None where there is none."""
    return shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')


@functools.lru_cache(maxsize=8)
def _compiled(text: str) -> Any:
    cc = compiler()
    if cc is None:
        raise UsageError('no C compiler is here (cc, gcc or clang): the header is written, and cannot be asked')
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / 'student.h').write_text(text)
        (place / 'student.c').write_text(WRAPPER)
        library = place / 'student.so'
        command: Sequence[str] = [cc, *FLAGS, '-shared', '-fPIC', '-o', str(library), str(place / 'student.c')]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UsageError(f'{cc} does not compile the header: {done.stderr.strip().splitlines()[0]}')
        return ctypes.CDLL(str(library))


def session(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """What answers a header, compiled on this machine: {name: (N, ...)} -> logits (N, K).

    Raises:
      UsageError: there is no C compiler; or, once called, not all frames are real.
    """
    compiled = Compiled(path)

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        if FRAMES in inputs and not np.all(inputs['mask']):
            raise UsageError('the header reads clips of which all frames are real')
        return compiled.logits(examples(inputs))

    return answer


def runtime() -> str:
    """What a header is asked with here."""
    return f'{Path(compiler() or "cc").name} {" ".join(FLAGS)}, {platform.machine()}'
