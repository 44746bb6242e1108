"""Networks that write: a token at a time they say what they say of a whole text, in any batch and at any width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.nets import decoder_only, encoder_decoder
from kdjax.nets.blocks import unrolled
from kdjax.nets.decoders import decoder_taps

VOCABULARY, ROWS, LONGEST = 11, 3, 5
SMALL = {'vocabulary': VOCABULARY, 'width': 8, 'heads': 2, 'inner': 12, 'dropout': 0.0}
NETS = {
    'model': (decoder_only.transformer, {'depth': 2, 'positions': 9, 'norm': 'post'}),
    'translator': (encoder_decoder.transformer, {'depth': 1, 'decoder_depth': 2, 'shared': 'none', 'norm': 'post'}),
    'translator, scanned': (encoder_decoder.transformer, {'depth': 2, 'decoder_depth': 1, 'scanned': True}),
}
LENGTHS, SOURCE_LENGTHS = np.array([5, 2, 4]), np.array([1, 4, 3])


def ids(lengths, width, seed):
    random = np.random.default_rng(seed).integers(1, VOCABULARY, (len(lengths), 16))[:, :width]
    return np.where(np.arange(width) < lengths[:, None], random, 0).astype(np.int32)


def inputs(name, width=LONGEST, source_width=4):
    target = ids(LENGTHS, width, 0)
    return {'source': ids(SOURCE_LENGTHS, source_width, 1), 'target': target} if 'translator' in name else target


def target_of(given):
    return given['target'] if isinstance(given, dict) else given


def changed(given):
    """Of all texts the tokens from number 2 on."""
    target = target_of(given)
    other = jnp.where((jnp.arange(target.shape[1]) >= 2) & (target > 0), target % (VOCABULARY - 1) + 1, target)
    return {**given, 'target': other} if isinstance(given, dict) else other


@functools.cache
def measured(name):
    """Logits of a whole text, a token at a time, at more width, with one row alone and with later tokens changed."""
    make, arguments = NETS[name]
    net = make(**SMALL, **arguments)

    def written(variables, given):
        cache = net.generator.start(variables, given['source'] if isinstance(given, dict) else given, 7)

        def step(cache, at):
            logits, cache = net.generator.extend(variables, cache, *at)
            return cache, logits

        target = target_of(given)
        return jax.lax.scan(step, cache, (target.T, jnp.arange(target.shape[1])))[1].swapaxes(0, 1)

    @jax.jit
    def run(given, wide):
        variables = net.init(jax.random.key(0), given)

        def whole(given):
            return net.apply(variables, given, train=False, key=None)[0].logits

        alone = jax.tree.map(lambda leaf: leaf[1:2], given)
        return {
            'whole': whole(given), 'written': written(variables, given), 'wide': whole(wide)[:, :LONGEST],
            'alone': whole(alone), 'changed': whole(changed(given)),
        }  # fmt: skip

    return jax.device_get(run(inputs(name), inputs(name, 8, 6)))


every_net = pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow if name == 'translator' else ()) for name in NETS]
)
REAL = np.arange(LONGEST) < LENGTHS[:, None]


@every_net
def test_a_token_at_a_time_is_the_whole_text(name):
    found = measured(name)
    np.testing.assert_allclose(found['written'][REAL], found['whole'][REAL], atol=1e-5)
    assert np.ptp(found['whole'][REAL], axis=0).min() > 1e-2


@every_net
def test_padding_and_other_rows_change_nothing(name):
    found = measured(name)
    np.testing.assert_allclose(found['wide'][REAL], found['whole'][REAL], atol=1e-5)
    np.testing.assert_allclose(found['alone'][0, : LENGTHS[1]], found['whole'][1, : LENGTHS[1]], atol=1e-5)


@every_net
def test_a_later_token_moves_nothing_before_it(name):
    found = measured(name)
    np.testing.assert_allclose(found['changed'][:, :2], found['whole'][:, :2], atol=1e-6)
    assert np.abs(found['changed'] - found['whole'])[0, 2:].max() > 1e-2


@every_net
def test_all_taps_are_there_and_say_which_of_their_tokens_are_real(name):
    make, arguments = NETS[name]
    net = make(**SMALL, **arguments)
    given = inputs(name)
    variables = jax.eval_shape(net.init, jax.random.key(0), given)
    outputs = jax.eval_shape(lambda variables: net.apply(variables, given, train=False, key=None)[0], variables)
    assert set(outputs.features) == set(net.taps)
    assert set(outputs.masks) == {*net.taps, 'logits'}
    for tap, masks in outputs.masks.items():
        shape = outputs.logits.shape if tap == 'logits' else outputs.features[tap].shape
        tokens = shape[-2:] if 'attention' in tap else shape[1:2]
        assert tuple(mask.shape[1] for mask in masks) == tokens
    source = 'cross_attention1' in net.taps
    assert source == ('translator' in name)
    assert not source or outputs.features['cross_attention1'].shape == (ROWS, 2, LONGEST, 4)


def test_scanned_layers_are_those_of_a_network_that_is_not():
    given, arguments = inputs('model'), SMALL | {'depth': 3}
    loop, plain = (decoder_only.transformer(**arguments, scanned=scanned) for scanned in (True, False))

    @jax.jit
    def run():
        variables = loop.init(jax.random.key(0), given)
        params = {**variables['params'], 'decoder': unrolled(variables['params']['decoder'])}
        assert set(params['decoder']) == {'layer1', 'layer2', 'layer3', 'norm'}
        kernels = [params['decoder'][f'layer{place}']['mlp']['into']['kernel'] for place in (1, 2)]
        seen = loop.apply(variables, given, train=False, key=None)[0]
        return kernels, seen, plain.apply({**variables, 'params': params}, given, train=False, key=None)[0]

    kernels, found, wanted = run()
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, wanted)


@pytest.mark.parametrize(
    ('make', 'arguments', 'message'),
    [
        (decoder_only.transformer, {'norm': 'layer'}, "unknown norm 'layer' of a language model; there is: "),
        (decoder_only.transformer, {'heads': 3}, 'heads 3 of a language model must divide its width 8'),
        (decoder_only.transformer, {'depth': 0}, 'depth of a language model must be at least 1, got 0'),
        (encoder_decoder.transformer, {'shared': 'some'}, "unknown sharing of tables 'some' of a translator"),
        (encoder_decoder.transformer, {'source_vocabulary': 4}, r'has one vocabulary, got 4 ids .* 11 of targets'),
    ],
)
def test_what_makes_no_network_is_said(make, arguments, message):
    with pytest.raises(UsageError, match=message):
        make(**{**SMALL, **arguments})


def test_more_tokens_than_positions_are_refused():
    net = decoder_only.transformer(**SMALL, positions=3)
    with pytest.raises(UsageError, match='positions of a transformer are 3, and a text has 5 tokens'):
        jax.eval_shape(net.init, jax.random.key(0), inputs('model'))


def test_names_of_taps():
    assert decoder_taps(1, 'decoder_', crossed=True)[-2:] == ('decoder_hidden1', 'cross_attention1')
