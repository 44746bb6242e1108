"""f-distill (Wen et al., 2023) with the total variation, for a student that has learned the task before.

The paper distils sequences into the student first, then minimises the divergence alone.

Command:  python run.py --config=configs/presets/f_distill_tvd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.5 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={'hard': preset.HARD, 'tvd': {'kind': 'f_distill.TotalVariation'}},
    chain=({'hard': 1.0}, {'tvd': 1.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
