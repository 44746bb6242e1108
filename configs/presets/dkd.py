"""Decoupled distillation (Zhao et al., 2022) with the weights of its CIFAR-100 tables.

For ResNet pairs of one kind: T = 4, alpha = 1, beta = 8; both weights are warmed up over the first 20 of 240 epochs.

Command:  python run.py --config=configs/presets/dkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

DKD = {
    'kind': 'dkd.DecoupledTargets',
    'alpha': 1.0,
    'beta': 8.0,
    'temperature': 4.0,
    'schedules': (('weight', 0.0, 1.0, 100),),
}
PRESET = preset.Preset(terms={'hard': preset.HARD, 'dkd': DKD}, chain=({'hard': 1.0, 'dkd': 1.0},))


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
