"""Augmentations of sentences draw what they say, and padding stays on the right."""

import functools

import jax
import numpy as np
import pytest

from kdjax.data.augment import chain, views
from kdjax.data.augment_text import mask, ngram
from kdjax.errors import UsageError

IDS = np.array([7, 3, 9, 3, 8, 6, 0, 0, 0], np.int32)
DRAWS = 2000


def draws(augment, ids=IDS):
    keys = jax.random.split(jax.random.key(0), DRAWS)
    found = np.asarray(jax.jit(jax.vmap(augment, (0, None)))(keys, ids))
    assert (found.shape, found.dtype) == ((DRAWS, *ids.shape), ids.dtype)
    return found


def near(share, wanted):
    """Within four standard deviations."""
    return abs(share - wanted) <= 4 * (wanted * (1 - wanted) / DRAWS) ** 0.5


@pytest.mark.parametrize(('probability', 'token'), [(0.1, 1), (0.5, 4)])
def test_every_word_is_masked_with_the_probability_and_padding_never(probability, token):
    found = draws(mask(probability=probability, token=token))
    hidden = found != IDS
    assert (found[hidden] == token).all()
    assert not hidden[:, 6:].any()
    assert all(near(share, probability) for share in hidden[:, :6].mean(axis=0))
    both = (hidden[:, 0] & hidden[:, 1]).mean()
    assert near(both, probability**2)


def test_an_ngram_is_every_piece_of_the_sentence_up_to_its_size():
    found = draws(ngram(probability=1.0, longest=3))
    pieces = {tuple(IDS[start : start + n]) for n in (1, 2, 3) for start in range(7 - n)}
    rows = [tuple(row[row > 0]) for row in found]
    assert set(rows) == pieces
    assert all(tuple(row[: len(piece)]) == piece and not row[len(piece) :].any()
               for row, piece in zip(found, rows, strict=True))  # fmt: skip
    sizes = np.bincount([len(row) for row in rows], minlength=4) / DRAWS
    assert all(near(share, 1 / 3) for share in sizes[1:])


def test_a_sentence_stays_whole_unless_it_is_its_turn():
    whole = (draws(ngram(probability=0.25, longest=5)) == IDS).all(axis=1)
    assert near(whole.mean(), 0.75)
    np.testing.assert_array_equal(draws(ngram(probability=0.0)), np.tile(IDS, (DRAWS, 1)))


@pytest.mark.parametrize('length', [0, 1, 2, 9])
def test_sentences_of_any_length_stay_what_they_can_be(length):
    ids = np.where(np.arange(9) < length, np.arange(2, 11), 0).astype(np.int32)
    found = draws(ngram(probability=1.0, longest=5), ids)
    sizes = (found > 0).sum(axis=1)
    assert (sizes.min(), sizes.max()) == (min(1, length), min(5, length))


def test_chained_they_are_views_of_an_example_that_do_not_depend_on_the_batch():
    look = jax.jit(functools.partial(views, chain([mask(probability=0.3), ngram(probability=0.5)]), 0))
    inputs, ids, view, labels = np.tile(IDS, (40, 1)), np.arange(40), np.arange(40) % 20, np.arange(40)
    found = look({'inputs': inputs, 'labels': labels}, ids, view)
    sentences = np.asarray(found['inputs'])
    np.testing.assert_array_equal(found['labels'], labels)
    np.testing.assert_array_equal(sentences[view == 0], inputs[:2])
    turned = look({'inputs': inputs[::-1], 'labels': labels[::-1]}, ids[::-1], view[::-1])
    np.testing.assert_array_equal(turned['inputs'], sentences[::-1])
    assert sentences.dtype == np.int32
    assert len({row.tobytes() for row in sentences}) > 20


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: mask(probability=1.5), r'probability of mask must be in \[0, 1\], got 1.5'),
        (lambda: mask(token=0), 'token of mask must be >= 1, since 0 is padding, got 0'),
        (lambda: ngram(probability=-0.1), r'probability of ngram must be in \[0, 1\], got -0.1'),
        (lambda: ngram(longest=0), 'longest of ngram must be >= 1, got 0'),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
