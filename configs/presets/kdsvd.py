"""Singular value decomposition (Lee, Kim, Song, 2018), with the hard labels.

The teacher is wider than the student, so the form whose matrices do not depend on the number of channels.

Command:  python run.py --config=configs/presets/kdsvd.py
Cost:     a few minutes on 2 CPU cores
Expected: 90.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'kdsvd': {'kind': 'kdsvd.SingularVectors', 'layers': ('stem', 'stage1', 'stage2'), 'form': 'mdistiller'},
    },
    chain=({'hard': 1.0, 'kdsvd': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
