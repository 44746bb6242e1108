"""Attention-based feature matching (Ji et al., 2021) beside the hard labels, weight 200.

Command:  python run.py --config=configs/presets/show_attend_distill.py
Cost:     a few minutes on 2 CPU cores
Expected: 72.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'links': {
            'kind': 'show_attend_distill.AttentionLinks',
            'students': ('stage1', 'stage2', 'stage3'),
            'teachers': ('stage1', 'stage2', 'stage3'),
        },
    },
    chain=({'hard': 1.0, 'links': 200.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
