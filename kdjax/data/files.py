"""Data sets that lie in public repositories: their files, where they are, and that they are what was published."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from kdjax.data.originals import VARIABLE
from kdjax.errors import UsageError


class File(NamedTuple):
    """A file as its repository has it."""

    path: str  # in the folder of its data set
    url: str
    sha256: str
    size: int  # bytes


def _raw(repository: str, commit: str, *folder: str) -> str:
    return '/'.join(('https://raw.githubusercontent.com', repository, commit, *folder))


_SST2 = _raw('clairett/pytorch-sentiment-classification', '457ffd83de90a9d6d472d8ffc31bbffe40a8b236', 'data', 'SST2')
_WNUT17 = _raw('leondz/emerging_entities_17', 'e52a2d2a71ac1a051ca2d532eef28653c5c02603')
SETS = {
    'sst2': (
        File('train.tsv', f'{_SST2}/train.tsv',
             'ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920', 720259),
        File('dev.tsv', f'{_SST2}/dev.tsv',
             'eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359', 92057),
        File('test.tsv', f'{_SST2}/test.tsv',
             '831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7', 188749),
    ),
    'wnut17': (
        File('wnut17train.conll', f'{_WNUT17}/wnut17train.conll',
             '731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5', 493781),
        File('emerging.dev.conll', f'{_WNUT17}/emerging.dev.conll',
             'e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8', 114749),
        # emerging.test.conll has several tags in some cells.
        File('emerging.test.annotated', f'{_WNUT17}/emerging.test.annotated',
             '2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0', 192425),
    ),
}  # fmt: skip


def located(data: str, folder: str) -> Path:
    """The folder that has the files of a data set: `folder`, or the one of its name inside it.

    Args:
      data: key of SETS.
      folder: where to look; by default what KDJAX_DATA names.

    Raises:
      UsageError: no folder is given, or none has all the files.
    """
    if not (folder := folder or os.environ.get(VARIABLE, '')):
        raise UsageError(f'{data}: give the folder of its files, as data.args.folder or in {VARIABLE}')
    places = Path(folder, data), Path(folder)

    def missing(place: Path) -> list[str]:
        return [file.path for file in SETS[data] if not (place / file.path).is_file()]

    best = min(places, key=lambda place: len(missing(place)))
    if missing(best):
        raise UsageError(f'{data}: {missing(best)[0]!r} is neither in {places[0]} nor in {folder}; '
                         f'fetch it with: python run.py --mode=prepare --data={data} --data_dir={folder}')  # fmt: skip
    return best


def text(data: str, path: str, place: Path) -> str:
    """A file of a data set, checked.

    Args:
      data: key of SETS.
      path: of one of its files.
      place: the folder of the data set.

    Raises:
      UsageError: it cannot be read, or is another than the published one.
    """
    (file,) = (file for file in SETS[data] if file.path == path)
    try:
        raw = (place / path).read_bytes()
    except OSError as error:
        raise UsageError(f'{place / path} cannot be read: {error.strerror}') from error
    found = hashlib.sha256(raw).hexdigest()
    if found != file.sha256:
        raise UsageError(f'{place / path} is not the file of {data}: its sha256 is {found}, not {file.sha256}')
    return raw.decode()
