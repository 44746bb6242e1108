"""Files of every family of networks answer as it does; what a format cannot have says why."""

import functools
import pathlib
import pickle
import subprocess
import sys

import exported
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import environment

from kdjax.errors import UsageError
from kdjax.export import formats, onnx
from kdjax.export.program import Calibration, named

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]
ROOT = pathlib.Path(__file__).resolve().parents[2]
# As one process converts one student after the other; what cannot be converted leaves no file.
CONVERT = """
import pathlib, sys
from kdjax.export import onnx
for folder in sys.argv[1:]:
    try:
        onnx.convert(pathlib.Path(folder), pathlib.Path(folder) / 'student.onnx')
    except Exception as error:
        print(folder, repr(error)[:300], file=sys.stderr)
"""


def held(name, format, path):
    """That the answers of a file are those of the network."""
    _, seen, _, want = exported.family(name)
    found = formats.session(format, path)(named(seen))
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))


# What there is no file of, and the reason.
CANNOT = {
    ('litert', 'bcresnet.bcresnet'): 'batch_matmul',
    ('litert-int8', 'bcresnet.bcresnet'): 'batch_matmul',
    ('litert-int8', 'ngrams.linear'): 'none of CONV_2D',
    ('onnx', 'crf.crf'): 'does not match expected type',
    ('onnx', 'neumf.neumf'): 'Gemm',
}


def written(name, format, folder, calibration=None):
    """The file, or None of what there can be none of."""
    make = functools.partial(formats.write, format, exported.family(name)[2], folder, calibration)
    if (format, name) not in CANNOT:
        return make()
    with pytest.raises(UsageError, match=CANNOT[format, name]) as met:
        make()
    assert len(str(met.value).splitlines()) == 1
    return None


@pytest.mark.parametrize('name', exported.FAMILIES)
def test_stablehlo(name, tmp_path):
    held(name, 'stablehlo', formats.write('stablehlo', exported.family(name)[2], tmp_path))


@pytest.mark.parametrize('name', exported.FAMILIES)
def test_litert(name, tmp_path):
    for library in ('litert_converter', 'ai_edge_litert', 'ai_edge_quantizer'):
        pytest.importorskip(library, reason='needs the extra litert')
    _, seen, _, want = exported.family(name)
    if path := written(name, 'litert', tmp_path):
        held(name, 'litert', path)
    path = written(name, 'litert-int8', tmp_path, Calibration(named(seen)))
    if path is None:
        return
    found = formats.session('litert-int8', path)(named(seen))
    assert found.shape == want.shape
    assert np.isfinite(found).all()


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """A folder of each family with its ONNX file, all made by one process."""
    for library in ('jax2onnx', 'onnx', 'onnxruntime'):
        pytest.importorskip(library, reason='needs the extra onnx')
    folders = {name: tmp_path_factory.mktemp(name.replace('.', '_')) for name in exported.FAMILIES}
    for name, folder in folders.items():
        student, _, program, _ = exported.family(name)
        student.save(folder)
        (folder / onnx.EXAMPLE).write_bytes(pickle.dumps(program.example))
    command = [sys.executable, '-c', CONVERT, *map(str, folders.values())]
    done = subprocess.run(command, env=environment() | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folders, done.stderr


@pytest.mark.parametrize('name', exported.FAMILIES)
def test_onnx(name, converted, tmp_path):
    folders, said = converted
    path = folders[name] / 'student.onnx'
    met = [line for line in said.splitlines() if line.startswith(str(folders[name]))]
    if ('onnx', name) in CANNOT:
        assert CANNOT['onnx', name] in met[0]
        return
    assert path.exists(), met
    held(name, 'onnx', path)
    _, seen, _, want = exported.family(name)
    coarse = onnx.quantized(path.read_bytes(), Calibration(named(seen)))
    (tmp_path / 'student.int8.onnx').write_bytes(coarse)
    found = formats.session('onnx-int8', tmp_path / 'student.int8.onnx')(named(seen))
    assert found.shape == want.shape
    assert np.isfinite(found).all()


@functools.cache
def unable():
    """A network with an operation that few devices have."""

    def asked(x):
        return x * jax.lax.linalg.cholesky(jnp.eye(8) + jnp.abs(x))

    student, _, program, _ = exported.family('mlp.mlp')

    def apply(variables, inputs, **how):
        outputs, stats = student.net.apply(variables, asked(inputs), **how)
        return outputs, stats

    changed = student.__class__(student.net._replace(apply=apply), student.variables, student.task, student.about)
    return program._replace(student=changed)


def test_what_has_no_file_says_which_operation(tmp_path):
    pytest.importorskip('litert_converter', reason='needs the extra litert')
    with pytest.raises(UsageError, match=r'no LiteRT file: it has no operation for .*cholesky'):
        formats.write('litert', unable(), tmp_path)
