"""MiniLM (Wang et al., 2020): last-layer attention and value relations with equal weights, then the task's labels.

Command:  python run.py --config=configs/presets/minilm.py
Cost:     a few minutes on 2 CPU cores
Expected: 81.2 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'attention': {'kind': 'minilm.AttentionDistributions', 'layer': 'attention2'},
        'values': {'kind': 'minilm.ValueRelations', 'layer': 'value2', 'heads': 2},
    },
    chain=({'attention': 1.0, 'values': 1.0}, {'hard': 1.0}),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
