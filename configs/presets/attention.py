"""Attention transfer (Zagoruyko and Komodakis, 2017) with the weight of the authors' code, half of beta = 1000.

Command:  python run.py --config=configs/presets/attention.py
Cost:     a minute or two on 2 CPU cores
Expected: 56.0 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'attention': {'kind': 'attention.AttentionTransfer', 'layers': ('stage1', 'stage2', 'stage3')},
    },
    chain=({'hard': 1.0, 'attention': 1000.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
