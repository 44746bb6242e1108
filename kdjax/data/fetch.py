"""Fetching data sets of public repositories: from there, from a mirror or from a folder, and checked all the same."""

import os
import shutil
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from kdjax.data.files import SETS, File, Folder
from kdjax.data.originals import VARIABLE
from kdjax.errors import UsageError, unknown

TIMEOUT = 60  # seconds without an answer


def fetch(data: str, folder: str = '', origin: str = '') -> Path:
    """Puts the files of a data set where its source finds them. What is there already stays.

    A file gets its name when it is whole and checked; until then it is in a hidden folder that does not stay.

    Args:
      data: key of SETS.
      folder: where data sets are kept, each in a folder of its name; by default what KDJAX_DATA names.
      origin: a folder, or the base URL of a mirror (http, https, file), that has the files in a folder of the data
        set's name. Instead of a folder of many files it may have, and a mirror has, the zip file of the repository,
        'recordings.zip' for 'recordings'. '' for the repositories themselves.

    Returns:
      The folder of the data set.

    Raises:
      UsageError: a file is missing, cannot be fetched, or is another than the published one; or pooch is needed and not
        installed.
    """
    if not (folder := folder or os.environ.get(VARIABLE, '')):
        raise UsageError(f'{data}: say where to keep it, as --data_dir or in {VARIABLE}')
    place = Path(folder, data)
    place.mkdir(parents=True, exist_ok=True)
    for item in SETS[data]:
        if not (place / item.path).exists():
            with tempfile.TemporaryDirectory(dir=place, prefix='.fetching-') as hidden:
                named = f'{data}: {item.path} from {origin or item.url}'
                found = _fetched(data, item, origin, Path(hidden), named)
                if fault := item.fault(found):
                    raise UsageError(f'{named} is not as published: {fault}')
                os.replace(found, place / item.path)
        elif fault := item.fault(place / item.path):
            raise UsageError(f'{place / item.path} is there and not as published: {fault}; move it away')
    return place


def _fetched(data: str, item: File | Folder, origin: str, hidden: Path, named: str) -> Path:
    """Where in the folder `hidden` a file or a folder, which errors call `named`, has been put."""
    packed = hidden / (f'{item.path}.zip' if isinstance(item, Folder) else item.path)
    if not origin or _scheme(origin):
        try:
            _download(f'{origin.rstrip("/")}/{data}/{packed.name}' if origin else item.url, packed)
        except OSError as error:  # as those of requests are
            reason = error.strerror or str(error).splitlines()[0]
            advice = '' if origin else '; from a folder or a mirror: --originals=FOLDER'
            raise UsageError(f'{named} cannot be fetched: {reason}{advice}') from error
    else:
        found = _local(data, (item.path, packed.name), Path(origin))
        if isinstance(item, Folder) and found.is_dir():
            return _copied(item, found, hidden / item.path)
        shutil.copyfile(found, packed)
    return _unpacked(item, packed, named) if isinstance(item, Folder) else packed


def _copied(folder: Folder, found: Path, target: Path) -> Path:
    for file in folder.files(found):
        own = target / file.relative_to(found)
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, own)
    target.mkdir(exist_ok=True)
    return target


def _scheme(origin: str) -> str:
    """Of a URL; '' of a folder."""
    return urllib.parse.urlsplit(origin).scheme if '://' in origin else ''


def _local(data: str, names: tuple[str, ...], origin: Path) -> Path:
    places = [place / name for place in (origin / data, origin) for name in dict.fromkeys(names)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise UsageError(f'{data}: no {" and no ".join(map(str, places))}')
    return found


def _download(url: str, path: Path) -> None:
    scheme = _scheme(url)
    if scheme not in ('http', 'https', 'file'):
        raise unknown('kind of URL', scheme, ('http', 'https', 'file'), f' in {url}')
    if scheme == 'file':
        shutil.copyfile(urllib.request.url2pathname(urllib.parse.urlsplit(url).path), path)
    else:
        _through_http(url, path)


def _through_http(url: str, path: Path) -> None:
    try:
        import pooch
    except ImportError as error:
        raise UsageError(f"fetching {url} needs the extra 'data': pip install 'kdjax[data]' ({error})") from error
    pooch.get_logger().setLevel('WARNING')
    # What has been fetched is checked by those who know what it should be, wherever it comes from.
    own = pooch.retrieve(url, None, f'{path.name}.part', path.parent, downloader=pooch.HTTPDownloader(timeout=TIMEOUT))
    shutil.copyfile(own, path)  # pooch's own none but its owner may read


def _unpacked(folder: Folder, packed: Path, named: str) -> Path:
    """The folder of the repository whose archive is `packed`, beside it; errors call it `named`."""
    target = packed.with_suffix('')
    try:
        with zipfile.ZipFile(packed) as archive:
            members = _members(folder, archive)
            if sum(member.file_size for member in members) > folder.size:
                raise UsageError(f'{named} is larger than the published {folder.size} bytes')
            for member, parts in members.items():
                if '..' in parts:
                    raise UsageError(f'{named}: {member.filename} leads out of the archive')
                path = target.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f'{named} is not in an archive that can be read: {error}') from error
    if not members:
        raise UsageError(f'{named} has no such folder in its archive')
    return target


def _members(folder: Folder, archive: zipfile.ZipFile) -> dict[zipfile.ZipInfo, tuple[str, ...]]:
    """The files that count, with their places in the folder. All lie in one named after repository and commit."""
    names = {member: PurePosixPath(member.filename) for member in archive.infolist()}
    return {
        member: name.parts[2:]
        for member, name in names.items()
        if name.parts[1:2] == (folder.path,) and name.suffix in folder.suffixes
    }
