"""A sweep over temperature on digits, of as many runs as are asked for, to be held against the same runs in PyTorch.

Command:  python run.py --config=experiments/speed/digits.py:runs=20 --mode=sweep
Arguments: runs (of RUNS)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base
from configs.sweeps import temperature
from experiments.speed.cases import RUNS
from kdjax.errors import unknown
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base of the temperature sweep, locked."""
    config = temperature.get_config()
    with config.unlocked():
        config.seeds = _chosen(arg)[1]
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Soft targets beside the hard labels, at every temperature."""
    return rows.product(rows.axis('method', 'combined'), rows.axis('terms.soft.temperature', *_chosen(arg)[0]))


def _chosen(arg: str) -> tuple[tuple[float, ...], int]:
    runs = base.arguments(arg, runs=20)['runs']
    if runs not in RUNS:
        raise unknown('number of runs', str(runs), [str(known) for known in RUNS])
    return RUNS[runs]
