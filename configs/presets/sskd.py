"""Self-supervised distillation (Xu et al., 2020) with the paper's four weights, temperatures and shares.

Command:  python run.py --config=configs/presets/sskd.py
Cost:     a few minutes on 2 CPU cores
Expected: 88.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'sskd': {'kind': 'sskd.SelfSupervised'}},
    chain=({'sskd': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
