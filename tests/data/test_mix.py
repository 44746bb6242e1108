"""Mixing: by the equations of the papers, a function of the step, alike for all cells and for the teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kdjax.data.mix import blended, cutmix, mixup
from kdjax.errors import UsageError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(6, 9, 7, 2)).astype(np.float32)
LABELS = np.arange(6, dtype=np.int32) * 3
STEPS = 200


@functools.cache
def draws(mix):
    """Many draws on one batch."""
    keys = jax.random.split(jax.random.key(1), STEPS)
    return [np.asarray(leaf) for leaf in jax.jit(jax.vmap(mix, (0, None)))(keys, IMAGES)]


MIXUP, CUTMIX = mixup(alpha=0.4), cutmix(alpha=1.0)


def test_mixup_is_the_weighted_mean_with_another_example():
    inputs, partners, shares = draws(MIXUP)
    for mixed, partner, share in zip(inputs, partners, shares, strict=True):
        assert sorted(partner) == list(range(6))
        np.testing.assert_allclose(mixed, share * IMAGES + (1 - share) * IMAGES[partner], atol=1e-5)
    assert stats.kstest(shares, stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    assert len({tuple(partner) for partner in partners}) > STEPS / 2


def test_cutmix_fills_one_box_and_its_share_is_what_stays():
    inputs, partners, shares = draws(CUTMIX)
    for mixed, partner, share in zip(inputs, partners, shares, strict=True):
        moved = partner != np.arange(6)
        if not moved.any():
            continue
        filled = (mixed != IMAGES)[moved].all(axis=(0, 3))
        rows, columns = filled.any(axis=1), filled.any(axis=0)
        np.testing.assert_array_equal(filled, rows[:, None] & columns)
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2
        np.testing.assert_array_equal(mixed, np.where(filled[..., None], IMAGES[partner], IMAGES))
        assert share == pytest.approx(1 - filled.mean(), abs=1e-6)
    assert len(np.unique(shares)) > 20


def test_the_boxes_of_cutmix_are_those_of_the_paper():
    """Side sqrt(1 - share) before the border cuts it off: on average the loss follows from a uniform centre."""
    size, count = 100, 400
    keys = jax.random.split(jax.random.key(2), count)
    image = jnp.zeros((2, size, size), jnp.float32)
    found = np.asarray(jax.jit(jax.vmap(lambda key: CUTMIX(key, image).share))(keys))
    random = np.random.default_rng(5)
    cut = size * np.sqrt(1 - random.beta(1, 1, 20000))
    sides = [np.minimum(centre + cut / 2, size) - np.maximum(centre - cut / 2, 0)
             for centre in random.uniform(0, size, (2, 20000))]  # fmt: skip
    wanted = 1 - sides[0] * sides[1] / size**2
    assert abs(found.mean() - wanted.mean()) < 4 * wanted.std() / np.sqrt(count) + 0.01  # whole pixels
    assert stats.ks_2samp(found, wanted).pvalue > 0.01


def batch(cells=None, **more):
    lead = (3,) if cells is None else (3, cells)
    leaves = {'inputs': IMAGES, 'labels': LABELS, 'id': LABELS, **more}
    return {name: np.broadcast_to(leaf, (*lead, *leaf.shape)) for name, leaf in leaves.items()}


STEP = np.arange(7, 10)


@pytest.mark.parametrize('mix', [MIXUP, CUTMIX], ids=['mixup', 'cutmix'])
def test_a_mixed_batch_has_both_labels_and_their_shares(mix):
    found = jax.jit(lambda steps: blended(mix, 0, batch(), steps))(STEP)
    assert 'labels' not in found
    both, shares = np.asarray(found['labels_mixed']), np.asarray(found['mix'])
    assert both.shape == shares.shape == (3, 6, 2)
    np.testing.assert_array_equal(both[..., 0], np.broadcast_to(LABELS, (3, 6)))
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found['id'], batch()['id'])
    partner = both[..., 1] // 3
    for step in range(3):
        assert sorted(partner[step]) == list(range(6))
        if mix is MIXUP:
            share = shares[step, :, :1, None, None]
            wanted = share * IMAGES + (1 - share) * IMAGES[partner[step]]
            np.testing.assert_allclose(found['inputs'][step], wanted, atol=1e-5)
    assert len({tuple(row) for row in partner}) > 1


def test_a_step_is_mixed_alike_whatever_steps_it_comes_with_and_in_every_cell():
    run = jax.jit(lambda b, steps, seed=0: blended(MIXUP, seed, b, steps))
    whole = run(batch(), STEP)
    part = run({name: leaf[1:2] for name, leaf in batch().items()}, STEP[1:2])
    cells = run(batch(cells=2), STEP)
    for name, leaf in whole.items():
        np.testing.assert_array_equal(part[name][0], leaf[1])
        for cell in range(2):
            np.testing.assert_allclose(cells[name][:, cell], leaf, atol=1e-6)
    other = run(batch(), STEP, 1)
    assert not np.array_equal(other['labels_mixed'], whole['labels_mixed'])


def test_the_teachers_own_inputs_are_mixed_as_the_students():
    own = IMAGES + 1
    found = jax.jit(lambda b: blended(MIXUP, 0, b, STEP))(batch(teacher_inputs=own))
    np.testing.assert_allclose(found['teacher_inputs'], found['inputs'] + 1, atol=1e-5)


@pytest.mark.parametrize('mix', [mixup, cutmix])
def test_alpha_must_be_positive(mix):
    with pytest.raises(UsageError, match=f'alpha of {mix.__name__} must be > 0, got 0'):
        mix(alpha=0)


def test_tokens_cannot_be_mixed():
    with pytest.raises(UsageError, match=r'inputs of int32 cannot be mixed; data\.preprocess must make floats'):
        blended(MIXUP, 0, {name: leaf.astype(np.int32) for name, leaf in batch().items()}, STEP)
