"""Knowledge adaptation (He et al., 2019): translation and affinity of one map beside the hard labels.

Command:  python run.py --config=configs/presets/kta.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.2 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'translation': {'kind': 'kta.Translation', 'layer': 'stage2', 'form': 'torchdistill'},
        'affinity': {'kind': 'kta.Affinity', 'layer': 'stage2'},
    },
    chain=({'hard': 1.0, 'translation': 50.0, 'affinity': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
