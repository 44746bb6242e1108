"""Teacher assistant (Mirzadeh et al., 2020): a network of a size between passes on what the teacher taught it.

Command:  python run.py --config=configs/presets/teacher_assistant.py
Cost:     a minute or two on 2 CPU cores
Expected: 93.0 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'soft': preset.SOFT},
    chain=({'hard': 0.1, 'soft': 0.9},),
    fit={'teacher': 'assistant'},
    assistants={'assistant': {'weights': {'hard': 0.1, 'soft': 0.9}, 'args': {'widths': (8, 16, 32)}}},
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
