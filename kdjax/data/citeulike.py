"""CiteULike-t: which of 25,181 papers 5,219 researchers put in their libraries, two of each kept from training.

Source: Wang, Chen, Li, Collaborative Topic Regression with Social Regularization for Tag Recommendation, IJCAI 2013.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.data import files
from kdjax.data.originals import VARIABLE
from kdjax.dataset import SPLIT_SEED, Dataset, Shared, Split
from kdjax.errors import UsageError, unknown

FEWEST = 5  # items of a user, in the papers that use it
# Published splits as arrays 'train' (N, 2), 'valid' and 'test' (users, 2) of user and item, and 'counts' of both.
PUBLISHED = {
    # With the logs of DE-RRD, Kang et al. 2020, seed 0, and with those of topology distillation, Kang et al. 2021.
    'loo': ('citeulike_t_loo0.npz', '0852682100887c8d284ed2c5948508f8956cc4823b61fbb1d9d876ac3da83603'),
    'topology': ('citeulike_t_topology.npz', '690eb7087079ab2585b0702acc11be10dbe2315a515f8144ae614aab3582727a'),
}
SPLITS = (*PUBLISHED, 'own')


class Interactions(NamedTuple):
    """Who took what, (N, 2) of user and item; of validation and test one row for each user, in their order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    users: int
    items: int


def interactions(*, folder: str = '', split: str = 'loo', candidates: int = 499, seed: int = 0) -> Dataset:
    """115,142 training interactions, and of each user one item for validation and one for test.

    An example's input is its user, {'user': (N,) int32}, its label the item. Other columns: 'seen', bits (users, words)
    of the items that a user took in training, in test also in validation; of training 'seen_by', bits of the users of
    an item; of validation and test 'candidates' (users, 499) items that the user never took. Facts are 'users' and
    'items', how many there are, and 'taken', the training interactions one after the other.

    Args:
      folder: where the files are, or a folder that has them in 'recsys'; by default what KDJAX_DATA names.
      split: 'loo', published with the logs of DE-RRD; 'topology', with those of topology distillation, both as .npz
        files; or 'own', drawn here from users.dat, of users with at least 5 items.
      candidates: how many each user has, drawn uniformly. The authors' own are not published.
      seed: of their draw.

    Raises:
      UsageError: a file is missing or is another than the published one, or an argument is out of range.
    """
    if split not in SPLITS:
        raise unknown('split', split, SPLITS, ' of citeulike')
    return of_interactions(_own(folder) if split == 'own' else _published(folder, split), candidates, seed)


def of_interactions(known: Interactions, candidates: int, seed: int) -> Dataset:
    """A data set for recommendation, with the columns and facts that `interactions` names.

    Raises:
      UsageError: fewer than one candidate, or more than there are items that a user never took.
    """
    everything = np.concatenate([known.train, known.validation, known.test])
    taken = _table(everything, known.users, known.items)
    free = known.items - int(taken.sum(axis=1).max())
    if not 1 <= candidates <= free:
        raise UsageError(f'candidates of citeulike must be in 1 to {free}, got {candidates}')
    random = np.random.default_rng(seed)
    others = np.stack([random.choice(np.flatnonzero(~row), candidates, replace=False) for row in taken])
    train = _table(known.train, known.users, known.items)
    before = train | _table(known.validation, known.users, known.items)
    user, item = np.ascontiguousarray(known.train.T, np.int32)
    columns: Mapping[str, Any] = {'candidates': others.astype(np.int32)}
    splits = {
        'train': Split({'user': user}, item, {'seen': Shared(user, packed(train)),
                                              'seen_by': Shared(item, packed(train.T))}),
        'validation': _asked(known.validation, train, columns),
        'test': _asked(known.test, before, columns),
    }  # fmt: skip
    facts = {'users': known.users, 'items': known.items, 'taken': tuple(known.train.ravel().tolist())}
    return Dataset(splits, (), facts)


def _asked(rows: np.ndarray, seen: np.ndarray, columns: Mapping[str, Any]) -> Split:
    user, item = np.ascontiguousarray(rows.T, np.int32)
    return Split({'user': user}, item, {'seen': Shared(user, packed(seen)), **columns})


def _table(rows: np.ndarray, users: int, items: int) -> np.ndarray:
    """Booleans (users, items)."""
    table = np.zeros((users, items), bool)
    table[rows[:, 0], rows[:, 1]] = True
    return table


def packed(table: np.ndarray) -> np.ndarray:
    """Booleans (R, N) as bits (R, ceil(N / 32)) uint32, the first the lowest; those behind the last are 1."""
    words = -(-table.shape[1] // 32)
    padded = np.ones((len(table), 32 * words), bool)
    padded[:, : table.shape[1]] = table
    return np.packbits(padded, axis=1, bitorder='little').view('<u4').astype(np.uint32)


def _published(folder: str, split: str) -> Interactions:
    name, wanted = PUBLISHED[split]
    path = _place(folder, name) / name
    raw = path.read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != wanted:
        raise UsageError(f'{path} is not the published split: its sha256 is {found}, not {wanted}')
    with np.load(io.BytesIO(raw)) as arrays:
        parts = [arrays[part] for part in ('train', 'valid', 'test')]
        users, items = map(int, arrays['counts'])
    validation, test = (rows[np.argsort(rows[:, 0], kind='stable')] for rows in parts[1:])
    return Interactions(parts[0], validation, test, users, items)


def _place(folder: str, name: str) -> Path:
    if not (folder := folder or os.environ.get(VARIABLE, '')):
        raise UsageError(f'citeulike: give the folder of its files, as data.args.folder or in {VARIABLE}')
    places = Path(folder, 'recsys'), Path(folder)
    for place in places:
        if (place / name).is_file():
            return place
    raise UsageError(f"citeulike: {name!r} is neither in {places[0]} nor in {folder}; with split='own' users.dat will "
                     f'do, fetched by: python run.py --mode=prepare --data=recsys --data_dir={folder}')  # fmt: skip


def _own(folder: str) -> Interactions:
    """Two items of each user are drawn, one for validation and one for test."""
    lines = files.content('recsys', 'users.dat', files.located('recsys', folder)).decode().splitlines()
    return left_out([[int(item) for item in line.split()[1:]] for line in lines])


def left_out(libraries: list[list[int]]) -> Interactions:
    """Of what each user took, two items that are drawn are kept from training; who took fewer than 5 is left out."""
    random = np.random.default_rng(SPLIT_SEED)
    kept = [random.permutation(sorted(set(own))) for own in libraries if len(set(own)) >= FEWEST]
    users = np.repeat(np.arange(len(kept)), [len(own) for own in kept])
    names, items = np.unique(np.concatenate(kept), return_inverse=True)
    rows = np.stack([users, items], axis=1).astype(np.int32)
    first = np.searchsorted(users, np.arange(len(kept)))
    asked = np.zeros(len(rows), bool)
    asked[first] = asked[first + 1] = True
    return Interactions(rows[~asked], rows[first], rows[first + 1], len(kept), len(names))
