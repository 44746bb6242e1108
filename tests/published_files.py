"""Data sets made up here in the place of published ones."""

import hashlib

from kdjax.data import files


def publish(monkeypatch, data, contents, folder=None, url='https://nowhere.invalid'):
    """Makes files the published ones of a data set, and writes them into a folder, if one is given.

    Args:
      contents: bytes by path; those of a folder as a mapping of its own.
    """
    items = []
    for path, raw in contents.items():
        if isinstance(raw, dict):
            hashes = {name: hashlib.sha256(own).hexdigest() for name, own in raw.items()}
            sums = ''.join(f'{hashes[name]}  {name}\n' for name in sorted(raw))
            whole = hashlib.sha256(sums.encode()).hexdigest(), sum(map(len, raw.values())), len(raw)
            suffixes = {f'.{name.rpartition(".")[2]}' for name in raw}
            items.append(files.Folder(path, f'{url}/{data}/{path}.zip', *whole, tuple(suffixes)))
        else:
            items.append(files.File(path, f'{url}/{data}/{path}', hashlib.sha256(raw).hexdigest(), len(raw)))
    monkeypatch.setitem(files.SETS, data, tuple(items))
    if folder is not None:
        write(folder, contents)


def write(folder, contents):
    """Writes bytes by path."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, raw in contents.items():
        if isinstance(raw, dict):
            write(folder / path, raw)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(raw)
