"""A million characters of Shakespeare's plays, each to be foreseen from those before: the file of char-rnn.

Source: Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015 (github.com/karpathy/char-rnn).
"""

import numpy as np

from kdjax.data import files, text
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError

TRAIN = 1_003_854  # characters; the last tenth is what others validate on, and is the test here


def characters(*, folder: str = '', window: int = 64, stride: int = 0, validation: int = 50_000) -> Dataset:
    """Windows of characters (N, window) int32, and as labels those that follow: 65 different ones, from id 2 on.

    Test are the 111,540 characters of the last tenth, on which nanoGPT and others measure; validation are the last of
    the others. Windows of these two do not overlap and end with padding, so every character but the first is foreseen
    once, from at most `window` before it.

    Facts are 'vocabulary', the number of ids, and 'words', what they mean.

    Args:
      folder: where input.txt is, or a folder that has it in 'tiny_shakespeare'; by default what KDJAX_DATA names.
      window: characters of an example.
      stride: characters from the beginning of one training window to that of the next; 0 for windows that do not
        overlap.
      validation: characters that are held out from training.

    Raises:
      UsageError: the file is missing or is another than the published one, or an argument is out of range.
    """
    if window < 1 or stride < 0 or not window < validation < TRAIN - window:
        raise UsageError(f'tiny_shakespeare needs a window >= 1, a stride >= 0 and a validation in {window + 1} to '
                         f'{TRAIN - window - 1} characters, got {window}, {stride} and {validation}')  # fmt: skip
    place = files.located('tiny_shakespeare', folder)
    written = files.content('tiny_shakespeare', 'input.txt', place).decode()
    letters = sorted(set(written))
    numbers = {letter: len(text.RESERVED) + place for place, letter in enumerate(letters)}
    ids = np.asarray([numbers[letter] for letter in written], np.int32)
    parts = np.split(ids, [TRAIN - validation, TRAIN])
    steps = stride or window, window, window
    splits = {
        split: _windows(part, window, step, whole=split == 'train')
        for split, part, step in zip(('train', 'validation', 'test'), parts, steps, strict=True)
    }
    words = (*text.RESERVED, *letters)
    return Dataset(splits, facts={'vocabulary': len(words), 'words': words}, padded=('inputs', 'labels'))


def _windows(ids: np.ndarray, window: int, stride: int, whole: bool) -> Split:
    """Windows of a text and what follows each of their characters; only whole ones, or all."""
    last = len(ids) - 1  # nothing follows the last character
    starts = np.arange(0, last - window + 1 if whole else last, stride)
    padded = np.pad(ids, (0, window))
    places = starts[:, None] + np.arange(window)
    lengths = np.minimum(window, last - starts).astype(np.int32)
    real = np.arange(window) < lengths[:, None]
    inputs, labels = (np.where(real, padded[places + shift], text.PADDING) for shift in (0, 1))
    return Split(inputs, labels, {'length': lengths})
