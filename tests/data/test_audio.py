"""Audio: log-mel against formulas in float64, what is real of a clip, views as functions of seed, id, number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import audio, augment_audio, fsdd
from kdjax.data.augment import chain, views
from kdjax.errors import UsageError

RANDOM = np.random.default_rng(0)
LENGTHS, LONGEST = (700, 1000, 90, 1400), 1000
RECORDINGS = [(3000 * RANDOM.normal(size=length)).astype(np.int16) for length in LENGTHS]
CLIPS = audio.clips(RECORDINGS, LONGEST)
VIEWS = jax.jit(views, static_argnums=(0, 1))
AUGMENT = chain((
    augment_audio.shift(samples=200), augment_audio.noise(level=0.5),
    augment_audio.spec_augment(times=2, time=300, bands=1, band=4, mels=16),
))  # fmt: skip


def mels_of(hertz, scale):
    if scale == 'htk':
        return 2595 * np.log10(1 + hertz / 700)
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def hertz_of(mels, scale):
    if scale == 'htk':
        return 700 * (10 ** (mels / 2595) - 1)
    return 200 * mels / 3 if mels < 15 else 1000 * 6.4 ** ((mels - 15) / 27)


def filters_by_hand(rate, fft, mels, low, high, scale):
    """Triangle by triangle and frequency by frequency."""
    bottom, top = mels_of(low, scale), mels_of(high, scale)
    corners = [hertz_of(bottom + (top - bottom) * k / (mels + 1), scale) for k in range(mels + 2)]
    bank = np.zeros((mels, fft // 2 + 1))
    for band, (left, middle, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for place in range(fft // 2 + 1):
            hertz = place * rate / fft
            if left < hertz <= middle:
                bank[band, place] = (hertz - left) / (middle - left)
            elif middle < hertz < right:
                bank[band, place] = (right - hertz) / (right - middle)
        bank[band] *= 2 / (right - left) if scale == 'slaney' else 1
    return bank


def log_mel_by_hand(samples, bank, window, hop, fft, floor):
    """A discrete Fourier transform frame by frame, in float64."""
    rows = []
    basis = np.exp(-2j * np.pi * np.outer(np.arange(fft // 2 + 1), np.arange(window)) / fft)
    for start in range(0, len(samples) - window + 1, hop):
        piece = samples[start : start + window] / 32768 * np.sin(np.pi * np.arange(window) / window) ** 2
        rows.append(np.log(bank @ np.abs(basis @ piece) ** 2 + floor))
    return np.array(rows)


@pytest.mark.parametrize('scale', ['slaney', 'htk'])
def test_filters_are_triangles_on_their_scale(scale):
    for arguments in ({'rate': 8000, 'fft': 256, 'mels': 40, 'low': 20.0, 'high': 4000.0},
                      {'rate': 16000, 'fft': 512, 'mels': 64, 'low': 0.0, 'high': 8000.0}):  # fmt: skip
        if scale == 'htk' and arguments['mels'] == 40:
            arguments['mels'] = 24
        bank = audio.filters(**arguments, scale=scale)
        np.testing.assert_allclose(bank, filters_by_hand(**arguments, scale=scale), rtol=1e-9, atol=1e-12)
        if scale == 'slaney':  # areas are those of librosa: 1 up to where a triangle meets few frequencies
            area = bank.sum(axis=1) * arguments['rate'] / arguments['fft']
            assert np.all(np.abs(area - 1) < 0.35)


# Hops in a window: two and a half, two whole ones, one, less than one.
@pytest.mark.parametrize(
    ('scale', 'window', 'hop'),
    [('slaney', 200, 80), ('htk', 200, 80), ('slaney', 200, 100), ('slaney', 200, 200), ('slaney', 60, 90)],
)
def test_log_mel_is_that_of_the_formulas(scale, window, hop):
    numbers = {'rate': 8000, 'fft': 256, 'mels': 16, 'low': 20.0, 'high': 4000.0}
    bank = filters_by_hand(**numbers, scale=scale)
    made = jax.jit(audio.log_mel(**numbers, window=window, hop=hop, scale=scale))(CLIPS)
    frames = 1 + (LONGEST - window) // hop
    assert made['frames'].shape == (4, frames, 16)
    np.testing.assert_allclose(made['hop_ms'], hop / 8)
    for place, samples in enumerate(CLIPS['audio'].astype(np.float64)):
        count = max(1, 1 + (min(LENGTHS[place], LONGEST) - window) // hop)
        np.testing.assert_array_equal(made['mask'][place], np.arange(frames) < count)
        wanted = log_mel_by_hand(samples, bank, window, hop, 256, 1e-6)[:count]
        np.testing.assert_allclose(made['frames'][place, :count], wanted - wanted.mean(axis=0), atol=3e-6)
        assert not made['frames'][place, count:].any()


def test_loudness_and_more_padding_change_nothing():
    louder = {**CLIPS, 'audio': CLIPS['audio'] * 2}
    longer = audio.clips([recording[:LONGEST] for recording in RECORDINGS], LONGEST + 400)
    make = jax.jit(audio.log_mel(mels=16, floor=1e-12, centre='mean_std'))
    first, second, third = make(CLIPS), make(louder), make(longer)
    np.testing.assert_allclose(first['frames'], second['frames'], atol=1e-4)
    np.testing.assert_allclose(first['frames'], third['frames'][:, :11], atol=1e-5)
    assert not third['mask'][:, 11:].any()
    real = first['mask'][0] > 0
    np.testing.assert_allclose(first['frames'][0, real].std(axis=0), 1, atol=1e-3)


def test_views_are_functions_of_seed_example_and_number():
    ids, columns = jnp.asarray([0, 1, 2, 3, 1, 1]), {'inputs': jax.tree.map(lambda x: x[[0, 1, 2, 3, 1, 1]], CLIPS)}
    seen = jax.device_get(VIEWS(AUGMENT, 0, columns, ids, jnp.asarray([0, 1, 1, 1, 1, 2]))['inputs'])
    for name, column in CLIPS.items():
        assert seen[name].dtype == column.dtype
        np.testing.assert_array_equal(seen[name][0], column[0])
        np.testing.assert_array_equal(seen[name][1], seen[name][4])
    assert np.any(seen['audio'][4] != seen['audio'][5])
    for row, count in zip(seen['audio'], seen['samples'], strict=True):
        assert not row[count:].any()
    start, width = np.moveaxis(np.asarray(seen['hidden'][1:]), -1, 0)
    assert np.all(start + width <= np.stack([seen['samples'][1:], np.full(5, 16)], axis=1)[..., None])
    assert np.all(width[:, 0] <= np.minimum(300, 0.3 * seen['samples'][1:, None]))
    assert not width[:, 1, 1].any()
    assert width.any()


def test_what_is_hidden_is_the_mean_and_counts_as_real():
    hidden = CLIPS['hidden'].copy()
    hidden[1, 0, 0], hidden[1, 1, 1] = (160, 200), (3, 2)
    make = jax.jit(audio.log_mel(mels=16))
    plain, shown = make(CLIPS), make({**CLIPS, 'hidden': hidden})
    wanted = np.array(plain['frames'])
    wanted[1, 2:5] = 0  # those that begin at 160, 240 and 320
    wanted[1, :, 3:5] = 0
    np.testing.assert_array_equal(shown['frames'], wanted)
    np.testing.assert_array_equal(shown['mask'], plain['mask'])


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: audio.log_mel(scale='mel'), "unknown scale 'mel'"),
        (lambda: audio.log_mel(centre='max'), "unknown centre 'max'"),
        (lambda: audio.log_mel(high=5000.0), 'high <= 4000 Hz'),
        (lambda: audio.log_mel(mels=300), 'mel filters have no frequency: a larger fft than 256'),
        (lambda: audio.log_mel(window=300), '1 <= window <= fft'),
        (lambda: audio.clips([np.zeros(3)], 8), 'recording 0 must be samples'),
        (lambda: augment_audio.shift(samples=0), 'samples of shift'),
        (lambda: augment_audio.noise(level=0.0), 'level of noise'),
        (lambda: augment_audio.spec_augment(times=3), 'times and bands of spec_augment'),
        (lambda: augment_audio.shift().apply(jax.random.key(0), {'inputs': np.zeros(3)}), 'inputs made by audio.clips'),
        (lambda: fsdd.members(fsdd.Recordings([], *[np.zeros(1)] * 3), 'random', 0), "unknown division 'random'"),
        (lambda: fsdd.members(fsdd.Recordings([], *[np.zeros(1)] * 3), 'speaker', 6), 'fold of fsdd must be in 0 to 5'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_spoken_digits_are_divided_by_speaker_and_as_their_authors_do(restored):
    folder = str(restored('fsdd'))
    data = fsdd.keywords(folder=folder, fold=4)
    assert {name: split.size for name, split in data.splits.items()} == {'train': 2000, 'validation': 500, 'test': 500}
    speakers = {name: {*split.more['groups'].tolist()} for name, split in data.splits.items()}
    assert speakers == {'test': {4}, 'validation': {5}, 'train': {0, 1, 2, 3}}
    assert all(np.bincount(split.labels, minlength=10).std() == 0 for split in data.splits.values())
    found = fsdd.recordings(folder)
    lengths = np.asarray([len(samples) for samples in found.samples])
    assert (lengths > 8000).sum() == 20
    assert round(lengths.sum() / 8000) == 1312
    official = {name: len(part) for name, part in fsdd.members(found, 'official', 0).items()}
    assert official == {'train': 2400, 'validation': 300, 'test': 300}
