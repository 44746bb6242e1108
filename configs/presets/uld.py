"""ULD (Boizard et al., 2025) with the weight of the paper, 1.5, beside the hard labels.

The classes are the same on both sides here, which the technique does not know.

Command:  python run.py --config=configs/presets/uld.py
Cost:     a few minutes on 2 CPU cores
Expected: 88.7 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'uld': {'kind': 'uld.UniversalLogits'}},
    chain=({'hard': 1.0, 'uld': 1.5},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
