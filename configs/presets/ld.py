"""Localisation distillation (Zheng et al., 2022) on cells of objects and on the valuable region; weights of its code.

Command:  KDJAX_DATA=folder python run.py --config=configs/presets/ld.py   (the folder has bccd/BCCD)
Cost:     about five minutes on 2 CPU cores
Expected: AP50 60.3 % (mean of 5 seeds; student alone 60.0 %): experiments/bccd
"""

from ml_collections import ConfigDict

from configs import bccd, preset

PRESET = preset.Preset(
    terms={**bccd.OF_TASK, **{name: bccd.TERMS[name] for name in bccd.METHODS['LD']}},
    chain=({**bccd.TASK, **bccd.METHODS['LD']},),
    nets=preset.DETECTOR,
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on blood cells, locked."""
    return preset.config(PRESET, arg)
