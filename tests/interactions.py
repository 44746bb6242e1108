"""A data set of interactions that takes no time: users and items of two kinds, who mostly take their own."""

import numpy as np

from kdjax.data import citeulike


def interactions():
    random = np.random.default_rng(0)
    users, items = 40, 64
    chance = np.where(np.arange(users)[:, None] % 2 == np.arange(items) % 2, 9.0, 1.0) / (1 + np.arange(items) // 2)
    own = [random.choice(items, 12, replace=False, p=row / row.sum()) for row in chance]
    train = np.asarray([(user, item) for user, taken in enumerate(own) for item in taken[2:]], np.int32)
    kept = [np.asarray([(user, taken[k]) for user, taken in enumerate(own)], np.int32) for k in (0, 1)]
    return citeulike.of_interactions(citeulike.Interactions(train, *kept, users, items), 20, 0)
