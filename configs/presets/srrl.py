"""Softmax regression (Yang et al., 2021) through the teacher's own classifier, with the weights of cls_KD.

Command:  python run.py --config=configs/presets/srrl.py
Cost:     a few minutes on 2 CPU cores
Expected: 87.4 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'srrl': {'kind': 'srrl.SoftmaxRegression', 'layer': 'penult', 'classifier': 'head', 'beta': 5.0},
    },
    chain=({'hard': 1.0, 'srrl': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
