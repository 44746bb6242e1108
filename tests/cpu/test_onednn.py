"""The optional library of convolutions: built, it does what XLA does; not built, or not wanted, nothing changes."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from kdjax.cpu import onednn

PROGRAM = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np
from kdjax import onednn
from kdjax.cpu.convolution import ORDER, convolved, finished

assert onednn.target() is not None
assert onednn.by().startswith('oneDNN ') and onednn.by().count('.') == 2, onednn.by()
random = np.random.default_rng(0)
sides = lambda f, x, w: (f(x, w), *jax.vjp(f, x, w)[1](f(x, w)))
ways = {
    'alone': sides,
    'by example': lambda f, x, w: jax.vmap(lambda x: sides(f, x[None], w))(x),
    'by kernel': lambda f, x, w: jax.vmap(lambda w: sides(f, x, w))(jnp.stack([w, 2 * w])),
    'in a loop': lambda f, x, w: jax.lax.map(lambda w: sides(f, x, w), jnp.stack([w, 2 * w])),
    'second': lambda f, x, w: jax.grad(lambda w: sum(jnp.sum(g ** 2) for g in sides(f, x, w)))(w),
}
for dtype, close in (('float32', 1e-5), ('bfloat16', 0.05)):
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
                    assert 'kdjax_convolution' in program.lower(x, w).as_text(), name
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
                assert 'kdjax_convolution' in program.lower(x, w, bias, more).as_text()
                found, kept = program(x, w, bias, more)
                wanted = sums + bias + (more.astype(jnp.float32) if after else 0)
                wanted = np.asarray(jnp.maximum(wanted, 0) if relu else wanted)
                assert found.dtype == x.dtype
                found = np.asarray(found, np.float32)
                np.testing.assert_allclose(found, wanted, rtol=close, atol=close * float(np.abs(wanted).max()))
                assert not after or np.array_equal(kept, more)
                other = jax.jit(own)(x, w, bias.astype(jnp.float16), more)  # a bias that the library does not know
                np.testing.assert_allclose(np.asarray(other, np.float32), wanted, rtol=0.05, atol=0.3)
print('equal')
"""
MAPS = jnp.ones((2, 8, 8, 3))


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
    done = subprocess.run([sys.executable, '-c', PROGRAM], env=environment(built), capture_output=True, text=True)
    assert done.stdout == 'equal\n', done.stderr


def test_who_does_not_want_it_does_without(built):
    command = [sys.executable, '-c', 'from kdjax.cpu import onednn; print(onednn.library().exists(), onednn.target())']
    done = subprocess.run(
        command, env=environment(built, KDJAX_CONVOLUTIONS='xla'), capture_output=True, text=True, check=True
    )
    assert done.stdout == 'True None\n'


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
    monkeypatch.setattr(onednn, 'target', lambda: 'there')
    assert onednn.does(MAPS, jnp.ones((3, 3, 3, 5)), ((1, 1), (0, 0)))
    assert not onednn.does(first, second, pads)


def test_the_name_of_the_library_tells_its_source_and_jaxlib(monkeypatch, tmp_path):
    before = onednn.library()
    changed = tmp_path / 'convolution.cc'
    changed.write_text(onednn.SOURCE.read_text() + '//')
    monkeypatch.setattr(onednn, 'SOURCE', changed)
    assert onednn.library() != before
