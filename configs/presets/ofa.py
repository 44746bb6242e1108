"""One-for-all (Hao et al., 2023) with the authors' weights: the student's logits and an exit after each stage.

Command:  python run.py --config=configs/presets/ofa.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'ofa': {'kind': 'ofa.OneForAll', 'gamma': 1.5},
        'exits': {'kind': 'ofa.OneForAll', 'gamma': 1.5, 'layers': ('stage1', 'stage2', 'stage3')},
    },
    chain=({'hard': 1.0, 'ofa': 1.0, 'exits': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
