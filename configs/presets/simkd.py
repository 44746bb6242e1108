"""The reused teacher classifier (Chen et al., 2022): the features alone are trained, without labels, as in the paper.

The student answers with the teacher's last layer on its projected features.

Command:  python run.py --config=configs/presets/simkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 94.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'simkd': {'kind': 'simkd.ReusedClassifier', 'layer': 'stage3'}},
    chain=({'simkd': 1.0},),
    answer='simkd',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
