"""Logit matching (Ba, Caruana, 2014): the squared distance of the logits alone, without hard labels.

The paper's student sees the teacher's logits only.

Command:  python run.py --config=configs/presets/logits.py
Cost:     a few minutes on 2 CPU cores
Expected: 93.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(terms={'logits': {'kind': 'logits.LogitMatching'}}, chain=({'logits': 1.0},))


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
