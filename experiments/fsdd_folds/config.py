"""Spoken digits by each of six speakers that nobody heard: is what a teacher gives the same whoever is left out?

Students, teacher and recipe are those of configs/fsdd.py; each speaker is the test split once, the next one validation
and the other four training, and each has a teacher of its own.

Command:  KDJAX_DATA=folder python run.py --config=experiments/fsdd_folds/config.py --mode=sweep
          (the folder has fsdd/recordings)
Cost:     5,379 s of one CPU core that other work shared, two thirds of it teachers
Expected: 59.7 % with hard labels, the mean of six speakers, 57.8 with the teacher's and 61.1 with smoothed ones
Arguments: quick (a look at the machinery), seeds=N
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, fsdd
from kdjax.data.fsdd import SPEAKERS
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = base.arguments(arg, quick=False, seeds=5)
    config = fsdd.get_config('quick' if given['quick'] else '')
    with config.unlocked():
        config.title = 'Spoken digits (FSDD), speaker by speaker'
        config.seeds = given['seeds']
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method with every speaker left out."""
    speakers = {name: {'data.args.fold': fold} for fold, name in enumerate(SPEAKERS)}
    return rows.product(rows.choice('speaker', speakers), rows.axis('method', *get_config(arg).methods))
