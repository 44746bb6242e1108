"""Normalised distillation (Yang et al., 2023) with the weights of its ImageNet table.

gamma = 1.5 at temperature 1, beside the hard labels with weight 1.

Command:  python run.py --config=configs/presets/nkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'nkd': {'kind': 'nkd.NormalizedTargets', 'gamma': 1.5, 'temperature': 1.0},
    },
    chain=({'hard': 1.0, 'nkd': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
