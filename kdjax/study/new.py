"""`kdjax new NAME`: a folder to start a project from, which runs as it is."""

import importlib.util
import keyword
from pathlib import Path

from kdjax.errors import UsageError

TEMPLATE = Path(__file__).with_name('my_project')


def create(to: str) -> str:
    """Writes the folder `to` and says what is in it; its last part is the name of the project.

    Raises:
      UsageError: no name, one that is no name of a module or of one that there is, or a folder that exists.
    """
    folder = Path(to)
    name = folder.name
    if not to:
        raise UsageError('say what the project is called: kdjax new my_project')
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f'{name!r} cannot be imported; a project is called like a module of Python: my_project')
    if folder.exists():
        raise UsageError(f'{str(folder)!r} exists, and nothing was written; choose another name')
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f'{name!r} is a module that is installed, and would be imported instead; choose another name')
    folder.mkdir(parents=True)
    for file in sorted(TEMPLATE.glob('*.py')):
        (folder / file.name).write_text(file.read_text().replace(TEMPLATE.name, name))
    config = folder / 'config.py'
    return '\n'.join([
        f'{folder}: data.py, nets.py, terms.py and config.py, which runs as it is; each says "change here" once',
        f'kdjax plan --config={config}',
        f'kdjax run --config={config}',
    ])  # fmt: skip
