"""Sobolev training (Czarnecki et al., 2017): soft targets and the slopes of the log-probabilities.

Command:  python run.py --config=configs/presets/sobolev.py
Cost:     a few minutes on 2 CPU cores
Expected: 86.6 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': preset.SOFT,
        'sobolev': {'kind': 'sobolev.Sobolev', 'form': 'log_probabilities'},
    },
    chain=({'hard': 0.1, 'soft': 0.9, 'sobolev': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
