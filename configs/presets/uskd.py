"""Universal self-distillation (Yang et al., 2023) with the weights of its ImageNet table; no teacher is read.

alpha = 1, beta = 0.1, mu = 0.005, beside the hard labels with weight 1.

Command:  python run.py --config=configs/presets/uskd.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.2 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'uskd': {'kind': 'uskd.SelfTargets', 'layer': 'penult', 'alpha': 1.0, 'beta': 0.1, 'mu': 0.005},
    },
    chain=({'hard': 1.0, 'uskd': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
