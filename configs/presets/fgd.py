"""Focal and global distillation (Yang et al., 2022) of a detector's maps; the five numbers are its code's for GFL.

The authors' students begin with the neck and the head of their teacher, for which both need a neck of one width:
configs/bccd.py:methods=fgd,inherit, and experiments/bccd_inherit, where that and a tuned weight give 11 points.

Command:  KDJAX_DATA=folder python run.py --config=configs/presets/fgd.py   (the folder has bccd/BCCD)
Cost:     about five minutes on 2 CPU cores
Expected: AP50 60.6 % (mean of 5 seeds; student alone 60.0 %): experiments/bccd
"""

from ml_collections import ConfigDict

from configs import bccd, preset

PRESET = preset.Preset(
    terms={**bccd.OF_TASK, 'fgd': bccd.TERMS['fgd']},
    chain=({**bccd.TASK, **bccd.METHODS['FGD']},),
    nets=preset.DETECTOR,
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on blood cells, locked."""
    return preset.config(PRESET, arg)
