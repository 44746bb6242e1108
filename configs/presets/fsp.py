"""Flow of solution procedure (Yim et al., 2017): a first fit of the flow alone, a second of the task alone.

The paper's nets are equally wide; here the teacher is wider, so the student's channels are widened by a learned map.

Command:  python run.py --config=configs/presets/fsp.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'fsp': {'kind': 'fsp.Flow', 'layers': ('stem', 'stage1', 'stage2', 'stage3'), 'widened': True},
    },
    chain=({'fsp': 1.0}, {'hard': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
