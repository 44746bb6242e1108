"""Does augmented text help a student of sentences? Views of Tang et al. (2019), labelled by a teacher that reads words.

Five TextCNNs each label the fifth of the sentences that they were not trained on, and two more views of each: words are
masked, and one view in four is cut down to an n-gram. Students see 500 labels; hard labels are those of the sentence,
whatever has become of it in a view.

Command:  KDJAX_DATA=folder python run.py --config=experiments/sst2_views/config.py --mode=sweep
Cost:     about three minutes on 2 CPU cores
Expected: half a point for soft labels, a loss of 0.8 for hard ones; the other sentences give 12 as they are
Arguments: quick (5 seeds)
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, sst2
from kdjax.study.sweep import rows

VIEWS = 3


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    quick = base.arguments(arg, quick=False)['quick']
    config = sst2.get_config(f'views={VIEWS}{",quick" if quick else ""}')
    with config.unlocked():
        config.title = 'Augmented text (sst2_sentences)'
        config.data.transfer_sizes = (500,)
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method on the sentences alone, and on their views."""
    return rows.product(rows.axis('method', *get_config(arg).methods), rows.axis('data.views', 1, VIEWS))
