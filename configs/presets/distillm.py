"""DistiLLM (Ko et al., 2024): the skew reverse KL with alpha = 0.1, for a student that has learned the task before.

The paper starts from a fine-tuned student, and goes on with the loss on plain text beside the divergence.

Command:  python run.py --config=configs/presets/distillm.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.4 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'skew': {'kind': 'distillm.SkewReverseKL', 'skew': 0.1}},
    chain=({'hard': 1.0}, {'hard': 1.0, 'skew': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
