"""What every network over words must and must not care about."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets import bag, bert, bilstm, ngrams, textcnn, transformer, windows

CLASSES, VOCABULARY = 3, 9
WORDS = ('', '', 'the', 'The', 'EU', '@bob', "don't", 'x1', 'extraordinarily-long', 'Zoë', 'new', 'unseen')
ROWS = ((2, 5, 3, 8, 7, 4), (10, 4), (9, 11, 1, 6), (6,), (3, 3, 2, 2, 3), ())
LONGEST, MORE = 6, 3
KEY = jax.random.key(0)
SMALL = {'classes': CLASSES, 'vocabulary': VOCABULARY}
LAYERS = {'width': 6, 'depth': 2, 'heads': 2, 'inner': 5}
FAMILIES = {
    'bag': functools.partial(bag.bag, **SMALL, width=3, hidden=4),
    'ngrams': functools.partial(ngrams.linear, classes=CLASSES, grams=VOCABULARY, scale='sqrt'),
    'textcnn': functools.partial(textcnn.textcnn, **SMALL, width=3, sizes=(1, 3, 4), filters=2),
    'bilstm': functools.partial(bilstm.bilstm, **SMALL, width=3, units=2, layers=2),
    'bilstm mean': functools.partial(bilstm.bilstm, **SMALL, width=3, units=2, pooling='mean'),
    'bilstm tagger': functools.partial(bilstm.tagger, **SMALL, words=WORDS, width=3, units=2, spelling=4),
    'windows': functools.partial(windows.mlp, **SMALL, words=WORDS, width=3, buckets=7, affix_width=2, hidden=4),
    'encoder': functools.partial(transformer.encoder, **SMALL, **LAYERS),
    'encoder token': functools.partial(
        transformer.encoder, **SMALL, **LAYERS, pooling='token', norm='post', positions=10
    ),
    'encoder tagger': functools.partial(transformer.tagger, **SMALL, **LAYERS, norm='post'),
    'bert': functools.partial(bert.bert, **SMALL, **LAYERS, positions=10),
    'bert tagger': functools.partial(bert.tagger, **SMALL, **LAYERS, positions=10),
}  # fmt: skip
TAGGERS = ('bilstm tagger', 'windows', 'encoder tagger', 'bert tagger')
every_family = pytest.mark.parametrize('family', FAMILIES)


def padded(rows, longest):
    return np.asarray([[*row, *[0] * (longest - len(row))] for row in rows], np.int32)


IDS, WIDER = (padded(ROWS, longest) for longest in (LONGEST, LONGEST + MORE))


@functools.cache
def net(family):
    return FAMILIES[family]()


@functools.cache
def shapes(family):
    return jax.eval_shape(net(family).init, KEY, IDS)


@functools.cache
def variables(family):
    """Nothing is 0 or 1: what starts so would hide a mistake."""
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(leaf.dtype), shapes(family))


@functools.cache
def asked(family):
    """A compiled function from ids to outputs and the gradient of the squares of all the logits."""

    @jax.jit
    def ask(ids):
        def loss(params):
            outputs, _ = net(family).apply({'params': params, 'stats': {}}, ids, train=False, key=None)
            return jnp.sum(outputs.logits**2), outputs

        (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(variables(family)['params'])
        return outputs, gradient

    return lambda ids: jax.device_get(ask(ids))


@functools.cache
def said(family):
    return asked(family)(WIDER)


@functools.cache
def forward(family):
    """Outputs alone, for whichever variables and ids."""
    return jax.jit(functools.partial(net(family).apply, train=False, key=None))


def run(family, ids, state=None):
    return jax.device_get(forward(family)(variables(family) if state is None else state, ids)[0])


@every_family
def test_padding_more_changes_nothing(family):
    wide, narrow = said(family)[0].logits, run(family, IDS).logits
    if family in TAGGERS:
        wide = wide[:, :LONGEST]
        wide, narrow = (logits[IDS > 0] for logits in (wide, narrow))
    np.testing.assert_allclose(wide, narrow, rtol=1e-5, atol=1e-6)


@every_family
def test_permuting_the_batch_permutes(family):
    order = np.asarray([4, 0, 5, 2, 1, 3])
    np.testing.assert_allclose(
        asked(family)(WIDER[order])[0].logits, said(family)[0].logits[order], rtol=1e-5, atol=1e-6
    )


@every_family
def test_examples_without_a_word_are_finite_as_are_their_gradients(family):
    for outputs in (said(family), asked(family)(np.zeros_like(WIDER))):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs))


@every_family
def test_every_weight_has_a_gradient(family):
    zero = [
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, leaf in jax.tree_util.tree_leaves_with_path(said(family)[1])
        if not np.any(leaf)
    ]
    # A softmax does not see what is added to all of its scores, the queries' part of a key's bias.
    assert [path for path in zero if not path.endswith('key/bias')] == []


def kinds(family):
    """Documented shapes of taps, without B; N is 6 here, or 7 with a class token."""
    n = LONGEST + (family == 'encoder token')
    layer = {**dict.fromkeys(('query', 'key', 'value', 'hidden'), (n, 6)), 'attention': (2, n, n)}
    layers = {f'{name}{depth}': shape for name, shape in layer.items() for depth in (1, 2)}
    known = {
        'bag': {'embedding': (n, 3), 'pooled': (6,), 'penult': (4,)},
        'ngrams': {},
        'textcnn': {'embedding': (n, 3), 'penult': (6,)},
        'bilstm': {'embedding': (n, 3), 'hidden1': (n, 4), 'hidden2': (n, 4), 'penult': (4,)},
        'bilstm mean': {'embedding': (n, 3), 'hidden1': (n, 4), 'penult': (4,)},
        'bilstm tagger': {'embedding': (n, 7), 'hidden1': (n, 4)},
        'windows': {'embedding': (n, 12), 'penult': (n, 4)},
    }
    return known.get(family, {'embedding': (n, 6), **layers, 'penult': (n, 6) if family in TAGGERS else (6,)})


@every_family
def test_logits_and_taps_have_the_documented_shapes_and_those_of_tokens_have_masks(family):
    outputs = jax.eval_shape(functools.partial(net(family).apply, train=False, key=None), shapes(family), IDS)[0]
    tokens = (LONGEST,) if family in TAGGERS else ()
    assert outputs.logits.shape == (len(IDS), *tokens, CLASSES)
    assert {name: leaf.shape[1:] for name, leaf in outputs.features.items()} == kinds(family)
    assert set(net(family).taps) == set(outputs.features)
    masked = {name: len(masks) for name, masks in outputs.masks.items()}
    wanted = {name: 2 if name.startswith('attention') else 1 for name, shape in kinds(family).items() if len(shape) > 1}
    assert masked == {**wanted, **({'logits': 1} if tokens else {})}


@pytest.mark.parametrize('family', ['windows', 'bilstm tagger', 'encoder', 'bert tagger'])
def test_masks_are_of_the_real_tokens_and_embeddings_elsewhere_are_0(family):
    outputs = said(family)[0]
    for name, masks in outputs.masks.items():
        for mask in masks:
            np.testing.assert_array_equal(mask, (WIDER > 0).astype(np.float32), err_msg=name)
    assert not outputs.features['embedding'][WIDER == 0].any()


def test_with_a_class_token_masks_have_one_more():
    outputs = said('encoder token')[0]
    np.testing.assert_array_equal(outputs.masks['hidden1'][0][:, 1:], WIDER > 0)
    np.testing.assert_array_equal(outputs.masks['hidden1'][0][:, 0], 1)


@pytest.mark.parametrize('family', ['bag', 'textcnn', 'bilstm', 'encoder', 'encoder tagger'])
def test_words_without_a_vector_are_all_the_unknown_one(family):
    unknown = np.where(IDS >= VOCABULARY, 1, IDS)
    assert np.any(unknown != IDS)
    np.testing.assert_array_equal(run(family, IDS).logits, run(family, unknown).logits)


@pytest.mark.parametrize('family', ['windows', 'bilstm tagger'])
def test_words_without_a_vector_are_told_apart_by_their_letters(family):
    unknown = np.where(IDS >= VOCABULARY, 1, IDS)
    told = run(family, IDS).logits
    assert np.abs(told - run(family, unknown).logits)[2, :2].max() > 1e-3
    assert np.abs(told - run(family, np.where(IDS == 9, 10, IDS)).logits)[2, 0].max() > 1e-3


def test_ngrams_that_nobody_saw_count_as_none():
    known = [[id for id in row if id < VOCABULARY] for row in ROWS]
    np.testing.assert_allclose(run('ngrams', IDS).logits, run('ngrams', padded(known, LONGEST)).logits, rtol=1e-6)


@pytest.mark.parametrize(('scale', 'power'), [('sum', 0), ('sqrt', 0.5), ('mean', 1)])
def test_ngrams_are_what_their_formula_says(scale, power):
    params = variables('ngrams')['params']
    outputs, _ = ngrams.linear(classes=CLASSES, grams=VOCABULARY, scale=scale).apply(
        variables('ngrams'), IDS[:1], train=False, key=None
    )
    want = params['table'][IDS[0]].sum(axis=0) / LONGEST**power + params['bias']
    np.testing.assert_allclose(outputs.logits[0], want, rtol=1e-5, atol=1e-6)


def test_a_bag_is_what_its_formula_says():
    params, (outputs, _) = variables('bag')['params'], said('bag')
    vectors = params['words']['table'][[*ROWS[0]]]
    x = np.concatenate([vectors.mean(axis=0), vectors.max(axis=0)])
    np.testing.assert_allclose(outputs.features['pooled'][0], x, rtol=1e-5)
    x = np.maximum(x @ params['hidden']['kernel'] + params['hidden']['bias'], 0)
    want = x @ params['head']['kernel'] + params['head']['bias']
    np.testing.assert_allclose(outputs.logits[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('row', [0, 1, 3])
def test_a_textcnn_is_what_its_formula_says(row):
    params, (outputs, _) = variables('textcnn')['params'], said('textcnn')
    known = [id if id < VOCABULARY else 1 for id in ROWS[row]]
    found = []
    for size in (1, 3, 4):
        layer, none = params[f'filters{size}'], np.zeros((size - 1, 3), np.float32)
        x = np.concatenate([none, params['words']['table'][known], none])
        places = [x[start : start + size].ravel() for start in range(len(x) - size + 1)]
        found.append(np.maximum(np.max(places @ layer['kernel'] + layer['bias'], axis=0), 0))
    np.testing.assert_allclose(outputs.features['penult'][row], np.concatenate(found), rtol=1e-4, atol=1e-5)


def test_a_word_in_a_window_is_its_vector_its_affixes_and_its_shape():
    features, params = said('windows')[0].features, variables('windows')['params']
    affixes = windows.affixes(WORDS, 3, 7)
    for place, id in ((1, 5), (3, 8)):
        want = [params['words']['table'][id], *(params[name]['table'][affixes[id, end]]
                for end, name in enumerate(('prefix', 'suffix'))), windows.shapes(WORDS)[id]]  # fmt: skip
        np.testing.assert_allclose(features['embedding'][0, place], np.concatenate(want), rtol=1e-6)
    around = np.concatenate([np.zeros(24, np.float32), features['embedding'][0, :3].ravel()])
    hidden = np.maximum(around @ params['hidden']['kernel'] + params['hidden']['bias'], 0)
    np.testing.assert_allclose(features['penult'][0, 0], hidden, rtol=1e-4, atol=1e-5)


def test_affixes_have_no_case_and_shapes_do():
    ends = windows.affixes(WORDS, 3, 1000)
    np.testing.assert_array_equal(ends[2], ends[3])
    assert len(np.unique(ends[2:9, 1])) == 6, 'two other suffixes share one of a thousand buckets'
    found = dict(zip(WORDS, windows.shapes(WORDS).tolist(), strict=True))
    assert [found[word] for word in ('the', 'The', 'EU', '@bob', "don't", 'x1', 'extraordinarily-long', 'Zoë')] == [
        [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0], [1, 0, 0, 0, 0],
    ]  # fmt: skip


def count(family, **changes):
    inputs = jax.ShapeDtypeStruct((2, LONGEST), jnp.int32)
    return trees.count(jax.eval_shape(FAMILIES[family](**changes).init, KEY, inputs)['params'])


def test_parameters_are_as_many_as_the_layers_say():
    assert count('bag', classes=2, vocabulary=3002, width=24, hidden=32) == 3002 * 24 + 49 * 32 + 33 * 2
    assert count('ngrams') == VOCABULARY * CLASSES + CLASSES
    assert count('textcnn') == VOCABULARY * 3 + (1 + 3 + 4) * 3 * 2 + 3 * 2 + 7 * CLASSES
    first, second, spelled = (2 * 4 * 2 * (into + 2 + 1) for into in (3, 4, 7))
    assert count('bilstm') == VOCABULARY * 3 + first + second + 5 * CLASSES
    letters = len(set(''.join(WORDS[:VOCABULARY]))) + 2
    assert count('bilstm tagger') == VOCABULARY * 3 + letters * 30 + (90 + 1) * 4 + spelled + 5 * CLASSES
    words = ('word',) * 3002
    tagger = count(
        'windows', classes=13, vocabulary=3002, words=words, width=16, buckets=1000, affix_width=8, hidden=48
    )
    assert tagger == 3002 * 16 + 2 * 1001 * 8 + (5 * 37 + 1) * 48 + 49 * 13
    layer = 4 * (6 * 6 + 6) + (6 * 5 + 5) + (5 * 6 + 6) + 4 * 6
    assert count('encoder') == VOCABULARY * 6 + 2 * layer + 2 * 6 + 7 * CLASSES
    assert count('encoder token') == (VOCABULARY + 1 + 10) * 6 + 2 * layer + 7 * CLASSES
    assert count('bert') == (VOCABULARY + 10 + 2 + 2) * 6 + 2 * layer + 7 * 6 + 7 * CLASSES


@pytest.mark.parametrize('family', ['bag', 'bilstm tagger', 'encoder'])
def test_networks_side_by_side_are_what_they_are_alone(family):
    states = [variables(family), jax.tree.map(lambda leaf: leaf[::-1] / 2, variables(family))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    both = jax.jit(jax.vmap(lambda state: net(family).apply(state, IDS, train=False, key=None)[0].logits))(stacked)
    for logits, state in zip(both, states, strict=True):
        np.testing.assert_allclose(logits, run(family, IDS, state).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('family', ['bag', 'encoder'])
def test_dropout_acts_in_training_alone_as_its_key_says(family):
    train = jax.jit(functools.partial(FAMILIES[family](dropout=0.5).apply, train=True))
    one, again, other = (train(variables(family), IDS, key=jax.random.key(seed))[0].logits for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert not np.allclose(one, run(family, IDS).logits)


def test_layers_drop_other_units_each():
    """Where both branches of a layer are dropped it leaves a token's unit as it was."""
    dropped = jax.jit(functools.partial(FAMILIES['encoder'](dropout=0.7, depth=3).apply, train=True))
    state = jax.tree.map(lambda leaf: leaf, variables('encoder'))
    layers = state['params']['states']['encoder']
    state['params']['states']['encoder'] = {**layers, 'layer3': layers['layer2']}
    features = jax.device_get(dropped(state, IDS, key=KEY)[0].features)
    kept = [(features[f'hidden{layer}'] - features[f'hidden{layer - 1}'])[IDS > 0] != 0 for layer in (2, 3)]
    assert all(0.3 < np.mean(part) < 0.7 for part in kept)
    assert 0.3 < np.mean(kept[0] == kept[1]) < 0.7


@every_family
def test_bfloat16_is_for_activations_alone_and_stays_near_float32(family):
    half = FAMILIES[family](precision='bfloat16')
    with jax.numpy_dtype_promotion('standard'):  # flax's own normalisation mixes dtypes
        outputs = jax.eval_shape(functools.partial(half.apply, train=False, key=None), shapes(family), IDS)[0]
    assert outputs.logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in outputs.features.values()} <= {jnp.dtype('bfloat16')}


@pytest.mark.parametrize(
    ('family', 'changes', 'message'),
    [
        ('bag', {'hidden': 0}, 'hidden of a bag must be at least 1, got 0'),
        ('bag', {'precision': 'half'}, "unknown precision 'half'; there is: 'float32', 'bfloat16'"),
        ('ngrams', {'scale': 'summ'}, "unknown scale 'summ' of n-grams; there is: 'sum', 'mean', 'sqrt'"),
        ('textcnn', {'sizes': ()}, 'sizes of a textcnn must be at least 1, got 0'),
        ('textcnn', {'sizes': (3, 3)}, r'sizes of a textcnn must differ, got \(3, 3\)'),
        ('bilstm', {'pooling': 'lst'}, "unknown pooling 'lst' of a bilstm; there is: 'last', 'first', 'max', 'mean'"),
        ('bilstm', {'layers': 0}, 'layers of a bilstm must be at least 1, got 0'),
        ('bilstm tagger', {'words': WORDS[:4]}, 'spelling of a tagger needs the words of all 9 ids, got 4'),
        ('bilstm tagger', {'spelling': -1}, 'spelling of a tagger must be at least 0, got -1'),
        ('windows', {'words': ()}, 'a window mlp needs the words of all 9 ids, got 0'),
        ('windows', {'around': -1}, 'around of a window mlp must be at least 0, got -1'),
        ('encoder', {'heads': 4}, 'heads 4 of a transformer must divide its width 6'),
        ('encoder', {'norm': 'past'}, "unknown norm 'past' of a transformer; there is: 'post', 'pre'"),
        ('encoder', {'pooling': 'tokens'}, "unknown pooling 'tokens' of a transformer; there is: 'token', "),
        ('encoder tagger', {'depth': 0}, 'depth of a transformer must be at least 1, got 0'),
        ('bert', {'pooling': 'pool'}, "unknown pooling 'pool' of a bert; there is: 'pooler', "),
        ('bert tagger', {'types': 0}, 'types of a bert must be at least 1, got 0'),
    ],
)  # fmt: skip
def test_what_makes_no_network_is_refused_in_one_line(family, changes, message):
    with pytest.raises(UsageError, match=f'^{message}') as refusal:
        FAMILIES[family](**changes)
    assert '\n' not in str(refusal.value)


@pytest.mark.parametrize('family', ['encoder token', 'bert'])
def test_more_tokens_than_positions_are_refused(family):
    kind, tokens = family.split()[0].replace('encoder', 'transformer'), LONGEST + (family == 'encoder token')
    with pytest.raises(UsageError, match=f'positions of a {kind} are 4, and a sentence has {tokens} tokens'):
        jax.eval_shape(FAMILIES[family](positions=4).init, KEY, IDS)
