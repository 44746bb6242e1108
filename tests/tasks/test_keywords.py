"""Keywords: a run from samples to the costs of a second of audio, and what is refused before."""

import numpy as np
import pytest

from kdjax.data import audio
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.errors import UsageError
from kdjax.tasks.keywords import Keywords
from kdjax.tasks.speech import COSTS


def spoken(count=12, classes=3):
    """Tones whose pitch is the class."""
    labels = np.arange(count, dtype=np.int32) % classes
    time = np.arange(800) / 8000
    tones = [(9000 * np.sin(2 * np.pi * 500 * (2 + label) * time)).astype(np.int16) for label in labels]
    split = Split(audio.clips(tones, 1000), labels)
    return Dataset(dict.fromkeys(SPLITS, split), tuple('abc'), {'rate': 8000})


def test_keywords_are_of_clips():
    Keywords().check(spoken())
    with pytest.raises(UsageError, match=r'Keywords needs inputs made by data\.audio\.clips'):
        Keywords().check(Dataset({'train': Split(np.zeros((4, 8), np.float32), np.zeros(4, int))}, ('a', 'b')))
    assert Keywords().cost_metrics == COSTS


def test_a_clip_is_shown_by_its_loudness():
    shown = Keywords().shown(spoken(), 1)['image']
    assert shown.shape == (100,)
    assert shown.max() == 1
    assert shown.min() >= 0
