"""Born-again networks (Furlanello et al., 2018): generations of one architecture, each taught by the one before.

Command:  python run.py --config=configs/presets/born_again.py
Cost:     a minute or two on 2 CPU cores
Expected: 92.4 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

STUDENT = preset.NETS['cnn'][1]['args']  # every generation has the student's architecture
PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'soft': {'kind': 'hinton.SoftTargets', 'temperature': 1.0}},
    chain=({'hard': 0.5, 'soft': 0.5},),
    fit={'teacher': 'generation2'},
    assistants={
        'generation0': {'weights': {'hard': 1.0}, 'args': STUDENT},
        'generation1': {'weights': {'hard': 0.5, 'soft': 0.5}, 'args': STUDENT, 'fit': {'teacher': 'generation0'}},
        'generation2': {'weights': {'hard': 0.5, 'soft': 0.5}, 'args': STUDENT, 'fit': {'teacher': 'generation1'}},
    },
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
