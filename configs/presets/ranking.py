"""The order of the teacher's four most probable classes, learned pair by pair, beside the hard labels.

The weights are ours: DistillKit has the loss, and no recipe for it.

Command:  python run.py --config=configs/presets/ranking.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.3 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'ranking': {'kind': 'ranking.LogisticRanking', 'keep': 4}},
    chain=({'hard': 1.0, 'ranking': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
