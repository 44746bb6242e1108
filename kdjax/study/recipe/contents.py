"""What addresses know of what lies in files: the data that a source reads, and the code of a user's own objects."""

import ast
import functools
import importlib.util
import json
import os
import re
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdjax import trees
from kdjax.data.folder import SUFFIXES
from kdjax.train import layout, ledger
from kdjax.train.storage import SETTLED, sha256

OWN = re.compile(r'([^\W\d]\w*(?:\.[^\W\d]\w*)*):[^\W\d]\w*')  # 'my.module:Object'
TFDS = 'tfds'
# Sources whose data are what lies under an argument: its name, and the files that count ('' for all). All others of
# the package compare what they read with what was published.
READS = {
    'arrays.arrays': ('path', ('.npy', '.npz')), 'folder.images': ('folder', SUFFIXES),
    'records.images': ('folder', ('',)),
}  # fmt: skip
DEPTH = 3  # folders below which a data set has no files: <folder>/<split>/<class>/<image>


def own(source: str) -> bool:
    """Whether a source is a user's own, which may read anything."""
    return ':' in source and not source.startswith(f'{TFDS}:')


def of_files(source: str, arguments: Mapping[str, Any]) -> str:
    """Hash of the files that a source of the package reads; '' where there are none, or they are not there.

    What a file hashes to is remembered in the user's cache folder until it is touched.
    """
    root, suffixes = _root(source, arguments)
    if root is None or not root.exists():
        return ''
    files = [root] if root.is_file() else sorted(_below(root, suffixes, DEPTH))
    return _remembered(root.resolve(), files)


def of_code(value: Any) -> dict[str, str]:
    """Hash of the code of every object of the user's own that `value`, JSON-able, names as 'my.module:Object'.

    It is that of the files of the module and of all that it imports, directly or not, and that is not installed. What
    is found only when the code runs (a plug-in, a file that it reads) is not seen.

    Returns:
      Hashes by module; an installed one or one that is not there has none.
    """
    modules = dict.fromkeys(match[1] for text in _texts(value) if (match := OWN.fullmatch(text)))
    digests = {module: _of_module(module) for module in modules if module != TFDS}
    return {module: digest for module, digest in digests.items() if digest}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _root(source: str, arguments: Mapping[str, Any]) -> tuple[Path | None, Sequence[str]]:
    """The file or folder that a source reads, and the suffixes of the files there that count."""
    if source.startswith(f'{TFDS}:') or source == 'tfds.prepared':
        name = source.removeprefix(f'{TFDS}:') if ':' in source else arguments.get('name', '')
        folder = arguments.get('data_dir') or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
        return Path(folder, re.split('[/:]', name)[0]).expanduser() if name else None, ('',)
    argument, suffixes = READS.get(source, ('', ()))
    place = arguments.get(argument)
    return Path(place) if isinstance(place, str) and place else None, suffixes


def _below(folder: Path, suffixes: Sequence[str], depth: int) -> Iterator[Path]:
    """The files in a folder that count; hidden ones do not."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir() and depth > 1:
                yield from _below(folder / entry.name, suffixes, depth - 1)
            elif entry.is_file() and entry.name.lower().endswith(tuple(suffixes)):
                yield folder / entry.name


def _remembered(root: Path, files: Sequence[Path]) -> str:
    """Hash of the contents of files, looked up where none was touched since it was computed."""
    store, touched = layout.user_cache() / 'contents.json', _touched(files)
    known = _read(store)
    entry = known.get(str(root))
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == touched[0] and isinstance(entry[1], str):
        return entry[1]
    found = trees.digest([[path.name if path == root else path.as_posix().removeprefix(root.as_posix()), sha256(path)]
                          for path in files])  # fmt: skip
    # What was written a moment ago may be written once more without a later time.
    if touched == _touched(files) and time.time() - touched[1] > SETTLED:
        _write(store, {**known, str(root): [touched[0], found]})
    return found


def _touched(files: Sequence[Path]) -> tuple[str, float]:
    """Hash of which files these are and of when they were written, and when the last one was, in seconds."""
    states = [(path, path.stat()) for path in files]
    said = [[str(path), of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino] for path, of in states]
    return trees.digest(said), max((max(of.st_mtime, of.st_ctime) for _, of in states), default=0.0)


def _read(store: Path) -> dict[str, Any]:
    try:
        known = json.loads(store.read_text())
    except (OSError, ValueError):  # not there, or not ours: it is computed again
        return {}
    return known if isinstance(known, dict) else {}


def _write(store: Path, known: Mapping[str, Any]) -> None:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        ledger.replace(store, json.dumps(known, indent=1))
    except OSError:  # a home that cannot be written costs time, no more
        return


@functools.cache  # the code that runs is the one that was there when it was first imported
def _of_module(module: str) -> str:
    """Hash of a module and of what it imports; '' where there is none."""
    found: dict[str, str] = {}
    todo = [*_with_parents(module)]
    while todo:
        name = todo.pop()
        path = _file(name, module.partition('.')[0])
        if name in found or path is None:
            continue
        found[name] = sha256(path)
        todo += _imported(name, path)
    return trees.digest(found) if found else ''


def _with_parents(module: str) -> list[str]:
    parts = module.split('.')
    return ['.'.join(parts[: count + 1]) for count in range(len(parts))]


def _file(name: str, named: str) -> Path | None:
    """The file of a module that is a user's own: of the package `named`, or not installed."""
    top, *inner = name.split('.')
    if top == 'kdjax' or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if top != named and _installed(folders[0] if folders else Path(spec.origin or '')):
        return None
    if not inner:
        return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
    choices = [
        folder.joinpath(*inner[:-1], end)
        for folder in folders
        for end in (f'{inner[-1]}.py', f'{inner[-1]}/__init__.py')
    ]
    return next((path for path in choices if path.is_file()), None)


def _installed(path: Path) -> bool:
    places = {sysconfig.get_path(name) for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')}
    return bool({'site-packages', 'dist-packages'} & set(path.parts)) or any(path.is_relative_to(p) for p in places)


def _imported(name: str, path: Path) -> list[str]:
    """Names of the modules that the file of a module may import."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # compiled, or importing it says what is wrong
        return []
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in (node for node in nodes if isinstance(node, ast.ImportFrom)):
        above = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
        origin = '.'.join([*above, *([node.module] if node.module else [])])
        names += [origin, *(f'{origin}.{alias.name}' for alias in node.names)]
    return [part for each in names if each for part in _with_parents(each)]
