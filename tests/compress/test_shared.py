"""Weight sharing held against k-means written with numpy, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from house_nets import subject

from kdjax.compress import shared, sizes
from kdjax.errors import UsageError


def k_means(values, count):
    """Rounds of Lloyd, from evenly spaced centres, in float64; of equal distances the larger centre is nearer."""
    centres = np.linspace(values.min(), values.max(), count)
    while True:
        distances = np.abs(values[:, None] - centres)
        codes = count - 1 - np.argmin(distances[:, ::-1], axis=1)
        new = np.array([values[codes == place].mean() if np.any(codes == place) else centre
                        for place, centre in enumerate(centres)])  # fmt: skip
        if np.array_equal(new, centres):
            return centres, codes
        centres = new


@pytest.fixture(scope='module')
def numbers():
    return np.random.default_rng(3).standard_t(3, size=400).astype(np.float32)


@pytest.mark.parametrize('count', [1, 7, 15])
def test_clusters_are_those_of_numpy(numbers, count):
    centres, codes = shared.clustered(numbers, count)
    wanted, own = k_means(numbers.astype(np.float64), count)
    np.testing.assert_allclose(centres, wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(codes, own)


def test_numbers_that_are_few_are_met_exactly():
    centres, codes = shared.clustered(np.asarray([-1.0, 3.0, 3.0, 1.0, -1.0]), 3)
    assert centres.tolist() == [-1.0, 1.0, 3.0]
    assert codes.tolist() == [0, 2, 2, 1, 0]
    assert shared.clustered(np.zeros(0), 3)[0].tolist() == [0.0, 0.0, 0.0]


def test_the_gradient_of_a_number_is_the_sum_over_its_cluster():
    """Eq. 3: where nothing was pruned and where something was."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 8, size=(9, 5)).astype(np.float32)
    each = random.normal(size=(9, 5)).astype(np.float32)
    found = jax.grad(lambda book: jnp.sum(shared.kernel(book, jnp.asarray(codes)) * each))(jnp.ones(7))
    np.testing.assert_allclose(found, [each[codes == code].sum() for code in range(1, 8)], rtol=1e-5, atol=1e-6)


def test_a_shared_network_is_the_network_of_its_few_numbers_and_its_zeros_stay():
    net, x, variables = subject('mlp')
    params = jax.tree.map(lambda leaf: jnp.where(jnp.abs(leaf) < 0.1, 0.0, leaf), variables['params'])
    few = shared.with_codebooks({**variables, 'params': params}, 3)
    whole = shared.plain(few)
    for layer in ('dense1', 'head'):
        kernel, pruned = whole['params'][layer]['kernel'], params[layer]['kernel']
        np.testing.assert_array_equal(kernel == 0, pruned == 0)
        assert len(np.unique(kernel)) <= 8
        assert few['params'][layer]['kernel'].shape == (7,)
    small = shared.shared(net, 3)
    outputs, stats = small.apply(few, x, train=False, key=None)
    np.testing.assert_array_equal(outputs.logits, net.apply(whole, x, train=False, key=None)[0].logits)
    assert jax.tree.structure(stats) == jax.tree.structure(few['stats'])
    begun = jax.eval_shape(small.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, begun) == jax.tree.map(jnp.shape, few)
    again = jax.jit(small.init)(jax.random.key(0), x)
    assert jax.tree.structure(again) == jax.tree.structure(begun)


def test_one_kernel_can_be_shared_alone():
    _, _, variables = subject('mlp')
    found = shared.with_codebooks(variables, {'dense1/kernel': 2})
    assert list(found['stats']['shared']) == ['dense1.kernel']
    assert found['params']['head']['kernel'].ndim == 2


@pytest.mark.parametrize(
    ('bits', 'why'),
    [
        (9, 'bits of shared weights must be a whole number from 1 to 8, got 9'),
        ({'dense1/kernel': 2.0}, 'must be a whole number from 1 to 8, got 2.0'),
        ({'dens1/kernel': 2}, "unknown kernel 'dens1/kernel' whose weights can be shared; there is: 'dense1/kernel'"),
    ],
)
def test_what_cannot_be_shared_is_an_error(bits, why):
    with pytest.raises(UsageError, match=why):
        shared.with_codebooks(subject('mlp')[2], bits)


def test_what_is_shared_is_counted_by_hand():
    """Six numbers in a kernel of 4 x 4 of which five are left, and a bias; and everything of a layer that is not."""
    kernel = np.zeros((4, 4), np.float32)
    kernel.ravel()[[0, 1, 2, 6, 7]] = [1, 1, 1, 2, 1]
    variables = {'params': {'one': {'kernel': jnp.asarray(kernel), 'bias': jnp.ones(4)}}, 'stats': {}}
    size = sizes.size_of(shared.with_codebooks(variables, 2))
    assert size.nonzeros == 5 + 4
    book, bias = 3 * 4, 4 * 4
    assert size.bytes == 16 * 2 // 8 + book + bias
    # Five entries of 5 + 2 bits would be 5 bytes: the codes as they are take no more than 4.
    assert size.indexed == size.bytes
    # Distances 1, 1, 1, 4, 1 and codes a, a, a, b, a: five bits each, and a byte for each of two symbols.
    assert size.huffman == min(-(-(5 + 16 + 5 + 16) // 8), 4) + book + bias
    assert size.bits_per_weight == 8 * size.bytes / 20
