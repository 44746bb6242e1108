"""Contrastive representation distillation (Tian et al., 2020) with the weights of its CIFAR-100 tables, 1 and 0.8.

Of the paper's 16384 negatives per example 256 are drawn here: the job has 1000 training examples, not 50000.

Command:  python run.py --config=configs/presets/crd.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.9 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'crd': {
            'kind': 'crd.ContrastiveRepresentation',
            'layer': 'penult',
            'examples': 1000,
            'negatives': 256,
            'width': 128,
            'temperature': 0.07,
            'momentum': 0.5,
        },
    },
    chain=({'hard': 1.0, 'crd': 0.8},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
