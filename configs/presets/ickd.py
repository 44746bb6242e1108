"""Inter-channel correlation (Liu et al., 2021) of the last map beside the hard labels, in the form of its code.

Command:  python run.py --config=configs/presets/ickd.py
Cost:     a few minutes on 2 CPU cores
Expected: 90.9 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'ickd': {'kind': 'ickd.ChannelCorrelation', 'layer': 'stage3', 'form': 'code'},
    },
    chain=({'hard': 1.0, 'ickd': 2.5},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
