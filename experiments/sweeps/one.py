"""One run of configs/sweeps/temperature.py, as people run studies without a sweep: a process for each.

Command:  python run.py --config=experiments/sweeps/one.py:method=combined,temperature=4,seed=3 --mode=sweep
Arguments: method, temperature, seed
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base
from configs.sweeps import temperature
from kdjax.study.sweep import rows

DEFAULTS = {'method': 'combined', 'temperature': 4.0, 'seed': 0}


def get_config(arg: str = '') -> ConfigDict:
    """The base of the sweep, locked."""
    base.arguments(arg, **DEFAULTS)
    return temperature.get_config()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The one row."""
    chosen = base.arguments(arg, **DEFAULTS)
    return rows.product(
        rows.axis('method', chosen['method']),
        rows.axis('terms.*.temperature', chosen['temperature']),
        rows.axis('seed', chosen['seed']),
    )
