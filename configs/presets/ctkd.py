"""Curriculum temperature (Li et al., 2023): the global temperature, with the shares of its CIFAR-100 tables.

The curriculum takes a quarter of the fit.

Command:  python run.py --config=configs/presets/ctkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'ctkd': {'kind': 'ctkd.CurriculumTemperature', 'lowest': 1.0, 'span': 20.0, 'steps': 100},
    },
    chain=({'hard': 0.1, 'ctkd': 0.9},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
