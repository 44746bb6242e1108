"""Patient knowledge distillation (Sun et al., 2019), PKD-skip, with weights from the paper's grid.

alpha = 0.5 between the labels and soft targets at T = 10, beta = 10 for the patient teacher, which leaves the last
layer to the logits. The networks' widths differ, so that the student's states are projected, which the paper's need
not be.

Command:  python run.py --config=configs/presets/pkd_bert.py
Cost:     a few minutes on 2 CPU cores
Expected: 79.3 % (mean of 10 seeds; hard labels 75.7 %)
"""

from ml_collections import ConfigDict

from configs import preset
from kdjax.techniques.tokens import layer_map

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'soft': {'kind': 'hinton.SoftTargets', 'temperature': 10.0},
        'patient': {
            'kind': 'pkd_bert.PatientTeacher',
            'layers': layer_map('skip', 2, 2)[:-1],
            'projection': True,
        },
    },
    chain=({'hard': 0.5, 'soft': 0.5, 'patient': 10.0},),
    nets='vit',
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
