"""Similarity-preserving distillation (Tung and Mori, 2019) with the weight of its CIFAR tables.

Command:  python run.py --config=configs/presets/similarity.py
Cost:     a minute or two on 2 CPU cores
Expected: 89.2 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'similarity': {'kind': 'similarity.SimilarityPreserving', 'layers': ('stage3',)}},
    chain=({'hard': 1.0, 'similarity': 3000.0},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
