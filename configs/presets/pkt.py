"""Probabilistic transfer (Passalis, Tefas, 2018) with the weight that CIFAR-100 benchmarks use, 30000, and hard labels.

Command:  python run.py --config=configs/presets/pkt.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'pkt': {'kind': 'pkt.ProbabilisticTransfer', 'layer': 'penult'}},
    chain=({'hard': 1.0, 'pkt': 30000.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
