"""TextBrewer's usual mixture (Yang et al., 2020): soft targets at T = 8, squares of hidden states and of attention.

Each has weight 1 and the task's loss none, as in the toolkit's examples.

Command:  python run.py --config=configs/presets/textbrewer.py
Cost:     a few minutes on 2 CPU cores
Expected: 70.2 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset
from kdjax.techniques.tokens import layer_map

PRESET = preset.Preset(
    terms={
        'soft': {'kind': 'hinton.SoftTargets', 'temperature': 8.0, 'form': 'paper_unscaled'},
        'attention': {
            'kind': 'textbrewer.AttentionMatch',
            'layers': layer_map('skip', 2, 2, 'attention'),
            'form': 'mse',
        },
        'hidden': {'kind': 'tinybert.HiddenStates', 'layers': layer_map('skip', 2, 2), 'projection': 'own'},
    },
    chain=({'soft': 1.0, 'attention': 1.0, 'hidden': 1.0},),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
