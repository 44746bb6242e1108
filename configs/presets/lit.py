"""LIT (Koratana et al., 2019): each stage learns on what the teacher has before it, then the whole network is trained.

The student has the teacher's widths and fewer layers in each stage.

Command:  python run.py --config=configs/presets/lit.py
Cost:     nine minutes of one CPU core, most of it compiling
Expected: 97.7 % (mean of 10 seeds; hard labels 96.2 %)
"""

from ml_collections import ConfigDict

from configs import preset

HINT = {'kind': 'fitnets.Hint', 'regressor': False, 'form': 'mean'}
PRESET = preset.Preset(
    terms={
        'hard': preset.HARD, 'soft': preset.SOFT,
        **{f'hint{stage}': {**HINT, 'layer': f'stage{stage}'} for stage in (1, 2, 3)},
    },
    chain=({'hard': 1.0, 'soft': 4.0, 'hint1': 1.0, 'hint2': 1.0, 'hint3': 1.0}, {'hard': 1.0, 'soft': 4.0}),
    nets='resnet',
    blockwise={'stage1': 'stage1', 'stage2': 'stage2'},
)  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
