"""Activation boundaries (Heo et al., 2019): a first fit of the boundaries alone, a second of labels and soft targets.

The 3/1000 of the authors' code, whose loss is halved from each layer to the one before it.

Command:  python run.py --config=configs/presets/ab.py
Cost:     a few minutes on 2 CPU cores
Expected: 94.7 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': preset.SOFT,
        'ab': {
            'kind': 'ab.ActivationBoundary',
            'layers': ('stage1_pre', 'stage2_pre', 'stage3_pre'),
            'margin': 1.0,
            'form': 'halving',
        },
    },
    chain=({'ab': 0.003}, {'hard': 0.1, 'soft': 0.9}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
