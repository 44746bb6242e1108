"""Trees: sizes, sums and norms by numpy; identities that notice every bit and nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax import trees


def tree():
    return {
        'a': np.arange(6, dtype=np.float32).reshape(2, 3),
        'b': [np.int32([7, -1]), {'c': jnp.ones((4,), jnp.bfloat16)}],
        'd': np.float64(0.5),
    }


def test_count_and_bytes_are_those_of_the_leaves():
    assert trees.count(tree()) == 6 + 2 + 4 + 1
    assert trees.nbytes(tree()) == 6 * 4 + 2 * 4 + 4 * 2 + 8
    assert trees.count({}) == trees.nbytes({}) == 0


def test_the_norm_is_that_of_all_leaves_laid_end_to_end():
    leaves = {'a': np.float32([[3, -4]]), 'b': [jnp.full((2,), 6, jnp.bfloat16)]}
    assert trees.norm(leaves) == pytest.approx(np.linalg.norm([3, -4, 6, 6]))
    assert trees.norm(leaves).dtype == jnp.float32
    assert trees.norm({}) == 0


def test_the_norm_of_half_precision_leaves_does_not_overflow():
    assert trees.norm({'a': np.full(4, 6e4, np.float16)}) == pytest.approx(2 * 6e4, rel=1e-3)


def test_stacked_trees_are_taken_apart_again():
    ones, twos = ({'a': np.full((2,), value, np.float32), 'b': np.int32(value)} for value in (1, 2))
    stacked = trees.stack([ones, twos])
    assert stacked['a'].shape == (2, 2)
    assert trees.fingerprint(trees.take(stacked, 1)) == trees.fingerprint(twos)
    assert trees.fingerprint(trees.add(ones, ones)) == trees.fingerprint(twos)


def test_a_detached_copy_does_not_change_with_its_original():
    original = {'a': np.zeros(3)}
    copy = trees.detached(original)
    original['a'][:] = 1
    assert not copy['a'].any()


def flipped(array, bit):
    raw = bytearray(array.tobytes())
    raw[bit // 8] ^= 1 << bit % 8
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


@given(st.integers(0, 6 * 32 - 1))
def test_a_fingerprint_notices_every_bit(bit):
    changed = tree() | {'a': flipped(tree()['a'], bit)}
    assert trees.fingerprint(changed) != trees.fingerprint(tree())


@pytest.mark.parametrize(
    'changed',
    [
        {'a': np.zeros((2, 2), np.int32)},
        {'a': np.zeros((4,), np.float32)},
        {'a': np.zeros((4, 1), np.float32)},
        {'b': np.zeros((2, 2), np.float32)},
        {'a': {'a': np.zeros((2, 2), np.float32)}},
        {'a': [np.zeros((2, 2), np.float32)]},
        {'a': np.zeros((1, 2), np.float32), 'b': np.zeros((1, 2), np.float32)},
        {'a': np.float32([[0, 0], [0, -0.0]])},
        {},
    ],
    ids=str,
)
def test_a_fingerprint_notices_dtype_shape_and_structure(changed):
    assert trees.fingerprint(changed) != trees.fingerprint({'a': np.zeros((2, 2), np.float32)})


def test_a_fingerprint_knows_the_values_not_where_they_lie():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    strided = np.asfortranarray(array)
    assert trees.fingerprint({'b': array, 'a': array}) == trees.fingerprint({'a': jnp.asarray(array), 'b': strided})


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def reordered(value):
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=50)
@given(values)
def test_a_digest_does_not_depend_on_the_order_of_keys(value):
    assert trees.digest(reordered(value)) == trees.digest(value)


@pytest.mark.parametrize(
    'changed', [{'a': [2, 1]}, {'a': [1, 2.0]}, {'b': [1, 2]}, {'a': [1, '2']}, {'a': [1, 2, None]}]
)
def test_a_digest_depends_on_keys_values_and_the_order_of_lists(changed):
    assert trees.digest(changed) != trees.digest({'a': [1, 2]})


def test_a_digest_takes_numpys_scalars_for_numbers_and_refuses_what_json_cannot_say():
    assert trees.digest({'a': np.float64(0.5), 'b': np.int32(3)}) == trees.digest({'a': 0.5, 'b': 3})
    with pytest.raises(TypeError, match='cannot hash ndarray'):
        trees.digest({'a': np.zeros(2)})
