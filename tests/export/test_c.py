"""A network in whole numbers: it answers as the network does, and the compiled header as numpy, to the last bit."""

import functools
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from written_out import NEEDS_CC, NETS, SPEECH, case, graph, whole

from kdjax.compress import quantized
from kdjax.errors import UsageError
from kdjax.export import bundle, memory, program, ranges
from kdjax.export.c import code, integers, layouts, operators
from kdjax.export.memory import Buffer
from kdjax.export.program import Calibration
from kdjax.nets import depthwise, vit


@functools.cache
def logits(name):
    return np.asarray(case(name).function(case(name).examples))


@pytest.mark.parametrize('name', NETS)
def test_the_operators_are_the_network(name):
    found = integers.floats(graph(name), code.examples(case(name).examples))[graph(name).operators[-1].makes]
    np.testing.assert_allclose(found, logits(name), atol=2e-5 * np.abs(logits(name)).max())


@pytest.mark.parametrize('name', NETS)
def test_whole_numbers_say_nearly_the_same(name):
    found = integers.logits(whole(name), code.examples(case(name).examples))
    assert np.abs(found - logits(name)).max() < 0.06 * np.abs(logits(name)).max()
    assert np.mean(found.argmax(1) == logits(name).argmax(1)) > 0.9


@NEEDS_CC
@pytest.mark.parametrize('name', NETS)
def test_the_compiled_header_equals_the_oracle_to_the_last_bit(name, tmp_path):
    (tmp_path / 'student.h').write_text(code.header(whole(name), {'classes': list('abcde')}))
    compiled = code.Compiled(tmp_path / 'student.h')
    inputs = 3 * code.examples(case(name).examples)  # beyond the ranges, too
    codes = integers.coded(whole(name), inputs)
    np.testing.assert_array_equal(compiled.sums(codes), integers.sums(whole(name), codes))
    np.testing.assert_array_equal(compiled.logits(inputs), integers.logits(whole(name), inputs))
    assert compiled.ram == code.ram(graph(name))


@NEEDS_CC
def test_the_header_is_strict_c99_without_a_warning_and_needs_no_library(tmp_path):
    (tmp_path / 'student.h').write_text(code.header(whole('resnet'), {}))
    (tmp_path / 'main.c').write_text("""#include "student.h"
int main(void)
{
    static const float inputs[STUDENT_INPUTS];
    float logits[STUDENT_LOGITS];
    student_predict(inputs, logits);
    return logits[0] > 1e30f;
}
""")
    strict = ['-std=c99', '-O2', '-Wall', '-Wextra', '-Wpedantic', '-Wconversion', '-Werror']
    sanitized = ['-fsanitize=undefined,address', '-fno-sanitize-recover=all']
    command = [code.compiler(), *strict, *sanitized, '-o', str(tmp_path / 'main'), str(tmp_path / 'main.c')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr
    assert subprocess.run([str(tmp_path / 'main')]).returncode == 0
    text = (tmp_path / 'student.h').read_text()
    assert text.count('#include') == 1
    assert 'malloc' not in text


@pytest.mark.parametrize('bits', [8, 4])
def test_a_network_that_was_trained_rounded_keeps_its_grid(bits):
    """Of two dense layers all that is rounded is: the whole numbers are those of the rounded network."""
    net, one = NETS['mlp'][0], case('mlp')
    x = one.examples['inputs']
    variables = quantized.begun(net, quantized.Rounding(), one.variables, x[:1], (bits, 8))
    variables = quantized.calibrated(variables, quantized.observed(net, quantized.Rounding(), variables, x))
    variables = jax.tree.map(np.asarray, variables)
    rounded = quantized.quantized(net)
    want = np.asarray(rounded.apply(variables, x, train=False, key=None)[0].logits)
    about = {'network': {'net': 'mlp.mlp', 'args': {'classes': 5, 'widths': [8]}, 'told': []}, 'facts': {},
             'task': {'kind': 'classification.Classification', 'args': {}},
             'changes': {'args': {}, 'factors': [], 'rounding': {'form': 'absmax'}}}  # fmt: skip
    student = bundle.build(about, variables)
    plain = program.program(ranges.with_whole_inputs(student), x)
    known = ranges.learned(student, plain.example)
    found = code.network(plain, Calibration(one.examples, known))
    assert np.abs(integers.logits(found, x) - want).max() < 2e-3 * np.abs(want).max()
    assert max(np.abs(step.codes).max() for step in found.steps) == 2 ** (bits - 1) - 1


@pytest.mark.parametrize(
    ('net', 'shapes', 'message'),
    [
        (depthwise.keyword(classes=5, first=4, widths=(4,), strides=(1,)), SPEECH, "operator 'square'"),
        (vit.vit(classes=5, patch=4, width=8, depth=1, heads=2), {'inputs': (8, 8)}, "operator '.*'.* is in the way"),
    ],
)
def test_a_network_that_cannot_be_written_says_which_operator_is_in_the_way(net, shapes, message):
    described = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes.items()}
    one = {key: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for key, shape in shapes.items()}
    inputs = one if len(one) > 1 else one['inputs']
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), jax.eval_shape(net.init, jax.random.key(0),
                                                                                          inputs))  # fmt: skip

    def function(given):
        read = given if len(given) > 1 else given['inputs']
        return net.apply(variables, read, train=False, key=None)[0].logits

    with pytest.raises(UsageError, match=message):
        operators.graph(function, described)


def test_several_inputs_cannot_be_read():
    one = jax.ShapeDtypeStruct((), jnp.int32)
    with pytest.raises(UsageError, match='one input can be read, got user, item'):
        operators.graph(lambda given: given['user'], {'user': one, 'item': one})


def test_buffers_lie_beside_each_other_only_while_both_are_kept():
    buffers = [Buffer(0, 10, -1, 0), Buffer(1, 20, 0, 1), Buffer(2, 10, 1, 2)]
    places, size = memory.placed(buffers)
    assert size == memory.bound(buffers) == 30
    assert abs(places[0] - places[1]) >= 10
    assert places[2] == places[0]


def test_windows_in_another_order_are_no_convolution():
    order = np.arange(12).reshape(1, 4, 3)
    assert layouts.as_convolution(order, (4, 1, 3)) == ((1, 1), (1, 1), ((0, 0), (0, 0)))
    assert layouts.as_convolution(order[:, ::-1], (4, 1, 3)) is None


def test_without_a_compiler_the_header_is_written_and_cannot_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(code.shutil, 'which', lambda name: None)
    code._compiled.cache_clear()
    Path(tmp_path / 'student.h').write_text(code.header(whole('mlp'), {}))
    with pytest.raises(UsageError, match='no C compiler is here'):
        code.Compiled(tmp_path / 'student.h')
