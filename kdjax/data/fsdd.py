"""Spoken digits: 3,000 recordings of 0 to 9 by six speakers, 8 kHz (the Free Spoken Digit Dataset).

Speakers differ sevenfold in loudness and in how long they speak, so what is learned of some says little of others:
recordings that are divided at random, as in most reports, have every speaker on both sides. Here they are divided by
speaker, or as the authors do.

Source: Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0).
"""

import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdjax.data import audio, files
from kdjax.dataset import GROUPS, SPLITS, Dataset, Split
from kdjax.errors import UsageError, unknown

RATE = 8000  # samples per second
CLASSES = tuple(map(str, range(10)))
SPEAKERS = ('george', 'jackson', 'lucas', 'nicolas', 'theo', 'yweweler')
DIVISIONS = ('speaker', 'official')
TEST, VALIDATION = range(5), range(5, 10)  # numbers of recordings of each digit and speaker; the first is the authors'


class Recordings(NamedTuple):
    """All recordings, in the order of digit, speaker and number."""

    samples: list[np.ndarray]  # (n,) int16 each
    digits: np.ndarray  # (3000,)
    speakers: np.ndarray  # (3000,) positions in SPEAKERS
    numbers: np.ndarray  # (3000,) of the recording, 0 to 49


def keywords(*, folder: str = '', division: str = 'speaker', fold: int = 0, seconds: float = 1.0) -> Dataset:
    """Recordings of one digit each, as `audio.clips` has them, with the digit as label and the speaker as group.

    Args:
      folder: where 'recordings' is, or a folder that has it in 'fsdd'; by default what KDJAX_DATA names.
      division: 'speaker': one speaker is the test split, the next is validation, four are training (500, 500 and 2,000
        recordings). 'official': of every digit and speaker recordings 0 to 4 are the test split (300), 5 to 9
        validation and the others training (2,400), which has every speaker.
      fold: the speaker of the test split, 0 to 5, by speaker alone.
      seconds: after which a recording is cut off; 20 are longer than 1.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    found = recordings(folder)
    inputs = audio.clips(found.samples, round(seconds * RATE))
    splits = {}
    for name, part in members(found, division, fold).items():
        rows = {column: values[part] for column, values in inputs.items()}
        splits[name] = Split(rows, found.digits[part], {GROUPS: found.speakers[part]})
    return Dataset(splits, CLASSES, {'rate': RATE})


FRAME, DOUBLED = 1024, 2 * RATE  # samples of a frame, and per second of those that networks of pitch read


def frames(
    *, folder: str = '', pitch: str = '', division: str = 'speaker', fold: int = 0, confidence: float = 0.5
) -> Dataset:
    """The loudest 64 ms of recordings, at 16 kHz, and their pitch, which somebody has to have heard: a file says it.

    'inputs' (N, 1024) float32, labels (N,) float32 in cents above 10 Hz, the speaker is the group.

    Args:
      folder, division, fold: as of `keywords`.
      pitch: an .npz with 'recordings' (n,), positions among all of them, and of each 'cents' and 'confidence' (n,),
        such as experiments/crepe_fsdd/ask.py writes.
      confidence: frames with less are left out.

    Raises:
      UsageError: a file is missing or is another than the published one, an argument is out of range, or a split is
        left without frames.
    """
    try:
        with np.load(pitch) as file:
            which, cents, sure = (np.asarray(file[name]) for name in ('recordings', 'cents', 'confidence'))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f'frames of fsdd need their pitch: data.args.pitch={pitch!r} is no .npz with recordings, '
                         f'cents and confidence ({str(error)[:60]})') from error  # fmt: skip
    found = recordings(folder)
    if which.ndim != 1 or not which.shape == cents.shape == sure.shape or not set(which) <= {*range(len(found.digits))}:
        raise UsageError(f'{pitch} must have a row for each of its recordings, of {len(found.digits)}')
    splits = {}
    for name, part in members(found, division, fold).items():
        rows = np.flatnonzero(np.isin(which, part) & (sure >= confidence))
        if not len(rows):
            raise UsageError(f'split {name!r} of fsdd has no frame with confidence >= {confidence} in {pitch}')
        sounds = np.stack([loudest(found.samples[place]) for place in which[rows]])
        splits[name] = Split(sounds, cents[rows].astype(np.float32), {GROUPS: found.speakers[which[rows]]})
    return Dataset(splits, (), {'rate': DOUBLED})


def loudest(samples: np.ndarray) -> np.ndarray:
    """Of a recording at twice its rate the 1,024 samples with most energy, (1024,) in [-1, 1]; zeros behind its end."""
    spectrum = np.fft.rfft(samples)
    doubled = 2 * np.fft.irfft(spectrum, 2 * len(samples))
    doubled = np.pad(doubled, (0, max(0, FRAME - len(doubled))))
    energy = np.cumsum(np.square(np.pad(doubled, (1, 0))))
    start = int(np.argmax(energy[FRAME:] - energy[:-FRAME]))
    return (doubled[start : start + FRAME] / 2**15).astype(np.float32)


WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SHORTEST, LONGEST, GAP = 3, 5, 640  # digits of a string; the longest silence between two of them, samples


def strings(
    *,
    folder: str = '',
    division: str = 'speaker',
    fold: int = 0,
    sizes: tuple[int, int, int] = (2000, 300, 500),
    seconds: float = 2.4,
) -> Dataset:
    """Strings of 3 to 5 digits, each of recordings of one speaker with up to 80 ms of silence between them.

    Labels (N, 5) are digits, 0 behind the end, with 'label_length' (N,); the speaker is the group. A string is a
    function of its split and its number, and of recordings of its own split alone. What does not fit into `seconds`
    is left off, whole digits, so few strings have fewer than 3.

    Args:
      folder, division, fold: as of `keywords`.
      sizes: strings of training, validation and test.
      seconds: length of the clips.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    if min(sizes) < 1 or seconds < 2.3:
        raise UsageError(f'strings of fsdd need sizes >= 1 and seconds >= 2.3, got {sizes} and {seconds:g}')
    found = recordings(folder)
    splits = {}
    for place, (name, part) in enumerate(members(found, division, fold).items()):
        rows = [_string(found, part, (place, number), round(seconds * RATE)) for number in range(sizes[place])]
        labels = np.zeros((len(rows), LONGEST), np.int32)
        for line, (_, digits, _) in zip(labels, rows, strict=True):
            line[: len(digits)] = digits
        more = {
            'label_length': np.asarray([len(digits) for _, digits, _ in rows], np.int32),
            GROUPS: np.asarray([speaker for _, _, speaker in rows], np.int32),
        }
        splits[name] = Split(audio.clips([sound for sound, _, _ in rows], round(seconds * RATE)), labels, more)
    return Dataset(splits, WORDS, {'rate': RATE})


def _string(
    found: Recordings, part: np.ndarray, seed: tuple[int, int], longest: int
) -> tuple[np.ndarray, list[int], int]:
    """Samples, digits and speaker of a string made of recordings of a split."""
    random = np.random.default_rng(seed)
    speaker = found.speakers[random.choice(part)]
    chosen = random.choice(part[found.speakers[part] == speaker], random.integers(SHORTEST, LONGEST + 1))
    sounds: list[np.ndarray] = []
    digits: list[int] = []
    total = 0
    for each in chosen:
        gap = int(random.integers(0, GAP + 1)) if sounds else 0
        if total + gap + len(found.samples[each]) > longest:
            break
        sounds += [np.zeros(gap, np.int16), found.samples[each]]
        digits.append(int(found.digits[each]))
        total += gap + len(found.samples[each])
    return np.concatenate(sounds), digits, int(speaker)


STRETCHES, LONG, PAUSE = 20, 64_000, 8_000  # of every speaker; samples of one; the longest silence in it, samples
MOMENT, BEFORE, EVERY = 256, 9, 3  # samples that are judged at once; so many are heard before; of so many one is taken
ACTIVITY = ('silence', 'speech')


def moments(*, folder: str = '', speech: str = '', fold: int = 0) -> Dataset:
    """Moments of 32 ms, and the 288 before them, of speech and silence in noise: does somebody speak? A file says it.

    Of every speaker there are 20 `stretch`es. 'inputs' are `audio.clips` of 2,560 samples, labels (N,) 0 for silence
    and 1 for speech, the speaker is the group.

    Args:
      folder, fold: as of `keywords`; divisions are by speaker.
      speech: an .npz with 'probability' (6, 20, 250), of every moment of every stretch that somebody speaks, such as
        experiments/silero_fsdd/ask.py writes.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    try:
        with np.load(speech) as file:
            said = np.asarray(file['probability'])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f'moments of fsdd need somebody who says which are speech: data.args.speech={speech!r} is no '
                         f'.npz with probability ({str(error)[:60]})') from error  # fmt: skip
    if said.shape != (wanted := (len(SPEAKERS), STRETCHES, LONG // MOMENT)) or not np.all((said >= 0) & (said <= 1)):
        raise UsageError(f'probability in {speech} must be {wanted}, of 0 to 1, got {said.shape}')
    found, splits = recordings(folder), {}
    for name, part in members(found, 'speaker', fold).items():
        speakers = np.unique(found.speakers[part])
        heard = [stretch(found, speaker, number).audio for speaker in speakers for number in range(STRETCHES)]
        pieces = np.lib.stride_tricks.sliding_window_view(np.stack(heard), (BEFORE + 1) * MOMENT, axis=1)
        rows = pieces[:, :: EVERY * MOMENT].reshape(-1, pieces.shape[2])
        spoken = taken(said, speakers)
        splits[name] = Split(audio.clips(list(rows), rows.shape[1]), (spoken >= 0.5).astype(np.int32),
                             {GROUPS: np.repeat(speakers, len(spoken) // len(speakers))})  # fmt: skip
    return Dataset(splits, ACTIVITY, {'rate': RATE})


def taken(said: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Of what is said of all moments (6, 20, 250) that of the examples of a split, (N,), in their order."""
    return said[speakers][:, :, BEFORE::EVERY].reshape(-1)


class Stretch(NamedTuple):
    """Eight seconds of one speaker."""

    audio: np.ndarray  # (64000,) int16
    spoken: np.ndarray  # (64000,) bool: a recording lies there, its own silence included


def stretch(found: Recordings, speaker: int, number: int) -> Stretch:
    """Recordings of a speaker, up to a second of silence before each, in white noise 10 to 30 dB below them; a function
    of speaker and number alone."""
    random = np.random.default_rng((2, speaker, number))
    own = np.flatnonzero(found.speakers == speaker)
    sounds, spoken = np.zeros(LONG), np.zeros(LONG, bool)
    place = int(random.integers(PAUSE))
    while place < LONG:
        sound = found.samples[random.choice(own)][: LONG - place]
        sounds[place : place + len(sound)], spoken[place : place + len(sound)] = sound, True
        place += len(sound) + int(random.integers(PAUSE + 1))
    noise = np.sqrt(np.mean(np.square(sounds[spoken]))) * 10 ** (-random.uniform(10, 30) / 20)
    noisy = np.round(sounds + noise * random.standard_normal(LONG))
    return Stretch(np.clip(noisy, -(2**15), 2**15 - 1).astype(np.int16), spoken)


def members(found: Recordings, division: str, fold: int) -> dict[str, np.ndarray]:
    """The recordings of every split, by position.

    Raises:
      UsageError: an unknown division, or a fold that is no speaker.
    """
    if division not in DIVISIONS:
        raise unknown('division', division, DIVISIONS, ' of fsdd')
    if not 0 <= fold < len(SPEAKERS):
        raise UsageError(f'fold of fsdd must be in 0 to {len(SPEAKERS) - 1}, got {fold}')
    if division == 'official':
        if fold:
            raise UsageError(f'the official division of fsdd has no folds, got {fold}')
        test, validation = np.isin(found.numbers, TEST), np.isin(found.numbers, VALIDATION)
    else:
        test, validation = found.speakers == fold, found.speakers == (fold + 1) % len(SPEAKERS)
    parts = (~test & ~validation, validation, test)
    return {name: np.flatnonzero(part) for name, part in zip(SPLITS, parts, strict=True)}


def recordings(folder: str) -> Recordings:
    """All recordings.

    Raises:
      UsageError: one is missing or is another than the published one.
    """
    place = files.checked('fsdd', 'recordings', files.located('fsdd', folder))
    named = sorted(place.glob('*.wav'), key=lambda path: (*path.stem.split('_')[:2], int(path.stem.split('_')[2])))
    parts = [path.stem.split('_') for path in named]
    return Recordings(
        [_samples(path) for path in named],
        np.asarray([int(digit) for digit, _, _ in parts], np.int32),
        np.asarray([SPEAKERS.index(speaker) for _, speaker, _ in parts], np.int32),
        np.asarray([int(number) for _, _, number in parts], np.int32),
    )


def _samples(path: Path) -> np.ndarray:
    """Of a file of 16 bits and one channel."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (RATE, 2, 1):
            raise UsageError(f'{path} is not of {RATE} Hz, 16 bits and one channel')
        return np.frombuffer(file.readframes(file.getnframes()), '<i2').astype(np.int16)
