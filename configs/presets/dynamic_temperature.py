"""Dynamic temperatures (Wen et al., 2021) of the focal-loss style, with TextBrewer's base temperature of 8.

Command:  python run.py --config=configs/presets/dynamic_temperature.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': {'kind': 'dynamic_temperature.DynamicTemperature', 'temperature': 8.0, 'beta': 1.0},
    },
    chain=({'hard': 1.0, 'soft': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
