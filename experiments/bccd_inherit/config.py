"""Blood cells: does a detector gain from its teacher's neck and head, as FGD's students do, and FGD from both?

Teacher, data and recipe are those of configs/bccd.py. The student is as narrow, but for a neck and a head as wide as
its teacher's, so that it can begin with them; it does, or it begins anew, and either way it learns alone or with FGD.

Command:  KDJAX_DATA=folder python run.py --config=experiments/bccd_inherit/config.py --mode=sweep
          with :tune the weight of FGD is tried instead, on one seed and half as many epochs; the choice was made by the
          validation split
Cost:     not measured yet
Expected: not measured yet
Arguments: quick (a look at the machinery), tune, seeds=N
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, bccd
from kdjax.study.sweep import rows

WEIGHT = 0.1  # of FGD, of the four of its authors
TRIED = (1.0, 0.3, 0.1, 0.03)
NEW, INHERITED = 'new', "teacher's"
FGD = bccd.FITS['FGD']


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = base.arguments(arg, quick=False, tune=False, seeds=3)
    seeds = 1 if arguments['tune'] else arguments['seeds']
    more = ',quick' if arguments['quick'] else ',epochs=6' if arguments['tune'] else ''
    config = bccd.get_config(f'methods={FGD},inherit,seeds={seeds}{more}')
    with config.unlocked():
        config.title = "Blood cells (BCCD), with the teacher's neck and head"
        config.fits[FGD].weights.fgd = WEIGHT
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Both methods from both beginnings; or FGD with the weights that are tried."""
    config = get_config(arg)
    begins = rows.choice('neck and head', {
        NEW: {'student.start': {}}, INHERITED: {'student.start': config.student.start.to_dict()},
    })  # fmt: skip
    if base.arguments(arg, quick=False, tune=False, seeds=3)['tune']:
        weights = rows.axis(f'fits.{FGD}.weights.fgd', *TRIED, name='weight')
        taught = rows.product(rows.axis('method', 'FGD'), begins, weights)
        return rows.chained(rows.product(rows.axis('method', bccd.ALONE), begins), taught)
    return rows.product(rows.axis('method', *config.methods), begins)
