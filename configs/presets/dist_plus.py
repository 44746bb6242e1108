"""DIST+ (Huang et al., 2025): DIST, and correlations of a feature map, all four with weight 1.

torchdistill's defaults. The student's channels are mapped to the teacher's by a learned linear layer.

Command:  python run.py --config=configs/presets/dist_plus.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'dist': {'kind': 'dist.Correlations', 'beta': 1.0, 'gamma': 1.0, 'temperature': 1.0},
        'maps': {'kind': 'dist_plus.MapCorrelations', 'layer': 'stage3', 'projector': True},
    },
    chain=({'hard': 1.0, 'dist': 1.0, 'maps': 1.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
