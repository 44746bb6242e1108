"""DarkRank (Chen et al., 2018): hard labels and the teacher's order of the nearest examples, alpha = beta = 3.

The paper's hard form, which it finds as good as the soft one and cheaper.


Command:  python run.py --config=configs/presets/darkrank.py
Cost:     a few minutes on 2 CPU cores
Expected: 88.0 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'darkrank': {'kind': 'darkrank.HardRank', 'layer': 'penult', 'length': 4, 'alpha': 3.0, 'beta': 3.0},
    },
    chain=({'hard': 1.0, 'darkrank': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
