"""Be your own teacher (Zhang et al., 2019): an exit after each stage, with the paper's alpha and lambda.

Command:  python run.py --config=configs/presets/byot.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'exits': {
            'kind': 'byot.SelfDistillation',
            'layers': ('stage1', 'stage2'),
            'alpha': 0.3,
            'hint': 0.03,
            'temperature': 3.0,
        },
    },
    chain=({'hard': 1.0, 'exits': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
