"""The optional library of convolutions: built, it does what XLA does; what it cannot do, XLA does; not built, or not
wanted, nothing changes.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from kdjax.cpu import onednn
from kdjax.errors import UsageError

PROGRAM = """
import functools, json, sys
import jax, jax.numpy as jnp, numpy as np
from kdjax.cpu import onednn
from kdjax.cpu.convolution import ORDER, convolved, finished

library = onednn.target()
assert library is not None
version = onednn.by()['float32']
assert version.startswith('oneDNN ') and version.count('.') == 2, version
assert onednn.by()['bfloat16'] in ('XLA', version), 'all sides or none: else what follows expects too much'
random = np.random.default_rng(0)
sides = lambda f, x, w: (f(x, w), *jax.vjp(f, x, w)[1](f(x, w)))
ways = {
    'alone': sides,
    'by example': lambda f, x, w: jax.vmap(lambda x: sides(f, x[None], w))(x),
    'by kernel': lambda f, x, w: jax.vmap(lambda w: sides(f, x, w))(jnp.stack([w, 2 * w])),
    'in a loop': lambda f, x, w: jax.lax.map(lambda w: sides(f, x, w), jnp.stack([w, 2 * w])),
    'second': lambda f, x, w: jax.grad(lambda w: sum(jnp.sum(g ** 2) for g in sides(f, x, w)))(w),
}
for dtype in sys.argv[1:]:
    close = {'float32': 1e-5, 'bfloat16': 0.05}[dtype]
    called = onednn.by()[dtype] == version
    for batch in (1, 5):
        for size in (1, 3):
            for strides, padding, dilation in (
                ((1, 1), 'SAME', (1, 1)), ((2, 2), 'SAME', (1, 1)), ((2, 1), 'VALID', (1, 1)),
                ((2, 2), ((0, 2), (1, 0)), (1, 1)), ((1, 1), 'SAME', (2, 1)), ((2, 2), 'VALID', (2, 2)),
            ):
                x = jnp.asarray(random.normal(size=(batch, 10, 11, 16)), dtype)
                w = jnp.asarray(random.normal(size=(size, size, 16, 24)), dtype)
                fixed = {'window_strides': strides, 'padding': padding, 'rhs_dilation': dilation,
                         'dimension_numbers': ORDER}
                ours, xlas = (functools.partial(f, **fixed) for f in (convolved, jax.lax.conv_general_dilated))
                for name, way in ways.items() if dtype == 'float32' and batch > 1 else [('alone', sides)]:
                    program = jax.jit(functools.partial(way, ours))
                    assert (library in program.lower(x, w).as_text()) == called, name
                    found, wanted = program(x, w), jax.jit(functools.partial(way, xlas))(x, w)
                    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                        assert a.dtype == b.dtype and a.shape == b.shape
                        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
                        np.testing.assert_allclose(a, b, rtol=close, atol=close * float(np.abs(b).max()))
                    for again in jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), found, program(x, w))):
                        assert again, 'two calls differ'
    for after in (False, True):
        for relu in (False, True):
            for size, strides in ((1, (2, 2)), (3, (1, 1)), (3, (2, 1))):
                pads = ((size // 2, size // 2),) * 2
                x = jnp.asarray(random.normal(size=(5, 9, 10, 16)), dtype)
                w = jnp.asarray(random.normal(size=(size, size, 16, 24)), dtype)
                bias = jnp.asarray(random.normal(size=24), jnp.float32)
                sums = jax.lax.conv_general_dilated(x, w, strides, pads, dimension_numbers=ORDER).astype(jnp.float32)
                more = jnp.asarray(random.normal(size=sums.shape), dtype) if after else None
                own = lambda x, w, bias, more: finished(
                    x, w, bias, more, strides=strides, pads=pads, groups=1, relu=relu)
                program = jax.jit(lambda *each: (own(*each), each[3]))  # which is needed afterwards, unchanged
                assert (library in program.lower(x, w, bias, more).as_text()) == called
                found, kept = program(x, w, bias, more)
                wanted = sums + bias + (more.astype(jnp.float32) if after else 0)
                wanted = np.asarray(jnp.maximum(wanted, 0) if relu else wanted)
                assert found.dtype == x.dtype
                found = np.asarray(found, np.float32)
                np.testing.assert_allclose(found, wanted, rtol=close, atol=close * float(np.abs(wanted).max()))
                assert not after or np.array_equal(kept, more)
                other = jax.jit(own)(x, w, bias.astype(jnp.float16), more)  # a bias that the library does not know
                np.testing.assert_allclose(np.asarray(other, np.float32), wanted, rtol=0.05, atol=0.3)
print('equal', json.dumps(onednn.by()))
"""
REFUSED = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np
from kdjax.cpu import onednn
from kdjax.cpu.convolution import ORDER, convolved, finished

refused, really, asked = sys.argv[1:], onednn.can, set()
onednn.can = lambda dtype, side: asked.add(side) or side not in refused and really(dtype, side)
library = onednn.target()
random = np.random.default_rng(0)
x, w = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((5, 9, 10, 8), (3, 3, 8, 8)))
fixed = {'window_strides': (2, 1), 'padding': 'SAME', 'dimension_numbers': ORDER}
finish = {'strides': (1, 1), 'pads': ((1, 1), (1, 1)), 'groups': 1, 'relu': True}
def sides(f, x, w):
    y, pull = jax.vjp(lambda x, w: f(x, w, **fixed), x, w)
    return y, *pull(y)
programs = {
    'outputs, inputs, kernel': tuple(functools.partial(sides, f) for f in (convolved, jax.lax.conv_general_dilated)),
    'finished outputs': (
        lambda x, w: finished(x, w, jnp.arange(8.0), x, **finish),
        lambda x, w: jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), 'SAME', dimension_numbers=ORDER)
                                 + jnp.arange(8.0) + x),
    ),
}
for names, (ours, xlas) in programs.items():
    program = jax.jit(ours)
    calls = program.lower(x, w).as_text().count(f'custom_call @{library}')
    left = [side for side in names.split(', ') if side not in refused]
    if names == 'finished outputs' and refused == [names]:
        left = ['outputs']  # of which it then consists
    assert calls == len(left), (calls, left)
    for a, b in zip(jax.tree.leaves(program(x, w)), jax.tree.leaves(jax.jit(xlas)(x, w)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
assert asked == set(onednn.SIDES), asked
print('equal')
"""
MAPS = jnp.ones((2, 8, 8, 3))
ROOT = pathlib.Path(__file__).resolve().parents[2]


def environment(cache, **more):
    """Of a process with one device whose libraries are in `cache`."""
    devices = ('--xla_force_host_platform_device_count=4', '')
    return {
        **os.environ, 'XDG_CACHE_HOME': str(cache), 'XLA_FLAGS': os.environ['XLA_FLAGS'].replace(*devices), **more
    }  # fmt: skip


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The cache folder in which the library is."""
    roots = (sys.prefix, '/usr', '/usr/local')
    headers = [pathlib.Path(root) / 'include' / 'oneapi' / 'dnnl' / 'dnnl.hpp' for root in roots]
    if shutil.which('g++') is None or not any(map(pathlib.Path.exists, headers)):
        pytest.skip('no g++, or no oneDNN: pip install "kdjax[onednn]"')
    cache = tmp_path_factory.mktemp('cache')
    command = [sys.executable, '-m', 'kdjax.cpu.onednn']
    subprocess.run(command, env=environment(cache), check=True, capture_output=True)
    return cache


def test_the_library_does_what_xla_does(built):
    words = [sys.executable, '-c', PROGRAM, *onednn.DTYPES]
    done = subprocess.run(words, env=environment(built), capture_output=True, text=True)
    assert done.stdout.startswith('equal '), done.stderr


def test_a_processor_that_does_without_bfloat16_leaves_it_to_xla(built):
    """Whatever this one does: oneDNN is told to know no more than AVX2."""
    words = [sys.executable, '-c', PROGRAM, 'bfloat16']
    done = subprocess.run(words, env=environment(built, ONEDNN_MAX_CPU_ISA='AVX2'), capture_output=True, text=True)
    assert done.stdout.startswith('equal '), done.stderr
    assert json.loads(done.stdout.removeprefix('equal '))['bfloat16'] == 'XLA'


NO_TO = [(), ('kernel',), ('outputs',), ('finished outputs',), tuple(onednn.SIDES)]


@pytest.mark.parametrize('refused', NO_TO, ids=', '.join)
def test_what_the_library_says_no_to_is_done_by_xla_and_nothing_else(built, refused):
    done = subprocess.run(
        [sys.executable, '-c', REFUSED, *refused], env=environment(built), capture_output=True, text=True
    )
    assert done.stdout == 'equal\n', done.stderr


@pytest.mark.parametrize('flags', [('run.precision=bfloat16',), ('teacher.precision=bfloat16', 'teacher.mode=online')])
def test_a_run_in_bfloat16_goes_through_and_says_who_convolved(built, tmp_path, flags):
    words = [sys.executable, str(ROOT / 'run.py'), f'--config={ROOT / "tests/configs/convolutions.py"}']
    where = {**processes.environment(), 'XDG_CACHE_HOME': str(built), 'PYTHONPATH': str(ROOT / 'tests')}
    done = subprocess.run(
        [*words, f'--workdir={tmp_path}', *(f'--config.{flag}' for flag in flags)],
        env=where, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert onednn.BUILD not in done.stdout
    summary = json.loads((tmp_path / 'report' / 'summary.json').read_text())
    (manifest,) = (json.loads(path.read_text()) for path in tmp_path.glob('combined*/manifest.json'))
    assert summary['machine']['convolutions'] == manifest['machine']['convolutions']
    assert manifest['machine']['convolutions']['float32'].startswith('oneDNN ')
    assert set(manifest['machine']['convolutions']) == {'float32', 'bfloat16'}


def test_who_does_not_want_it_does_without(built):
    program = 'from kdjax.cpu import onednn; print(onednn.library().exists(), onednn.target(), *onednn.by().values())'
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment(built, KDJAX_CONVOLUTIONS='xla'),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == 'True None XLA XLA\n'


def test_without_a_compiler_one_line_says_so(tmp_path):
    command = [sys.executable, '-m', 'kdjax.cpu.onednn']
    done = subprocess.run(command, env=environment(tmp_path, CXX='no-such-compiler'), capture_output=True, text=True)
    assert done.returncode == 2
    assert "no compiler 'no-such-compiler'; name another in CXX" in done.stderr
    assert not list((tmp_path / 'kdjax' / 'onednn').iterdir())


def test_several_devices_of_one_cpu_do_without():
    assert jax.local_device_count('cpu') > 1
    assert onednn.target() is None


@pytest.mark.parametrize(
    ('first', 'second', 'pads'),
    [
        (MAPS.astype(jnp.float16), jnp.ones((3, 3, 3, 5), jnp.float16), ((1, 1), (1, 1))),  # a type it does not know
        (MAPS, jnp.ones((3, 3, 3, 5), jnp.bfloat16), ((1, 1), (1, 1))),  # two types
        (MAPS, jnp.ones((3, 3, 3, 5)), ((-1, 1), (1, 1))),  # cut rather than padded
        (MAPS[:0], jnp.ones((3, 3, 3, 5)), ((1, 1), (1, 1))),  # nothing
    ],
)  # fmt: skip
def test_what_the_library_cannot_do_stays_with_xla(monkeypatch, first, second, pads):
    monkeypatch.setattr(onednn, 'can', lambda dtype, side: True)
    assert onednn.does(MAPS, jnp.ones((3, 3, 3, 5)), ((1, 1), (0, 0)), 'outputs')
    assert not onednn.does(first, second, pads, 'outputs')


@pytest.fixture
def answering(monkeypatch):
    """Puts a library in the place of the real one that answers by what it is given; returns the questions."""

    def put(answer):
        questions = []

        def asked(half, found, then):
            questions.append((half, found, then))
            return int(answer(half, found, then))

        there = SimpleNamespace(kdjax_onednn_can=asked, kdjax_onednn_version=lambda: 2_006_001)
        monkeypatch.setattr(onednn, 'loaded', lambda: there)
        onednn.can.cache_clear()
        return questions

    yield put
    onednn.can.cache_clear()


def test_the_library_is_asked_once_for_each_dtype_and_side(answering):
    questions = answering(lambda half, *side: not half)
    x, w = MAPS, jnp.ones((3, 3, 3, 5))
    for side in (*onednn.SIDES, *onednn.SIDES):
        assert onednn.does(x, w, ((1, 1), (1, 1)), side)
        assert not onednn.does(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), ((1, 1), (1, 1)), side)
    assert sorted(questions) == sorted((half, *side) for half in (False, True) for side in onednn.SIDES.values())
    assert len(set(onednn.SIDES.values())) == len(onednn.SIDES)


@pytest.mark.parametrize(
    ('answer', 'bfloat16'),
    [
        (lambda half, found, then: True, 'oneDNN 2.6.1'),
        (lambda half, found, then: not half, 'XLA'),
        (lambda half, found, then: not half or found == onednn.OUTPUTS, 'oneDNN 2.6.1, but XLA for inputs and kernel'),
    ],
)
def test_who_convolves_is_said_by_dtype(answering, answer, bfloat16):
    answering(answer)
    assert onednn.by() == {'float32': 'oneDNN 2.6.1', 'bfloat16': bfloat16}


def test_the_name_of_the_library_tells_its_source_and_jaxlib(monkeypatch, tmp_path):
    before = onednn.library()
    changed = tmp_path / 'convolution.cc'
    changed.write_text(onednn.SOURCE.read_text() + '//')
    monkeypatch.setattr(onednn, 'SOURCE', changed)
    assert onednn.library() != before


@pytest.mark.parametrize('kind', ['no library', 'without a query'])
def test_a_library_that_is_of_no_use_is_one_line(monkeypatch, tmp_path, kind):
    path = tmp_path / 'old.so'
    path.write_text('not a library')
    if kind == 'without a query':
        path = pathlib.Path(np._core._multiarray_umath.__file__)  # any other
    monkeypatch.setattr(onednn, 'library', lambda: path)
    monkeypatch.setattr(onednn, 'wanted', lambda: True)
    with pytest.raises(UsageError, match=r'build it again \(python -m kdjax\.cpu\.onednn\)') as met:
        onednn.loaded.__wrapped__()
    assert str(path) in str(met.value)
    assert '\n' not in str(met.value)


def test_a_process_says_where_the_library_is_of_another_version(tmp_path):
    program = (
        'from kdjax.study.recipe import execute; from kdjax.train.screen import Screen; '
        'execute.prepare_process(Screen())'
    )

    def says(**more):
        words, where = [sys.executable, '-c', program], environment(tmp_path, **more)
        done = subprocess.run(words, env=where, capture_output=True, text=True, check=True)
        return done.stdout

    assert says() == ''
    other = tmp_path / 'kdjax' / 'onednn' / 'of-another-source.so'
    other.parent.mkdir(parents=True)
    other.touch()
    said = says()
    assert onednn.BUILD in said
    assert said.count('\n') == 1
    assert says(KDJAX_CONVOLUTIONS='xla') == ''
