"""From the command line to a config: what absl and ml_collections report is said in one line, with alternatives."""

import itertools
import runpy
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from kdjax.names import UsageError, nearest, unknown


def parse(argv: list[str], values: flags.FlagValues, holder: Any, default: Path) -> ConfigDict:
    """Parses the command line and returns the config that the flag `holder` holds.

    Args:
      argv: the command line, program first.
      values: all flags.
      holder: the config flag.
      default: config file for a command line that names none.

    Raises:
      UsageError: an unknown flag or field, a value of another type, or words that are no flag.
    """
    if not _given(argv):
        argv = [argv[0], f'--config={default}', *argv[1:]]
    _check_fields(argv)
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        known = [flag for module in values.flags_by_module_dict().values() for flag in (f.name for f in module)]
        raise unknown('flag', error.flagname, nearest(error.flagname, set(known))[:5]) from error
    except (flags.Error, TypeError, ValueError) as error:
        raise UsageError(str(error).replace('\n', ' ')) from error
    if rest[1:]:
        raise UsageError(f'unexpected {" ".join(rest[1:])!r}; flags look like --name=value')
    return holder.value


def listed(argv: list[str], function: str) -> Any:
    """What a function of the config file, `sweep(arg)` or `space(arg)`, returns; None where it has none."""
    if not _given(argv):
        return None
    path, _, argument = _given(argv)[-1].partition(':')
    module = runpy.run_path(path)
    return module[function](argument) if function in module else None


def name(argv: list[str], default: str) -> str:
    """Name of the config file, for the default workdir; of its folder, where it is called 'config' itself."""
    if not _given(argv):
        return default
    path = Path(_given(argv)[-1].partition(':')[0]).resolve()
    return path.parent.name if path.stem == 'config' else path.stem


def _given(argv: list[str]) -> list[str]:
    joined = [word.partition('=')[2] for word in argv if word.startswith('--config=')]
    return joined + [after for word, after in itertools.pairwise(argv) if word == '--config']


def _check_fields(argv: list[str]) -> None:
    """Meets a config file that does not load and a field that does not exist, before absl does."""
    path, _, argument = _given(argv)[-1].partition(':')
    if not Path(path).is_file():
        raise UsageError(f'no config file {path!r}; there are: {_configs(path)}')
    module = runpy.run_path(path)
    if 'get_config' not in module:
        raise UsageError(f'{path} has no function get_config(arg)')
    config = module['get_config'](argument)
    for word in argv:
        if word.startswith('--config.'):
            _walk(config, word.removeprefix('--config.').partition('=')[0])


def _walk(config: ConfigDict, dotted: str) -> None:
    node: Any = config
    for part in dotted.split('.'):
        if not isinstance(node, ConfigDict) or part not in node:
            raise unknown('config field', part, node if isinstance(node, ConfigDict) else (), f' in {dotted!r}')
        node = node[part]


def _configs(wanted: str) -> str:
    folder = Path('configs')
    found = [str(file) for file in folder.rglob('*.py') if not file.name.startswith('_')]
    return ', '.join(nearest(wanted, found)) or 'none here'
