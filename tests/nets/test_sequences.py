"""What networks over words share, against PyTorch's LSTM (golden/lstm.npz, see golden/make.py) and by hand."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.nets import sequences

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'lstm.npz'
X = np.asarray([[[1.0, -2.0], [3.0, -4.0], [9.0, 9.0]], [[5.0, 6.0]] * 3], np.float32)
MASK = np.asarray([[1, 1, 0], [0, 0, 0]], np.float32)


@functools.cache
def golden():
    with np.load(GOLDEN) as found:
        return dict(found)


def of_torch(layer):
    """PyTorch's weights of both directions of a layer."""

    def both(name):
        return np.stack([golden()[f'{name}_l{layer}{end}'] for end in ('', '_reverse')])

    kernels = {'kernel': 'weight_ih', 'recurrent': 'weight_hh'}
    return {
        **{name: both(theirs).swapaxes(1, 2) for name, theirs in kernels.items()},
        'bias': both('bias_ih') + both('bias_hh'),
    }


def test_an_lstm_of_both_directions_is_pytorchs_on_packed_sequences():
    x, lengths = golden()['x'], golden()['lengths']
    mask = (np.arange(x.shape[1]) < lengths[:, None]).astype(np.float32)
    layer = jax.jit(lambda params, x: sequences.LSTM(4, jnp.float32).apply({'params': params}, x, mask))
    x, first = layer(of_torch(0), x)
    states, second = layer(of_torch(1), x)
    np.testing.assert_allclose(states, golden()['states'], atol=1e-6)
    # PyTorch's last states are (2 layers, 2 directions), B, H.
    last = np.concatenate([np.asarray(part).reshape(-1, 2, 4).swapaxes(0, 1) for part in (first, second)])
    np.testing.assert_allclose(last, golden()['last'], atol=1e-6)


def test_the_first_step_is_not_free_to_forget():
    params = jax.jit(sequences.LSTM(3, jnp.float32).init)(jax.random.key(0), X, MASK)['params']
    np.testing.assert_array_equal(params['bias'], np.repeat([[0, 1, 0, 0]] * 2, 3, axis=1))
    assert np.abs(params['kernel']).max() <= 3**-0.5
    assert not np.allclose(params['recurrent'][0], params['recurrent'][1])


@pytest.mark.parametrize(('how', 'want'), [('mean', [2, -3]), ('max', [3, -2]), ('first', [1, -2])])
def test_pooling_is_of_real_tokens_and_0_without_any(how, want):
    np.testing.assert_array_equal(sequences.pooled(X, MASK, how), [want, [0, 0]])


def test_an_unknown_pooling_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="unknown pooling 'min'; there is: 'mean', 'max', 'first'"):
        sequences.pooled(X, MASK, 'min')


def test_windows_hold_the_neighbours_and_nothing_beyond_the_ends():
    found = sequences.windows(X, 1, 2)
    assert found.shape == (2, 3, 8)
    np.testing.assert_array_equal(found[0, 0], [0, 0, 1, -2, 3, -4, 9, 9])
    np.testing.assert_array_equal(found[0, 2], [3, -4, 9, 9, 0, 0, 0, 0])


def test_letters_are_numbered_by_how_often_training_has_them():
    letters = sequences.spelled(('', '?', 'abba', 'cab', 'dab', 'a' * 9 + 'c' * 10), vocabulary=4).values
    assert letters.shape == (6, sequences.LETTERS)
    assert [row[row > 0].tolist() for row in letters] == [
        [], [], [2, 3, 3, 2], [4, 2, 3], [sequences.RARE, 2, 3], [2] * 8 + [4] * 8,
    ]  # fmt: skip


def test_a_spelling_is_the_strongest_answer_at_any_letter():
    letters = sequences.spelled(('', '', 'ab', 'aab'), vocabulary=4)
    module = sequences.Spelling(letters, 5, jnp.float32, width=2)
    ids = np.asarray([[2, 3, 0, 1]], np.int32)
    params = jax.device_get(jax.jit(module.init)(jax.random.key(1), ids)['params'])
    found = module.apply({'params': params}, ids)
    vectors = {letter: params['letters']['table'][number] for letter, number in (('a', 2), ('b', 3))}
    none = np.zeros(2, np.float32)
    for place, word in enumerate(('ab', 'aab')):
        x = [none, *(vectors[letter] for letter in word), none]
        seen = [np.concatenate(x[start : start + 3]) for start in range(len(word))]
        want = np.max(seen @ params['filters']['kernel'] + params['filters']['bias'], axis=0)
        np.testing.assert_allclose(found[0, place], want, rtol=1e-5, atol=1e-6)
    assert not np.asarray(found[0, 2:]).any()
