"""Jacobian matching (Srinivas, Fleuret, 2018), with the hard labels and soft targets.

Command:  python run.py --config=configs/presets/jacobian.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'soft': preset.SOFT, 'jacobian': {'kind': 'jacobian.JacobianMatching', 'form': 'unit'}},
    chain=({'hard': 1.0, 'soft': 1.0, 'jacobian': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
