"""Augmentations draw what they say, from all that they say, and leave shape and dtype alone."""

import functools
import itertools

import jax
import numpy as np
import pytest

from kdjax.data.augment import chain, crop, flip, identity
from kdjax.errors import UsageError

IMAGE = np.random.default_rng(0).integers(1, 256, (5, 4, 3), np.uint8)


@functools.cache
def draws(augment, plain=False, count=256):
    keys = jax.random.split(jax.random.key(3), count)
    image = IMAGE[..., 0] if plain else IMAGE
    found = np.asarray(jax.jit(jax.vmap(augment, (0, None)))(keys, image))
    assert (found.shape, found.dtype) == ((count, *image.shape), image.dtype)
    return found


def distinct(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize(('border', 'mode'), [('zero', 'constant'), ('reflect', 'reflect')])
@pytest.mark.parametrize('plain', [True, False])
def test_a_crop_is_every_window_of_the_padded_image(border, mode, plain):
    image = IMAGE[..., 0] if plain else IMAGE
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)][: image.ndim], mode=mode)
    windows = [padded[down : down + 5, right : right + 4] for down, right in itertools.product(range(5), repeat=2)]
    assert distinct(draws(crop(padding=2, border=border), plain)) == distinct(windows)


@pytest.mark.parametrize('plain', [True, False])
def test_a_flip_mirrors_left_to_right_half_of_the_time(plain):
    image = IMAGE[..., 0] if plain else IMAGE
    found = draws(flip(), plain)
    mirrored = (found == np.flip(image, axis=1)).reshape(256, -1).all(axis=1)
    assert distinct(found) == distinct([image, np.flip(image, axis=1)])
    assert abs(mirrored.sum() - 128) <= 4 * 8  # four standard deviations


def test_a_chain_does_one_after_the_other_with_draws_of_their_own():
    padded = np.pad(IMAGE, [(1, 1), (1, 1), (0, 0)])
    windows = [padded[down : down + 5, right : right + 4] for down, right in itertools.product(range(3), repeat=2)]
    wanted = [*windows, *(np.flip(window, axis=1) for window in windows)]
    assert distinct(draws(chain([crop(padding=1), flip()]))) == distinct(wanted)
    # Two flips with one key would always cancel out.
    assert len(distinct(draws(chain([flip(), flip()])))) == 2
    np.testing.assert_array_equal(draws(chain([])), draws(identity()))


def test_the_order_of_a_chain_matters():
    def double(key, image):
        return image // 2 * 2

    def more(key, image):
        return image // 3

    np.testing.assert_array_equal(draws(chain([double, more]))[0], IMAGE // 2 * 2 // 3)
    np.testing.assert_array_equal(draws(chain([more, double]))[0], IMAGE // 3 // 2 * 2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'padding': 0}, 'padding of crop must be >= 1, got 0'),
        ({'border': 'reflekt'}, "unknown border 'reflekt' of crop; there is: 'reflect', 'zero'"),
    ],
)
def test_a_crop_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        crop(**arguments)
