"""Sizes and multiplications, counted by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.compress import quantized, sizes
from kdjax.compress.quantized import Rounding
from kdjax.nets.adapters import from_function

X = jnp.ones((1, 8))


def dense(params, x):
    return (x @ params['first']['kernel'] + params['first']['bias']) @ params['last']['kernel']


def made(zeros=0, bits=32.0, edges=0):
    random = np.random.default_rng(0)
    first = random.normal(size=(8, 6)).astype(np.float32)
    first.ravel()[:zeros] = 0
    params = {'first': {'kernel': jnp.asarray(first), 'bias': jnp.ones(6)},
              'last': {'kernel': jnp.asarray(random.normal(size=(6, 4)), jnp.float32)}}  # fmt: skip
    net, how = from_function(lambda key, x: params, dense), Rounding(edges=edges)
    variables = {'params': params, 'stats': {}}
    if bits == 32:
        return net, variables
    return quantized.quantized(net, how), quantized.begun(net, how, variables, X, (bits, 8.0))


def test_a_dense_network_is_its_floats():
    size, work = sizes.size_of(made()[1]), sizes.work_of(*made(), X)
    assert (size.nonzeros, size.bits_per_weight, size.bytes) == (78, 32, 4 * 78)
    assert size.entropy == size.bytes
    assert work == (48 + 24, 48 + 24, 72 * 32 * 32)


@pytest.mark.parametrize('zeros', [12, 36])
def test_zeros_are_smaller_only_once_they_are_packed(zeros):
    size, work = sizes.size_of(made(zeros)[1]), sizes.work_of(*made(zeros), X)
    p = zeros / 48
    mask = -48 * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8
    assert size.bytes == 4 * 78
    assert size.entropy == math.ceil(4 * (78 - zeros) + mask)
    assert (work.macs, work.macs_effective) == (72, 72 - zeros)


@pytest.mark.parametrize('bits', [8, 4, 2])
def test_codes_are_packed_and_have_a_step_a_channel(bits):
    size, work = sizes.size_of(made(bits=bits)[1]), sizes.work_of(*made(bits=bits), X)
    assert size.bytes == math.ceil(48 * bits / 8) + 24 + 24 + math.ceil(24 * bits / 8) + 16
    assert work.bops == 72 * bits * 8
    assert size.entropy <= size.bytes
    assert size.deflated <= size.bytes


def test_the_first_and_the_last_layer_have_the_bits_that_they_are_to_have_at_least():
    size, work = sizes.size_of(made(bits=2, edges=8)[1]), sizes.work_of(*made(bits=2, edges=8), X)
    assert size.bytes == 48 + 24 + 24 + 24 + 16
    assert work.bops == 72 * 8 * 8


def test_zeros_and_few_bits_multiply_once_they_are_packed():
    entropy = [sizes.size_of(made(zeros, bits)[1]).entropy for zeros, bits in ((0, 32), (36, 32), (0, 4), (36, 4))]
    assert entropy[3] < min(entropy[1:3]) < entropy[0]
