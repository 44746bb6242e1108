"""A student's files of further formats: each is held against it, and says what it is worth by itself."""

import dataclasses
import hashlib

import exported
import jax
import numpy as np
import pytest

from kdjax.compress import quantized
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.export import bundle, files, formats, litert, onnx, ranges, stablehlo
from kdjax.export.program import Calibration, Learned, named, program
from kdjax.tasks import evaluation

RANDOM = np.random.default_rng(0)
LITERT = 'needs the extra litert: ai_edge_litert, ai_edge_quantizer, litert_converter'


def split(count):
    return Split(RANDOM.uniform(-1, 1, (count, 6)).astype(np.float32), RANDOM.integers(0, 3, count).astype(np.int32))


DATA = Dataset({'train': split(90), 'validation': split(8), 'test': split(21)}, ('a', 'b', 'c'))
SEEN = DATA.splits['test'].inputs


@pytest.fixture(scope='module')
def student():
    return exported.student('mlp.mlp', {'classes': 3, 'widths': (20,)}, SEEN)


@pytest.fixture(scope='module')
def rounded(student):
    """The same, its products rounded to 8 bits, with the ranges of the training split."""
    how, inputs = quantized.Rounding(), DATA.splits['train'].inputs
    variables = quantized.begun(student.net, how, student.variables, inputs, (8.0, 8.0))
    known = quantized.calibrated(variables, quantized.observed(student.net, how, variables, inputs))
    changes = {'args': {}, 'factors': [], 'rounding': {'form': 'absmax', 'edges': 0, 'activations': False}}
    return bundle.build({**student.about, 'changes': changes}, jax.device_get(known))


def test_a_file_is_described_and_measured_as_the_student_is(student, tmp_path):
    told = files.export(student, tmp_path, ['stablehlo', 'torch'], DATA).about['files']
    cells = jax.tree.map(lambda leaf: leaf[None], student.variables)
    own = evaluation.evaluator(student.task, student.net, DATA.splits['test'])(cells)
    for name, one in told.items():
        content = (tmp_path / one['file']).read_bytes()
        assert (one['bytes'], one['sha256']) == (len(content), hashlib.sha256(content).hexdigest())
        assert one['deflated'] < one['bytes']
        assert one['equal']
        assert one['agreement']['top1'] == 1
        assert one['test'] == pytest.approx({key: float(value[0]) for key, value in own.items()}, abs=1e-6), name
    again = bundle.read(tmp_path)
    assert again.about['files'] == told
    card = (tmp_path / 'MODEL_CARD.md').read_text()
    assert '| `student.stablehlo` | ' in card
    assert '| 100.00% | yes | accuracy' in card
    np.testing.assert_array_equal(again.logits(SEEN), student.logits(SEEN))


def answering(monkeypatch, change):
    """Sessions whose answers are changed."""
    real = formats.session
    monkeypatch.setattr(formats, 'session', lambda name, path: lambda inputs: change(real(name, path)(inputs)))


def test_a_file_of_float32_that_answers_otherwise_is_refused(student, tmp_path, monkeypatch):
    answering(monkeypatch, lambda logits: logits + 1e-3)
    with pytest.raises(UsageError, match=r'StableHLO answers otherwise: 0\.001 apart, of logits up to'):
        files.export(student, tmp_path, ['stablehlo'], DATA)
    assert not (tmp_path / 'student.stablehlo').exists()
    np.testing.assert_array_equal(bundle.read(tmp_path).logits(SEEN), student.logits(SEEN))


def test_numbers_that_are_not_finite_are_refused(student, tmp_path, monkeypatch):
    answering(monkeypatch, lambda logits: np.full_like(logits, np.nan))
    with pytest.raises(UsageError, match='finite'):
        files.export(student, tmp_path, ['stablehlo'], DATA)


@pytest.mark.parametrize(('wrong', 'equal'), [(0, True), (1, False)])
def test_a_file_of_whole_numbers_that_decides_otherwise_is_marked(student, tmp_path, monkeypatch, wrong, equal):
    """One of 21 examples is more than a hundredth."""

    def change(logits):
        found = logits + RANDOM.uniform(-1e-3, 1e-3, logits.shape)
        found[:wrong] = -found[:wrong]
        return found

    monkeypatch.setitem(formats.FORMATS, 'coarse', formats.Format('student.coarse', 'stablehlo', 'Coarse', int8=True))
    monkeypatch.setattr(stablehlo, 'write_int8', lambda made, path, _: stablehlo.write(made, path), raising=False)
    answering(monkeypatch, change)
    told = files.export(student, tmp_path, ['coarse'], DATA).about['files']['coarse']
    assert told['equal'] == equal
    assert told['agreement']['top1'] == pytest.approx(1 - wrong / 21)
    assert ('**no**' in (tmp_path / 'MODEL_CARD.md').read_text()) != equal


def test_a_file_takes_any_number_of_examples(student, tmp_path):
    path = formats.write('stablehlo', program(student, SEEN), tmp_path)
    ask = formats.session('stablehlo', path)
    for count in (1, 5):
        np.testing.assert_allclose(ask({'inputs': SEEN[:count]}), student.logits(SEEN[:count]), atol=1e-6)
    assert jax.export.deserialize(bytearray(path.read_bytes())).platforms == ('cpu', 'cuda', 'tpu')


def test_formats_are_named_once_and_unknown_ones_are_met_first(tmp_path):
    assert formats.named(' onnx, litert-int8,onnx') == ('onnx', 'litert-int8')
    with pytest.raises(UsageError, match="unknown format 'litert8'; there is: 'litert', 'litert-int8'"):
        formats.named('litert8')
    with pytest.raises(UsageError, match='needs examples'):
        formats.write('onnx-int8', None, tmp_path)


def test_what_rounded_training_learned_is_known_by_product(student, rounded):
    example = program(student, SEEN).example
    known = ranges.learned(rounded, example)
    sizes = {one.weights.shape: (one.low, one.high) for one in known.values()}
    assert set(sizes) == {(6, 20), (20, 3)}
    inputs = DATA.splits['train'].inputs
    assert sizes[(6, 20)] == pytest.approx((inputs.min(), inputs.max()))
    assert sizes[(20, 3)][0] == 0  # behind a ReLU
    assert ranges.rounded(rounded)
    assert not ranges.rounded(student)
    bits = dataclasses.replace(rounded, variables=quantized.with_bits(rounded.variables, np.array([4.0, 4.0])))
    with pytest.raises(UsageError, match='multiply numbers of 8 bits; this student was trained for 4'):
        ranges.learned(bits, example)


def test_products_of_a_file_are_known_by_their_weights():
    one, other = RANDOM.normal(size=(2, 4, 3))
    known = {'a': Learned(-1.0, 2.0, one), 'b': Learned(0.0, 5.0, other), 'c': Learned(0.0, 9.0, np.ones(5))}
    multiplied = [('y', other.T), ('x', -one + 1e-3), ('z', np.ones((7, 7)))]
    assert ranges.by_tensor(known, multiplied) == {'y': (0.0, 5.0), 'x': (-1.0, 2.0)}
    assert ranges.by_tensor(known, [('x', one), ('x', other)]) == {'x': (-1.0, 5.0)}


def test_an_extra_that_is_missing_is_named(student, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setitem(__import__('sys').modules, 'litert_converter', None)
    made = program(student, SEEN)
    with pytest.raises(UsageError, match=r'pip install "kdjax\[onnx\]" \(there is no jax2onnx\)'):
        onnx.write(made, tmp_path / 'student.onnx')
    with pytest.raises(UsageError, match=r'pip install "kdjax\[litert\]"'):
        litert.write(made, tmp_path / 'student.tflite')


def test_a_state_dict_has_no_place_for_ranges(rounded, tmp_path):
    with pytest.raises(UsageError, match='no place for the ranges'):
        formats.write('torch', program(rounded, SEEN), tmp_path)


@pytest.mark.filterwarnings('ignore')
def test_litert_answers_and_is_smaller_in_whole_numbers(student, rounded, tmp_path):
    for library in ('litert_converter', 'ai_edge_litert', 'ai_edge_quantizer'):
        pytest.importorskip(library, reason=LITERT)
    told = files.export(student, tmp_path, ['litert', 'litert-int8'], DATA).about['files']
    assert told['litert']['equal']
    assert told['litert-int8']['agreement']['error'] < 0.1 * told['litert-int8']['agreement']['largest']
    interpreter = litert.interpreted(tmp_path / 'student.int8.tflite')
    (into,) = interpreter.get_input_details()
    assert into['dtype'] == np.int8
    after = files.export(rounded, tmp_path, ['litert-int8'], DATA).about['files']['litert-int8']
    assert after['agreement']['top1'] >= 0.95
    (into,) = litert.interpreted(tmp_path / 'student.int8.tflite').get_input_details()
    inputs = DATA.splits['train'].inputs  # all of it was observed
    assert into['quantization'][0] == pytest.approx((inputs.max() - inputs.min()) / 255, rel=1e-5)


def test_calibration_has_no_ranges_by_itself():
    assert Calibration(named(SEEN)).ranges == {}
