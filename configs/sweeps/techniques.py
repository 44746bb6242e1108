"""Which technique helps most? One of each family with the weights of its paper, against hard labels.

A convolutional student of 2 k parameters sees 250 digits. The weights are those of far larger tasks; nothing is tuned,
so this shows what each does out of the box. `configs/sweeps/presets.py` has all of them.

Command:  python run.py --config=configs/sweeps/techniques.py --mode=sweep
Cost:     about four minutes on 2 CPU cores
Expected: dkd and fitnets gain 2.8 points, kd 1.7, rkd 1.4; attention with its paper's weight loses 35
Arguments: quick (2 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import preset
from configs.sweeps import presets
from kdjax.study.sweep import rows

TECHNIQUES = ('kd', 'dkd', 'fitnets', 'attention', 'similarity', 'rkd', 'pkt', 'crd')


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = preset.job({name: presets.presets()[name] for name in TECHNIQUES}, 'cnn', arg)
    config.title = 'Techniques'
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every technique, and the baseline."""
    return rows.axis('method', 'hard labels', *TECHNIQUES)
