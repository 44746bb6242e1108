"""Techniques of transformers over words: does any gain more than soft labels?

A teacher of four layers saw all 6,920 sentences; students of two layers, half as wide or as wide, have 1,000 of them,
and 300 updates whatever the technique. These are the six of BERT's family; configs/sst2.py:technique=NAME has others.

Command:  KDJAX_DATA=folder python run.py --config=experiments/sst2_techniques/config.py --mode=sweep
Cost:     about ten minutes on 2 CPU cores
Expected: seven points for a student that starts from its teacher's layers, two to three for soft labels, a loss of ten
          where half of the updates go to relations between tokens (MiniLM)
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs import base, sst2, words
from kdjax.study.sweep import rows

BASELINES = ('hard labels', 'soft and hard')
NAMES = ('tinybert', 'minilm', 'minilmv2', 'pkd', 'distilbert', 'annealing')


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = base.arguments(arg, quick=False)['quick']
    config = sst2.get_config()
    with config.unlocked():
        sst2.techniques(config, NAMES, quick)
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every technique with its student, and both students without any."""
    base.arguments(arg, quick=False)
    plain = [_row(student, method) for student in words.STUDENTS for method in BASELINES]
    taught = [(name, words.TECHNIQUES[name]) for name in NAMES]
    return [*plain, *(_row(own.student, name, own.start) for name, own in taught)]


def _row(student: str, method: str, start: Mapping[str, str] = {}) -> rows.Row:
    changes = {'method': method, 'student.args': words.STUDENTS[student], 'student.start': dict(start)}
    return rows.Row({'student': student, 'method': method}, changes)
