"""Data sets in public repositories that TFDS lacks: their files, where they are, and whether they are as published."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdjax.data.originals import VARIABLE
from kdjax.errors import UsageError


class File(NamedTuple):
    """A file."""

    path: str  # in the folder of its data set
    url: str
    sha256: str
    size: int  # bytes

    def fault(self, path: Path) -> str:
        """In which way the file at `path` is not this one; '' where it is."""
        if path.stat().st_size != self.size:
            return f'it has {path.stat().st_size} bytes, not {self.size}'
        return _differs(hashlib.sha256(path.read_bytes()).hexdigest(), self.sha256)


class Folder(NamedTuple):
    """The many files of a folder, which come in the archive of a whole repository."""

    path: str  # in the folder of its data set, and in the repository
    url: str  # of a zip file
    sha256: str  # of the lines '<sha256>  <path in the folder>' of all files, in the order of their paths
    size: int  # bytes of all files
    number: int
    suffixes: tuple[str, ...]  # of the files that count

    def files(self, path: Path) -> list[Path]:
        """The files in the folder at `path` that count."""
        return [file for file in path.rglob('*') if file.suffix in self.suffixes and file.is_file()]

    def fault(self, path: Path) -> str:
        """In which way the folder at `path` is not this one; '' where it is."""
        found = {file.relative_to(path).as_posix(): file for file in self.files(path)}
        size = sum(file.stat().st_size for file in found.values())
        if (len(found), size) != (self.number, self.size):
            return f'it has {len(found)} files of {size} bytes, not {self.number} of {self.size}'
        lines = (f'{hashlib.sha256(found[name].read_bytes()).hexdigest()}  {name}\n' for name in sorted(found))
        return _differs(hashlib.sha256(''.join(lines).encode()).hexdigest(), self.sha256)


def _differs(found: str, wanted: str) -> str:
    return '' if found == wanted else f'its sha256 is {found}, not {wanted}'


def _raw(repository: str, commit: str, *folder: str) -> str:
    return '/'.join(('https://raw.githubusercontent.com', repository, commit, *folder))


def _zip(repository: str, commit: str) -> str:
    return f'https://github.com/{repository}/archive/{commit}.zip'


_SST2 = _raw('clairett/pytorch-sentiment-classification', '457ffd83de90a9d6d472d8ffc31bbffe40a8b236', 'data', 'SST2')
_WNUT17 = _raw('leondz/emerging_entities_17', 'e52a2d2a71ac1a051ca2d532eef28653c5c02603')
_MULTI30K = _raw('multi30k/dataset', 'a3d2e0d26b56f3846f66a952536ffed4e401d05a', 'data', 'task1', 'raw')
_BCCD = 'Shenggan/BCCD_Dataset', 'd272fb14cdff6e473fafeeeba32aba5f560e9e43'
_FSDD = 'Jakobovski/free-spoken-digit-dataset', '26eb9aaf76e81b692f806f9140c2d2777410d7a1'
_SHAKESPEARE = _raw('karpathy/char-rnn', '6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e', 'data', 'tinyshakespeare')
_RECSYS = _raw('changun/CollMetric', 'd9026cfce7c6e8dd2640b842ad524b61031b29ac', 'citeulike-t')
SETS: dict[str, Sequence[File | Folder]] = {
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
    'multi30k_en_de': tuple(File(name, f'{_MULTI30K}/{name}', sha256, size) for name, sha256, size in (
        ('train.en.gz', 'd79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f', 568929),
        ('train.de.gz', '726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6', 637044),
        ('val.en.gz', '14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28', 21650),
        ('val.de.gz', 'f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a', 24681),
        ('test_2016_flickr.en.gz', '611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9', 21077),
        ('test_2016_flickr.de.gz', '9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8', 22890),
        ('test_2017_flickr.en.gz', '76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074', 19138),
        ('test_2017_flickr.de.gz', 'a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee', 21471),
        ('test_2017_mscoco.en.gz', 'aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58', 8844),
        ('test_2017_mscoco.de.gz', '799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338', 10230),
        ('test_2018_flickr.en.gz', 'ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d', 23514),
        ('test_2018_flickr.de.gz', 'ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608', 26461),
    )),
    'bccd': (
        Folder('BCCD', _zip(*_BCCD),
               'debd2d76b13c300a3999f96a08cbe9ada5f231c3f882f9877a65a01a695872d1', 8800938, 732,
               ('.jpg', '.xml', '.txt')),
        File('LICENSE', _raw(*_BCCD, 'LICENSE'),
             'e2b611c8f321cb03c8d1b378a343ef488b623cf714c48bee814f04fcf8ba26df', 1065),
    ),
    'fsdd': (
        Folder('recordings', _zip(*_FSDD),
               '1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959', 21128848, 3000, ('.wav',)),
        File('README.md', _raw(*_FSDD, 'README.md'),  # has the licence
             '523de3cafa0f54707a0ab2760a2d32b640ccfe834a081d7d35c894f1fb6d79f5', 3977),
    ),
    'tiny_shakespeare': (
        File('input.txt', f'{_SHAKESPEARE}/input.txt',
             '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed', 1115394),
    ),
    'recsys': (  # CiteULike-t
        File('users.dat', f'{_RECSYS}/users.dat',
             '02d5d429b2c0362e0ed79f6ef204666b4092563d21493abf4dfb521e8a7078bf', 770649),
        File('citeulike-t_README.md', f'{_RECSYS}/README.md',
             '4de4cc2cd5fc9f37d26d5fe6609e3d470b16ae511aab70242039347c7640cfc0', 2601),
    ),
}  # fmt: skip


def located(data: str, folder: str) -> Path:
    """The folder that has the files of a data set: the one of its name inside `folder`, or `folder` itself.

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
        return [item.path for item in SETS[data] if not (place / item.path).exists()]

    best = min(places, key=lambda place: len(missing(place)))
    if missing(best):
        raise UsageError(f'{data}: {missing(best)[0]!r} is neither in {places[0]} nor in {folder}; fetch it with: '
                         f'python run.py --mode=prepare --data={data} --data_dir={folder}')  # fmt: skip
    return best


def content(data: str, path: str, place: Path) -> bytes:
    """A file of a data set, checked.

    Args:
      data: key of SETS.
      path: of one of its files.
      place: the folder of the data set.

    Raises:
      UsageError: it cannot be read, or is another than the published one.
    """
    (item,) = (item for item in SETS[data] if item.path == path)
    try:
        fault = item.fault(place / path)
        raw = (place / path).read_bytes()
    except OSError as error:
        raise UsageError(f'{place / path} cannot be read: {error.strerror}') from error
    if fault:
        raise UsageError(f'{place / path} is not the original of {data}: {fault}')
    return raw


def checked(data: str, path: str, place: Path) -> Path:
    """A folder of files of a data set, checked.

    Args:
      data: key of SETS.
      path: of one of its folders.
      place: the folder of the data set.

    Raises:
      UsageError: it is another than the published one.
    """
    (item,) = (item for item in SETS[data] if item.path == path)
    if fault := item.fault(place / path):
        raise UsageError(f'{place / path} is not the original of {data}: {fault}')
    return place / path
