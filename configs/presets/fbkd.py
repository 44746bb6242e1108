"""Attention-guided distillation (Zhang, Ma, 2021) beside the hard labels; the four weights are its code's.

Command:  python run.py --config=configs/presets/fbkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'fbkd': {'kind': 'fbkd.AttentionGuided', 'layer': 'stage2'},
    },
    chain=({'hard': 1.0, 'fbkd': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
