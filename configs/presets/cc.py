"""Correlation congruence (Peng et al., 2019): hard labels, soft targets and the correlations of the last features.

The paper's loss is alpha CE + (1 - alpha) KD + beta CC with alpha = 0.5; beta is 100, as in its reimplementations.

Command:  python run.py --config=configs/presets/cc.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.6 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': preset.SOFT,
        'cc': {'kind': 'cc.CorrelationCongruence', 'layer': 'penult', 'gamma': 0.4, 'order': 2},
    },
    chain=({'hard': 0.5, 'soft': 0.5, 'cc': 100.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
