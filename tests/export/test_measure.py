"""Bytes, milliseconds, memory and energy of files: as counted by hand, and what may be said of them."""

import numpy as np
import pytest
from written_out import NEEDS_CC, case, graph, whole

from kdjax.export import energy, measure
from kdjax.export.c import code
from kdjax.export.measure import Measured


def found(p50: float) -> Measured:
    return Measured(1000, 900, p50, p50, 300, None, None, '', 'a processor')


def test_energy_is_that_of_the_table():
    plain = energy.energy(1000, 32, 4 * 1000, 100)
    small = energy.energy(1000, 8, 1000, 100)
    assert plain.arithmetic == pytest.approx(4600)
    assert small.arithmetic == pytest.approx(300)
    assert plain.low == plain.high == pytest.approx(4600 + (4000 + 800) * 10 / 8)
    assert energy.ratio(small, plain) == pytest.approx((10600 / 1800, 4600 / 300))
    assert energy.ratio(plain, plain) == (1, 1)


@pytest.mark.parametrize(('size', 'low', 'high'), [(8192, 1.25, 1.25), (8193, 2.5, 2.5), (2**20, 12.5, 12.5),
                                                   (2**20 + 1, 162.5, 325)])  # fmt: skip
def test_bytes_are_read_from_the_smallest_memory_that_holds_them(size, low, high):
    one = energy.energy(0, 8, size, 0)
    assert (one.low, one.high) == pytest.approx((low * size, high * size))


@pytest.mark.parametrize(('whole', 'plain', 'says'), [
    (1.0, 2.0, '2 times as fast as float32'),
    (2.0, 2.0, 'not faster than float32 (2 ms against 2 ms)'),
    (1.95, 2.0, 'not faster than float32 (1.95 ms against 2 ms)'),
    (3.0, 2.0, 'not faster than float32 (3 ms against 2 ms)'),
])  # fmt: skip
def test_whole_numbers_that_are_not_faster_are_called_so(whole, plain, says):
    assert measure.speed(found(whole), found(plain)) == says


@NEEDS_CC
@pytest.mark.slow
def test_a_file_is_measured_in_a_process_of_its_own(tmp_path):
    path = tmp_path / 'student.h'
    path.write_text(code.header(whole('mlp'), {}))
    one = measure.measured('c', path, {'inputs': np.zeros((3, 4, 4), np.float32)}, calls=30)
    assert one.calls == 30
    assert 0 < one.p50_ms <= one.p90_ms < 100
    assert one.ram_bytes == code.ram(graph('mlp'))
    assert one.bytes == whole('mlp').weight_bytes + 8 + 4 * 5 < path.stat().st_size
    assert one.deflated is None
    assert one.memory_bytes is None or one.memory_bytes >= 0


def test_what_litert_asks_of_a_microcontroller(tmp_path):
    pytest.importorskip('ai_edge_litert', reason="LiteRT is not installed: pip install 'kdjax[litert]'")
    pytest.importorskip('litert_converter', reason="LiteRT is not installed: pip install 'kdjax[litert]'")
    from kdjax.export import litert, micro

    litert.write(case('mlp'), tmp_path / 'student.tflite')
    asked = micro.asked(tmp_path / 'student.tflite')
    assert 'FULLY_CONNECTED' in asked.operators
    assert asked.says == 'operators supported'
    assert not asked.whole
    assert asked.ram == 4 * (16 + 16)  # the example, and what it is reshaped to


def test_an_operator_that_is_not_there_is_named():
    from kdjax.export.micro import OPERATORS, Asked

    assert {'CONV_2D', 'FULLY_CONNECTED', 'SOFTMAX'} < OPERATORS
    assert not {'GELU', 'ERF', 'TOPK_V2'} & OPERATORS
    assert Asked(('CONV_2D', 'GELU'), ('GELU',), False, 1).says == 'not there: GELU'
