"""Entropy-based weights (Kwon et al., 2020) over three teachers, as EBKD in the tables of CA-MKD.

Command:  python run.py --config=configs/presets/ebkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': {'kind': 'ebkd.EntropyWeighted', 'members': 3, 'temperature': 4.0},
    },
    chain=({'hard': 1.0, 'soft': 1.0},),
    fit={'teacher': 'team'},
    assistants={'team': {'weights': {'hard': 1.0}, 'members': 3}},
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
