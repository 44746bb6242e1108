"""Knowledge review (Chen et al., 2021) beside the hard labels, weight 5 as for its CIFAR-100 tables, after a warm-up.

Command:  python run.py --config=configs/presets/reviewkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.3 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'review': {
            'kind': 'reviewkd.Review',
            'layers': ('stage1', 'stage2', 'stage3', 'penult'),
            'schedules': (('weight', 0.0, 1.0, 50),),
        },
    },
    chain=({'hard': 1.0, 'review': 5.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
