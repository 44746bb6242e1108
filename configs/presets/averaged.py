"""Averaged losses (You et al., 2017): three teachers count alike, as AVER in the tables of CA-MKD.

Command:  python run.py --config=configs/presets/averaged.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.9 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': {'kind': 'averaged.AveragedLosses', 'members': 3, 'temperature': 4.0},
    },
    chain=({'hard': 1.0, 'soft': 1.0},),
    fit={'teacher': 'team'},
    assistants={'team': {'weights': {'hard': 1.0}, 'members': 3}},
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
