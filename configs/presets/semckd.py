"""Semantic calibration (Chen et al., 2021) beside hard labels and soft targets, weight 400.

Command:  python run.py --config=configs/presets/semckd.py
Cost:     a few minutes on 2 CPU cores
Expected: 80.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': preset.SOFT,
        'semckd': {
            'kind': 'semckd.SemanticCalibration',
            'students': ('stage1', 'stage2', 'stage3'),
            'teachers': ('stage1', 'stage2', 'stage3'),
            'middle': 16,
        },
    },
    chain=({'hard': 1.0, 'soft': 1.0, 'semckd': 400.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
