"""Laws of factors: full rank is dense, rank is traced, budgets are kept."""

import functools

import jax
import numpy as np
import pytest
import rotation
from house_nets import subject

from kdjax.compress import factored, products, quantized
from kdjax.errors import UsageError

FULL = {
    'mlp': {'dense1/kernel': 7, 'head/kernel': 3},
    'cnn': {'stage2_conv/kernel': (4, 6), 'stage3_conv/kernel': 18, 'head/kernel': 3},
    'resnet8': {'conv1/kernel': (3, 16), 'layer2_0/conv1/kernel': 48, 'layer2_0/downsample_0/kernel': 16,
                'layer3_0/conv2/kernel': (64, 64), 'head/kernel': 3},
}  # fmt: skip


def made(name, ranks):
    net, x, variables = subject(name)
    return factored.factored(net, ranks), factored.with_factors(variables, ranks), net, x, variables


@pytest.mark.parametrize('name', rotation.params([(name,) for name in FULL], ['dense', 'maps', 'maps']))
def test_full_rank_is_dense(name):
    small, factors, net, x, variables = made(name, FULL[name])

    @jax.jit
    def both(factors, variables):
        return [[one.apply(given, x, train=train, key=None)[0].logits for train in (True, False)]
                for one, given in ((small, factors), (net, variables))]  # fmt: skip

    got, want = both(factors, variables)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(np.abs(theirs).max()))


def test_rank_is_traced_and_what_is_beyond_it_is_as_if_it_were_not_there():
    ranks = {'dense1/kernel': 7, 'dense2/kernel': 5}
    wide, factors, _, x, _ = made('mlp', ranks)
    ask = jax.jit(lambda v: wide.apply(v, x, train=False, key=None)[0].logits)
    found = {rank: ask(factored.with_rank(factors, rank, ranks)) for rank in (7, 3, 2)}
    assert ask._cache_size() == 1
    small, alone, *_ = made('mlp', dict.fromkeys(ranks, 3))
    np.testing.assert_allclose(found[3], small.apply(alone, x, train=False, key=None)[0].logits, rtol=1e-4, atol=1e-5)
    assert np.abs(found[7] - found[3]).max() < np.abs(found[7] - found[2]).max()


@pytest.mark.parametrize('name', rotation.params([('cnn',), ('resnet8',)], 'nn'))
def test_fewer_weights_are_fewer_multiplications(name):
    ranks = {'cnn': {'stage3_conv/kernel': (2, 3)}, 'resnet8': {'layer3_0/conv2/kernel': 8}}[name]
    small, factors, net, x, variables = made(name, ranks)
    (path,) = ranks
    (shape,) = (leaf.shape for leaf in factored._kernels(variables['params'], ranks).values())
    parts = factors['params']
    for part in path.split('/'):
        parts = parts[part]
    assert sum(leaf.size for leaf in parts.values()) == factored.size(shape, ranks[path]) < np.prod(shape)
    dense, thin = (sum(site.macs for site in products.sites(one, given, x))
                   for one, given in ((net, variables), (small, factors)))  # fmt: skip
    assert thin < dense


def test_factors_are_rounded_as_all_products_are():
    small, factors, _, x, _ = made('resnet8', {'layer3_0/conv2/kernel': (8, 8)})
    sites = products.sites(small, factors, x)
    assert {f'layer3_0/conv2/kernel/{part}' for part in ('first', 'core', 'last')} <= {site.path for site in sites}
    whole = quantized.quantized(small)
    begun = jax.eval_shape(functools.partial(quantized.begun, small, quantized.Rounding()), factors, x)
    for train in (True, False):
        jax.eval_shape(functools.partial(whole.apply, train=train, key=None), begun, x)


def test_ranks_by_a_share_keep_it_and_by_a_budget_keep_to_it():
    random = np.random.default_rng(0)
    low = random.normal(size=(24, 3)) @ random.normal(size=(3, 20))
    kernels = {'a': low.astype(np.float32), 'b': random.normal(size=(24, 20)).astype(np.float32)}
    assert factored.ranks_of_share(kernels, 0.9999) == {'a': 3}  # of 'b' it would take more weights than there are
    for budget in (88, 300, 700):
        ranks = factored.ranks_of_budget(kernels, budget)
        spent = sum(factored.size((24, 20), rank) for rank in ranks.values())
        assert budget - 2 * 44 < spent <= budget
    with pytest.raises(UsageError, match=r'a budget of 80 weights has no room .* they need 88'):
        factored.ranks_of_budget(kernels, 80)
    assert factored.rank_of(np.array([3.0, 4.0, 0.0][::-1]), 1.0) == 3
    with pytest.raises(UsageError, match=r'must be in \(0, 1\], got 90'):
        factored.rank_of(np.ones(3), 90)


@pytest.mark.parametrize(
    ('ranks', 'why'),
    [
        ({'dens1/kernel': 2}, "unknown kernel 'dens1/kernel'; there is: 'dense1/kernel'"),
        ({'dense1/kernel': 8}, 'rank of dense1/kernel must be from 1 to 7, got 8'),
        ({'dense1/kernel': (2, 2)}, r'dense1/kernel of shape \(64, 7\) cannot have the ranks \(2, 2\)'),
    ],
)
def test_ranks_that_a_kernel_cannot_have_are_errors(ranks, why):
    with pytest.raises(UsageError, match=why):
        factored.with_factors(subject('mlp')[2], ranks)
