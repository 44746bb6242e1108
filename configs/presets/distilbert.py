"""DistilBERT (Sanh et al., 2019): soft targets, the task's loss and the cosine of the last states, 5:2:1.

The weights and T = 2 are those of the released training command. The networks' widths differ, so that the student's
states are projected, which the paper's need not be.

Command:  python run.py --config=configs/presets/distilbert.py
Cost:     a few minutes on 2 CPU cores
Expected: 78.6 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': {'kind': 'hinton.SoftTargets', 'temperature': 2.0},
        'cosine': {'kind': 'distilbert.HiddenDirections', 'layers': ('hidden2',), 'projection': True},
    },
    chain=({'hard': 2.0, 'soft': 5.0, 'cosine': 1.0},),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
