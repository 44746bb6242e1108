"""The reused teacher classifier (Chen et al., 2022): a first fit of the features alone, as in the paper.

The paper then answers with the teacher's classifier; a second fit trains the student's own, on the hard labels.

Command:  python run.py --config=configs/presets/simkd.py
Cost:     a few minutes on 2 CPU cores
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'simkd': {'kind': 'simkd.ReusedClassifier', 'layer': 'stage3', 'classifier': ''},
    },
    chain=({'simkd': 1.0}, {'hard': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
