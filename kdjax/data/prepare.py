"""Preparing a data set on disk, one of TFDS or of a public repository: by download, or from files that are here."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from kdjax.data import files
from kdjax.data import originals as published
from kdjax.data.fetch import fetch
from kdjax.data.tfds import builder
from kdjax.data.without_tensorflow import preparing
from kdjax.errors import UsageError, unknown


def prepare(name: str, originals: str = '', data_dir: str = '') -> Path:
    """Prepares a data set, so that its source finds it; what is prepared already stays.

    Args:
      name: of the TFDS builder, as 'mnist', for `data.source='tfds:mnist'`; or of a data set in a public repository,
        a key of `files.SETS`, as 'sst2', for `data.source='sst2.sentences'`. 'tfds:...' is of TFDS in any case.
      originals: a folder with its original files, for mnist, fashion_mnist, cifar10 and cifar100; a folder, or the base
        URL of a mirror, for those of public repositories; '' to download.
      data_dir: where it is kept; by default TFDS_DATA_DIR or ~/tensorflow_datasets for what is of TFDS, else
        KDJAX_DATA.

    Returns:
      The folder of the prepared data set.

    Raises:
      UsageError: an original is missing or is another than the published one, the download fails, or TFDS, TensorFlow
        or pooch is needed and not installed.
    """
    if name in files.SETS:
        return fetch(name, data_dir, originals)
    name = name.removeprefix('tfds:')
    if not name:
        raise UsageError('say which data set to prepare: --data=mnist, another name of TFDS, '
                         f'or {", ".join(files.SETS)}')  # fmt: skip
    if originals and name not in published.FILES:
        raise unknown('data set with originals', name, (*published.FILES, *files.SETS))
    found = builder(name, data_dir, files.SETS, file_format='array_record')
    if (found.data_path / 'dataset_info.json').exists():
        return Path(found.data_path)
    with preparing(name.partition('/')[0]):
        if originals:
            _from_originals(name, found, published.located(name, originals))
        else:
            _download(name, found)
    return Path(found.data_path)


def _from_originals(name: str, found: Any, place: Path) -> None:
    """With a download folder that nothing else uses and that does not stay.

    TFDS keeps what it extracted under the bare name of a file given by hand, and MNIST and Fashion-MNIST have files of
    the same names: in a common folder one would silently be prepared from the other's.
    """
    from tensorflow_datasets.core.download import DownloadConfig
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    root = Path(found.data_path).parents[1]
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix='.originals-') as folder:
        if name in published.INSIDE:
            _seed(name, found, place, Path(folder))
            config = DownloadConfig()
        else:
            _check_packed(name, place)
            config = DownloadConfig(manual_dir=place)
        try:
            found.download_and_prepare(download_dir=folder, download_config=config)
        except NonMatchingChecksumError as error:
            raise UsageError(
                f'{name}: a file in {place} is not the original: {" ".join(str(error).split())}'
            ) from error


def _check_packed(name: str, place: Path) -> None:
    """TFDS would download what it does not find."""
    for file in published.FILES[name]:
        if not (place / f'{file}.gz').is_file():
            raise UsageError(f'{name}: {file}.gz is not in {place}; TFDS takes the files as published, packed')


def _seed(name: str, found: Any, place: Path, folder: Path) -> None:
    """Puts the files of an archive where TFDS would have extracted it; it does not look into them, so this does."""
    from tensorflow_datasets.core.download import resource

    ((url, info),) = found.url_infos.items()
    archive = resource.get_dl_fname(url, info.checksum)
    inside = folder / 'extracted' / f'TAR_GZ.{archive}' / published.INSIDE[name]
    inside.mkdir(parents=True)
    for file in published.FILES[name]:
        (inside / file).write_bytes(published.content(name, file, place))
    for file in published.NAMES[name]:
        shutil.copy(place / file, inside)
    (folder / name).mkdir()
    downloaded = folder / name / archive
    downloaded.touch()
    resource.get_info_path(downloaded).write_text('{}')


def _download(name: str, found: Any) -> None:
    try:
        found.download_and_prepare()
    except OSError as error:
        advice = '; without a network, give --originals=FOLDER' if name in published.FILES else ''
        raise UsageError(f'{name} cannot be downloaded: {str(error).splitlines()[0]}{advice}') from error
