"""What a network costs, by the formulas of a multi-layer perceptron."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import cost as costs
from kdjax.cost import cost_of, counted
from kdjax.nets.mlp import mlp

WIDTHS = (64, 100, 50, 10)  # inputs, hidden layers, classes


@pytest.fixture(scope='module')
def cost():
    net, example = mlp(classes=WIDTHS[-1], widths=WIDTHS[1:-1]), np.zeros((8, 8), np.float32)
    return cost_of(net, jax.jit(net.init)(jax.random.key(0), example[None]), example, batch_sizes=(1, 5))


def test_parameters_and_their_bytes_are_counted(cost):
    params = sum((into + 1) * out for into, out in itertools.pairwise(WIDTHS))
    assert cost.params == params
    assert cost.bytes == 4 * params


def test_flops_of_one_example_are_two_per_weight(cost):
    assert cost.flops == pytest.approx(2 * sum(into * out for into, out in itertools.pairwise(WIDTHS)), rel=0.1)


def test_latency_is_measured_for_each_batch_size(cost):
    assert set(cost.latency_ms) == {'1', '5'}
    assert all(0 < milliseconds < 1000 for milliseconds in cost.latency_ms.values())


def test_of_slow_calls_a_few_are_enough(monkeypatch):
    called = []
    for enough, wanted in ((1e9, 30), (0.0, costs.FEWEST)):
        monkeypatch.setattr(costs, 'ENOUGH', enough)
        called.clear()
        costs.latency_ms(lambda variables, inputs: called.append(inputs), {}, np.zeros(1))
        assert len(called) == 1 + wanted


def test_what_a_scan_repeats_is_counted_as_often_as_it_runs():
    weights = np.ones((8, 8), np.float32)

    def looped(x, times):
        return jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ weights), None), x, None, length=times)[0]

    def nested(x):
        return jax.lax.scan(lambda carry, _: (looped(carry, 3), None), x, None, length=5)[0]

    x, functions = np.ones((4, 8), np.float32), (lambda x: jnp.tanh(x @ weights), lambda x: looped(x, 7), nested)
    one, seven, fifteen = (counted(jax.jit(function), x)['flops'] for function in functions)
    assert one >= 2 * 4 * 8 * 8
    # What counts the rounds is counted too.
    assert 7 * one <= seven <= 8 * one
    assert 15 * one <= fifteen <= 17 * one
