"""Pearson distillation (Cao et al., 2022) of the last map beside the hard labels; weight 6, as mmrazor has it.

Command:  python run.py --config=configs/presets/pkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.0 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'pkd': {'kind': 'pkd.PearsonFeatures', 'layer': 'stage3'},
    },
    chain=({'hard': 1.0, 'pkd': 6.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
