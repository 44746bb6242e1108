"""GKD (Agarwal et al., 2024) with JSD(0.1), for a student that has learned the task before.

The paper starts from a fine-tuned student, then minimises the divergence alone; it chooses beta by task.

Command:  python run.py --config=configs/presets/gkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.7 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'jsd': {'kind': 'gkd.GeneralizedJSD', 'beta': 0.1}},
    chain=({'hard': 1.0}, {'jsd': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
