"""Neuron selectivity transfer (Huang, Wang, 2017): the paper's 50 / 2 on the last map, with the hard labels.

The paper's loss is H + lambda / 2 MMD^2 with lambda = 50 for the polynomial kernel (sec. 5.1).

Command:  python run.py --config=configs/presets/nst.py
Cost:     a few minutes on 2 CPU cores
Expected: 86.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'nst': {'kind': 'nst.NeuronSelectivity', 'layers': ('stage3',)}},
    chain=({'hard': 1.0, 'nst': 25.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
