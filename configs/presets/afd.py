"""Attentive feature distillation (Wang et al., 2020) beside the hard labels, weight 500 as in KD-Zoo.

Command:  python run.py --config=configs/presets/afd.py
Cost:     a few minutes on 2 CPU cores
Expected: 62.3 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'afd': {'kind': 'afd.AttentiveFeatures', 'layer': 'stage3'},
    },
    chain=({'hard': 1.0, 'afd': 500.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
