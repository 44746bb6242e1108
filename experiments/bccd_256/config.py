"""Blood cells in larger pictures: configs/bccd.py at 256x192, of 2.56 times as many pixels.

Networks, steps, rates and weights of terms are those at 160x120. What is of the size of objects grows with them: the
bins of edges, 19 in the place of 12, and the anchors of LD's valuable region.

Command:  KDJAX_DATA=folder python run.py --config=experiments/bccd_256/config.py
Cost:     27 minutes on 2 CPU cores, half of it beside other work
Expected: AP50 of 88 % (teacher) and 79 % (student alone), of which no method changes anything
          that can be told
Arguments: quick (a look at the machinery, of smaller pictures), seeds=N
"""

from ml_collections import ConfigDict

from configs import base, bccd

WIDTH, HEIGHT = 256, 192
METHODS = 'ld+fgd+cwd+pkd+ld_and_cwd'


def get_config(arg: str = '') -> ConfigDict:
    """Detection in larger pictures, locked."""
    arguments = base.arguments(arg, quick=False, seeds=5)
    how = 'quick' if arguments['quick'] else f'methods={METHODS},seeds={arguments["seeds"]}'
    config = bccd.get_config(f'width={WIDTH},height={HEIGHT},{how}')
    with config.unlocked():
        config.title = f'Blood cells (BCCD) at {WIDTH}x{HEIGHT}'
    return config
