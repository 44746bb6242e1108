"""Word-level distillation (Kim and Rush, 2016): soft labels and hard ones in equal parts, T = 1.

An image is a sequence of one token here.

Command:  python run.py --config=configs/presets/word_level.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'word': {'kind': 'word_level.WordLevel'}},
    chain=({'hard': 0.5, 'word': 0.5},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
