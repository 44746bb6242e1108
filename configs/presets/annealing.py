"""Annealing (Jafari et al., 2021): a first fit of the damped logits, a second of the hard labels alone.

Command:  python run.py --config=configs/presets/annealing.py
Cost:     a few minutes on 2 CPU cores
Expected: 94.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'logits': {'kind': 'annealing.AnnealedLogits', 'highest': 10, 'steps': preset.STEPS}},
    chain=({'logits': 1.0}, {'hard': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
