"""A network that writes does so as it was made smaller: token by token it says what it says of a whole text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.compress import factored, quantized, shared
from kdjax.compress.quantized import Rounding
from kdjax.errors import UsageError
from kdjax.nets import encoder_decoder

NET = encoder_decoder.transformer(vocabulary=9, width=8, depth=1, heads=2, inner=12)
TEXT = {
    'source': np.array([[2, 3, 4, 5], [6, 7, 0, 0]], np.int32),
    'target': np.array([[1, 4, 5], [1, 8, 3]], np.int32),
}
RANKS = {'decoder/layer1/mlp/into/kernel': 3}


def rounded(variables):
    begun = quantized.begun(NET, Rounding(), variables, TEXT, (4.0, 8.0))
    ranges = jax.tree.map(lambda ends: ends + jnp.array([-4.0, 4.0]), begun['stats'][quantized.ROUNDING]['ranges'])
    return quantized.quantized(NET), quantized.calibrated(begun, ranges)


MADE = {
    'rounded': rounded,
    'factored': lambda variables: (factored.factored(NET, RANKS), factored.with_factors(variables, RANKS)),
    'shared': lambda variables: (shared.shared(NET, 2), shared.with_codebooks(variables, 2)),
}


@pytest.fixture(scope='module')
def variables():
    shapes = jax.eval_shape(NET.init, jax.random.key(0), TEXT)
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32) / 2, shapes)


@pytest.mark.parametrize(
    'name', ['rounded', *(pytest.param(name, marks=pytest.mark.slow) for name in ('factored', 'shared'))]
)
def test_what_it_writes_is_what_it_was_trained_to_say(name, variables):
    net, own = MADE[name](variables)

    @jax.jit
    def both(own):
        cache, written = net.generator.start(own, TEXT['source'], 3), []
        for t in range(3):
            logits, cache = net.generator.extend(own, cache, TEXT['target'][:, t], t)
            written.append(logits)
        return jnp.stack(written, axis=1), *(
            one.apply(given, TEXT, train=False, key=None)[0].logits for one, given in ((net, own), (NET, variables))
        )

    written, said, plain = both(own)
    np.testing.assert_allclose(written, said, atol=1e-4)
    assert np.abs(said - plain).max() > 0.01


def test_products_of_activations_are_others_while_it_writes():
    with pytest.raises(UsageError, match='of a network that does not write'):
        quantized.quantized(NET, Rounding(activations=True))
