"""Relational distillation (Park et al., 2019): the paper's weights beside hard labels, distance 25 and angle 50.

Command:  python run.py --config=configs/presets/rkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.3 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'distance': {'kind': 'rkd.DistanceRelations', 'layer': 'penult'},
        'angle': {'kind': 'rkd.AngleRelations', 'layer': 'penult'},
    },
    chain=({'hard': 1.0, 'distance': 25.0, 'angle': 50.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
