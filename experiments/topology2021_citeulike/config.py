"""Recall at 50 of all items by the width of a recommender: Topology Distillation (Kang et al., 2021) on CiteULike.

Command:  KDJAX_DATA=folder python run.py --config=experiments/topology2021_citeulike/config.py --mode=sweep
          (the folder has recsys/ with the split that is published with its histories)
Cost:     batch=4096,experts=8: 24,800 s of one CPU core that other work shared
Expected: expected.json, after 100 epochs: R@50 of .1788, .2276, .2976 and .3152 with 10, 20, 100 and 200 numbers alone,
          .2516 and .2744 with 20 that FTD and HTD teach
Arguments: widths=N+N+... (of students), methods=NAME+NAME+... (alone, FTD and HTD), seeds=N, epochs=N, batch=N (1024 is
    the authors'), experts=N (of so many interactions in the topology of HTD one is in the assignment to groups),
    grouped=N+N+... (the widths that HTD teaches; all if left out), looks=N (validations)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from experiments.derrd2020_citeulike import config as derrd
from kdjax.study.sweep import rows

EPOCHS = 100  # of students and teacher, as the authors'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    of = (f'split=topology,methods={given["methods"]},seeds={given["seeds"]},epochs={given["epochs"]},'
          f'teacher_epochs={given["epochs"]},batch={given["batch"]},experts={given["experts"]},'
          f'looks={given["looks"]}')  # fmt: skip
    config = derrd.get_config(of)
    with config.unlocked():
        config.title = 'Topology Distillation on CiteULike'
        config.task.score = 'recall_50'
        config.expected = 'experiments/topology2021_citeulike/expected.json'
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method at every width, from several seeds."""
    given = _arguments(arg)
    widths, methods = given['widths'].split('+'), given['methods'].split('+')
    grouped = given['grouped'].split('+') if given['grouped'] else widths
    return [row for width in widths for row in rows.product(
        rows.axis('student.args.width', int(width)),
        rows.axis('method', *(method for method in methods if method != 'HTD' or width in grouped)),
    )]  # fmt: skip


def _arguments(arg: str) -> Mapping[str, Any]:
    return base.arguments(arg, widths='10+20+100+200', methods='alone+FTD+HTD', seeds=5, epochs=EPOCHS, batch=1024,
                          experts=1, grouped='', looks=4)  # fmt: skip
