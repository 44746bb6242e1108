"""Blood cells: does a detector gain from its teacher's neck and head, as FGD's students do, and FGD from both?

Teacher, data and recipe are those of configs/bccd.py. The student is as narrow, but for a neck and a head as wide as
its teacher's, so that it can begin with them; it does, or it begins anew, and either way it learns alone or with FGD.

Command:  KDJAX_DATA=folder python run.py --config=experiments/bccd_inherit/config.py --mode=sweep
          with :tune the weight of FGD is tried instead, on one seed and half as many epochs; the choice was made by the
          validation split
Cost:     seven minutes on 2 CPU cores, reckoned from 770 s of processors; with :tune two or three more
Expected: AP50 of the test split: student alone 62.4 %, with the teacher's neck and head 67.4; FGD 68.5, with both 73.6
Arguments: quick (a look at the machinery), tune, seeds=N
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, bccd
from kdjax.study.sweep import rows

NEW, INHERITED = 'new', "teacher's"
TRIED = (1.0, 0.3, 0.1, 0.03)  # of FGD, of the four weights of its authors
WEIGHTS = {NEW: 0.3, INHERITED: 1.0}  # the best of them in validation
FGD = bccd.FITS['FGD']
BEGINS, FIELD = 'neck and head', f'fits.{FGD}.weights.fgd'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    arguments = base.arguments(arg, quick=False, tune=False, seeds=5)
    seeds = 1 if arguments['tune'] else arguments['seeds']
    more = ',quick' if arguments['quick'] else ',epochs=6' if arguments['tune'] else ''
    config = bccd.get_config(f'methods={FGD},inherit,seeds={seeds}{more}')
    with config.unlocked():
        config.title = "Blood cells (BCCD), with the teacher's neck and head"
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Both methods from both beginnings; or FGD with the weights that are tried."""
    config = get_config(arg)
    starts = {NEW: {}, INHERITED: config.student.start.to_dict()}
    if base.arguments(arg, quick=False, tune=False, seeds=5)['tune']:
        begins = rows.choice(BEGINS, {name: {'student.start': start} for name, start in starts.items()})
        taught = rows.product(rows.axis('method', 'FGD'), begins, rows.axis(FIELD, *TRIED, name='weight'))
        return rows.chained(rows.product(rows.axis('method', bccd.ALONE), begins), taught)
    begins = rows.choice(BEGINS, {
        name: {'student.start': start, FIELD: WEIGHTS[name]} for name, start in starts.items()
    })  # fmt: skip
    return rows.product(rows.axis('method', *config.methods), begins)
