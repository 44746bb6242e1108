"""TinyBERT (Jiao et al., 2020): intermediate layers first, the prediction afterwards, as in its task distillation.

Attention, hidden states and embeddings have equal weights; W_e of the embeddings is another than W_h.

Command:  python run.py --config=configs/presets/tinybert.py
Cost:     a few minutes on 2 CPU cores
Expected: 81.6 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset
from kdjax.techniques.tokens import layer_map

PRESET = preset.Preset(
    terms={
        'attention': {'kind': 'tinybert.AttentionScores', 'layers': layer_map('skip', 2, 2, 'attention')},
        'hidden': {'kind': 'tinybert.HiddenStates', 'layers': layer_map('skip', 2, 2)},
        'embedding': {'kind': 'tinybert.HiddenStates', 'layers': ('embedding',)},
        'prediction': {'kind': 'hinton.SoftTargets', 'temperature': 1.0, 'form': 'paper'},
    },
    chain=({'attention': 1.0, 'hidden': 1.0, 'embedding': 1.0}, {'prediction': 1.0}),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
