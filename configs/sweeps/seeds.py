"""How many seeds does a claim need? Sixty of them for one comparison: the report says what fewer could have shown.

Command:  python run.py --config=configs/sweeps/seeds.py --mode=sweep
Cost:     half a minute on 2 CPU cores
Expected: 1.2 points with 60 seeds; with 3 or 5 seeds the same gain cannot be told from nothing
Arguments: quick (4 seeds, few steps)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, sweeps
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    config = sweeps.digits(arg)
    config.title = 'Number of seeds'
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """The same comparison, claimed from the first 3, 5, 10, 20 and all 60 seeds. No seed is trained twice."""
    counts = (2, 4) if base.arguments(arg, quick=False)['quick'] else (3, 5, 10, 20, 60)
    return rows.chained(*(
        rows.product(
            rows.choice('seeds', {str(count): {}}), rows.axis('method', 'hard labels', 'combined'),
            rows.axis('seed', *range(count)),
        )
        for count in counts
    ))  # fmt: skip
