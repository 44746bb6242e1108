"""Streamlined distillation (Jeong et al., 2026): predictions and directions, as in the paper's equations.

Temperature and regularisation are those of the authors' code; both terms weigh 1.

Command:  python run.py --config=configs/presets/skd.py
Cost:     a few minutes on 2 CPU cores
Expected: 73.2 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'instance': {'kind': 'skd.StreamlinedInstance', 'temperature': 4.0},
        'direction': {'kind': 'skd.StreamlinedDirection', 'tikhonov': 0.1},
    },
    chain=({'hard': 1.0, 'instance': 1.0, 'direction': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
