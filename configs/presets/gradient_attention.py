"""Gradient-based attention transfer (Zagoruyko, Komodakis, 2017, sec. 3.2), with the hard labels.

Command:  python run.py --config=configs/presets/gradient_attention.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.0 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'gradient': {'kind': 'gradient_attention.GradientAttention'}},
    chain=({'hard': 1.0, 'gradient': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
