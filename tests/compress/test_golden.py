"""Golden vectors of compression: PyTorch's own operators, and numpy. `--golden-compress DIR` runs those of a folder."""

import functools
import pathlib

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.compress import factored, masks, rounding
from kdjax.cpu.convolution import ORDER


def kernel(w):
    """A weight of PyTorch, (out, in) or OIHW, as ours."""
    return w.T if w.ndim == 2 else w.transpose(2, 3, 1, 0)


def torch_weight(w):
    return w.T if w.ndim == 2 else w.transpose(3, 2, 0, 1)


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


def nchw(x):
    return x.transpose(0, 3, 1, 2)


def convolution(x, w, stride=1, padding=0):
    return jax.lax.conv_general_dilated(x, w, (stride,) * 2, ((padding,) * 2,) * 2, dimension_numbers=ORDER)


def fake_quant(given, x):
    # In float32, as PyTorch's operators compute inside whatever they are given; inputs lie on a grid of 2^-10.
    x, bits = {name: value.astype(jnp.float32) for name, value in x.items()}, given['bits']
    if not given['symmetric']:
        if 'scale' in x:
            return {'y': rounding.affine(x['x'], x['scale'], x['zero_point'], 0, 2**bits - 1)}
        low, high = x['x'].min(), x['x'].max()
        scale, zero = rounding.asymmetric_scale(low, high, bits)
        return {'y': rounding.asymmetric(x['x'], bits, low, high), 'scale': scale, 'zero_point': zero}
    if 'scale' in x:
        return {'y': rounding.affine(x['w'], x['scale'], 0, 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)}
    w, axes = (kernel(x['w']), range(x['w'].ndim - 1)) if 'axis' in given else (x['w'], None)
    y, scale = rounding.symmetric(w, bits, axes), rounding.symmetric_scale(w, bits, axes)
    return {'y': torch_weight(y) if axes else y, 'scale': scale.reshape(-1) if axes else scale.reshape(())}


def lsq(given, x):
    return {'y': rounding.learned(x['w'], x['scale'], given['bits'], *given['q'], form='pytorch')}


def magnitude_mask(given, x):
    names = sorted(x)
    found = masks.magnitude([x[name] for name in names], given['sparsity'], given.get('scope', 'layer'))
    return {name.replace('w', 'mask'): mask for name, mask in zip(names, found, strict=True)}


def schedule(given, x):
    end = given['start'] + given['updates'] * given['every']
    return {'sparsity': masks.cubic(x['step'], given['final'], given['start'], end, given['initial'])}


def low_rank(given, x):
    w = kernel(x['w'])
    if 'rank_in' in given:
        parts = factored.tucker(w, (given['rank_in'], given['rank_out']))
    else:
        parts = (factored.svd if w.ndim == 2 else factored.spatial)(w, given['rank'])
    whole, values = factored.composed(parts), factored.singular_values(w)
    if w.ndim == 2:
        y = x['x'] @ parts['first'] @ parts['last']
        return {'y': y, 'y_full': x['x'] @ w, 'product': whole.T, 'singular_values': values}
    pads = ((given['padding'],) * 2,) * 2
    y = factored._convolution(nhwc(x['x']), parts, (given['stride'],) * 2, pads, (1, 1))
    full = convolution(nhwc(x['x']), w, given['stride'], given['padding'])
    return {'y': nchw(y), 'y_full': nchw(full), 'kernel': torch_weight(whole), 'singular_values': values}


def fold(given, x):
    gain = x['gamma'] / jnp.sqrt(x['var'] + given['eps'])
    rounded = rounding.symmetric(kernel(x['w']) * gain, given['bits'], (0, 1, 2))
    sums = [convolution(nhwc(x['x']), rounded, padding=pad) for pad in (0, 1)]
    shifted = {array.shape[1]: nchw(array + x['beta'] - x['mean'] * gain) for array in sums}
    return {'y': shifted[given['size']]}


def integer(given, x):
    names = {'scale_inputs': given['scale_x'], 'zero_inputs': given['zero_x'], 'scale_outputs': given['scale_out'],
             'zero_outputs': given['zero_out']}  # fmt: skip
    codes, sums = rounding.integer_dense(x['xq'], x['wq'], x['bias'], scale_kernel=x['scale_w'], **names)
    return {'yq': codes, 'acc': sums}


MAPPINGS = {
    'fake_quant': fake_quant,
    'lsq': lsq,
    'magnitude_mask': magnitude_mask,
    'structured_mask': lambda given, x: {'mask': torch_weight(masks.channels(kernel(x['w']), given['share']))},
    'n_m_mask': lambda given, x: {'mask': masks.n_of_m(x['w'].T, given['n'], given['m']).T},
    'schedule': schedule,
    'low_rank': low_rank,
    'fold': fold,
}  # fmt: skip


@functools.cache
def loaded(folder):
    """Arrays of all records of a folder, by id."""
    found = {}
    for record in golden.records(folder):
        with np.load(pathlib.Path(folder) / record['file']) as file:
            found[record['id']] = dict(file)
    return found


@functools.cache
def answers(folder, technique):
    """Ours, by id, of all records of a technique: in one program, in float64."""
    records = [record for record in golden.records(folder) if record['technique'] == technique]

    def inputs(record):
        return {name.removeprefix('in/'): value for name, value in loaded(folder)[record['id']].items()
                if name.startswith('in/')}  # fmt: skip

    if technique == 'integer':
        found = {record['id']: integer(record['hyperparams'], inputs(record)) for record in records}
        return {key: {f'out/{name}': leaf for name, leaf in leaves.items()} for key, leaves in found.items()}

    def one(record, x):
        given, fixed = dict(record['hyperparams']), {name: x[name] for name in x if name != 'cotangent'}
        if technique == 'fold':
            given['size'] = loaded(folder)[record['id']]['out/y'].shape[2]

        def loss(moved):
            found = MAPPINGS[technique](given, {**fixed, **moved})
            return jnp.sum(found['y'] * x['cotangent']) if 'cotangent' in x else 0.0, found

        moved = {name: x[name] for name in record['grad_wrt']}
        (value, found), slopes = jax.value_and_grad(loss, has_aux=True)(moved)
        graded = {'loss': value} if 'cotangent' in x else {}
        return {**graded, **{f'grad/{name}': leaf for name, leaf in slopes.items()},
                **{f'out/{name}': leaf for name, leaf in found.items()}}  # fmt: skip

    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        ours = jax.jit(lambda given: {record['id']: one(record, given[record['id']]) for record in records})(
            {record['id']: inputs(record) for record in records}
        )
    return {name: {key: np.asarray(leaf) for key, leaf in leaves.items()} for name, leaves in ours.items()}


def pytest_generate_tests(metafunc):
    if 'record' in metafunc.fixturenames:
        records = golden.records(metafunc.config.getoption('--golden-compress'))
        absent = pytest.mark.skip('shared data is not here: no golden vectors of compression; set KDJAX_SHARED')
        found = [pytest.param(record, id=record['id']) for record in records]
        metafunc.parametrize('record', found or [pytest.param(None, marks=absent, id='none')])


def test_we_agree_with(record, pytestconfig):
    folder = pytestconfig.getoption('--golden-compress')
    arrays = {name: value.astype(float) for name, value in loaded(folder)[record['id']].items()}
    ours = {name: value.astype(float) for name, value in answers(folder, record['technique'])[record['id']].items()}
    assert golden.compared(ours, record, arrays) == []


def test_a_wrong_number_is_noticed(pytestconfig):
    folder = pytestconfig.getoption('--golden-compress')
    records = [record for record in golden.records(folder) if record['grad_wrt']]
    if not records:
        pytest.skip('shared data is not here: no golden vectors of compression; set KDJAX_SHARED')
    record, arrays = records[0], dict(loaded(folder)[records[0]['id']])
    ours = dict(answers(folder, record['technique'])[record['id']])
    for name in ('loss', 'out/y', f'grad/{record["grad_wrt"][0]}'):
        moved = golden.compared({**ours, name: ours[name] + 1e-3}, record, arrays)
        assert [line.partition(':')[0] for line in moved] == [name]
