"""FitNets (Romero et al., 2015): a first fit on the hint alone, a second one on hard and soft labels.

Command:  python run.py --config=configs/presets/fitnets.py
Cost:     a minute or two on 2 CPU cores
Expected: 94.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'soft': preset.SOFT, 'hint': {'kind': 'fitnets.Hint', 'layer': 'stage2'}},
    chain=({'hint': 1.0}, {'hard': 1.0, 'soft': 4.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
