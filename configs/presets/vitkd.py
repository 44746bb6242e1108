"""ViTKD (Yang et al., 2024) with the weights of its ImageNet experiments: alpha = 3e-5, beta = 3e-6, lambda = 0.5.

The paper's shallow layers are two of twelve; here they are the embedding and the first of two.

Command:  python run.py --config=configs/presets/vitkd.py
Cost:     a few minutes on 2 CPU cores
Expected: 75.2 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'shallow': {'kind': 'vitkd.Mimicking', 'layers': ('embedding', 'hidden1'), 'skip': 1},
        'deep': {'kind': 'vitkd.Generation', 'layer': 'hidden2', 'ratio': 0.5, 'skip': 1},
    },
    chain=({'hard': 1.0, 'shallow': 3e-5, 'deep': 3e-6},),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
