"""From the command line to a config: what absl and ml_collections report is said in one line, with alternatives."""

import ast
import itertools
import logging
import os
import runpy
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from kdjax.errors import Interrupted, UsageError, nearest, unknown
from kdjax.study.recipe import check
from kdjax.study.recipe.search import Search

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to run. Default: configs/digits.py.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where everything is kept. Default: runs/<name of the config file>.')
MODE = flags.DEFINE_enum(
    'mode', 'run', ['run', 'sweep', 'tune', 'plan', 'report', 'bench', 'list', 'prepare'],
    'Train and report; the same for the sweep of the config file; look for a better setting; print what would run and '
    'its cost; report what is there of a sweep; how fast it trains here; list techniques; prepare a data set on disk.',
)  # fmt: skip
DISTRIBUTED = flags.DEFINE_string('distributed', None, "A run in several processes: 'auto', or HOST:PORT,COUNT,INDEX.")
DATA = flags.DEFINE_string('data', '', 'To prepare: the data set, such as mnist or sst2.')
ORIGINALS = flags.DEFINE_string(
    'originals', '', 'To prepare: folder of its original files, or URL of a mirror; left out, download.'
)
DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'To prepare: where to. Default: TFDS_DATA_DIR or ~/tensorflow_datasets; KDJAX_DATA, if not of TFDS.'
)
DEBUG = flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')
SEARCH = flags.DEFINE_string(
    'search', '', 'Candidates that validation chooses from: "{\'terms.soft.temperature\': (2., 4., 8.)}".'
)


def main(argv: list[str], default: Path, presets: Callable[[], Mapping[str, Any]]) -> int:
    """Does what a command line says. Exit codes: 0 done, 1 an acceptance bar was missed, 2 unusable input, 130
    interrupted and saved.

    Args:
      argv: the command line, program first.
      default: config file of a command line that names none.
      presets: gives the presets that `--mode=list` names beside their techniques, by name.
    """
    command = shlex.join(['python', *argv])
    try:
        return _dispatch(argv, default, presets, command)
    except Interrupted as stop:
        print(f'{stop}; go on with: {command}', file=sys.stderr)
        return 130
    except (UsageError, OSError) as error:
        if '--debug' in argv:
            raise
        place = f': {error.filename or "the workdir"}' if isinstance(error, OSError) else ''
        for line in str(getattr(error, 'strerror', None) or error).splitlines():
            print(f'error: {line}{place}', file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
        # Everything is closed; on a full disk the exit handlers of libraries would try, fail and print once more.
        os._exit(2)


def _dispatch(argv: list[str], default: Path, presets: Callable[[], Mapping[str, Any]], command: str) -> int:
    """Carries out the mode of a command line; returns its exit code."""
    config = parse(argv, flags.FLAGS, CONFIG, default)
    workdir = Path(WORKDIR.value or Path('runs') / name(argv, default.stem))
    rows = listed(argv, 'sweep')
    if MODE.value in ('run', 'bench') or (MODE.value == 'plan' and rows is None):
        check.check(config)  # before JAX is loaded: the answer comes at once
    from kdjax.data import prepare
    from kdjax.study import bench, run
    from kdjax.study.sweep import tune, worker
    from kdjax.train import distributed

    if not DEBUG.value:
        quiet_threads()
    if DISTRIBUTED.value and MODE.value != 'run':
        raise UsageError('--distributed is for --mode=run; processes of a sweep need nothing but its workdir')
    if MODE.value == 'run':
        with distributed.job(DISTRIBUTED.value, os.environ):
            return 0 if run.run(config, workdir, command) else 1
    if MODE.value == 'tune':
        return 0 if tune.run(config, listed(argv, 'space'), workdir, command) else 1
    if MODE.value == 'list':
        show_techniques(presets())
    elif MODE.value == 'prepare':
        print(prepare.prepare(DATA.value, ORIGINALS.value, DATA_DIR.value))
    elif MODE.value == 'bench':
        bench.run(config, workdir, command)
    elif MODE.value == 'plan' and rows is None:
        run.show_plan(config, workdir)
    else:
        worker.MODES[MODE.value](config, rows, workdir, command)
    return 0


def show_techniques(presets: Mapping[str, Any]) -> None:
    """Prints all distillation terms, and which of these presets use them."""
    from kdjax.study.report import technique_list
    from kdjax.train.screen import Screen

    Screen().show(technique_list.listing(technique_list.presets_of(presets)))


def quiet_threads() -> None:
    """One line for what fails in a thread of a library: where it matters, the main thread meets it too and says why."""
    logging.getLogger('absl').setLevel(logging.CRITICAL)
    threading.excepthook = lambda failed: (
        sys.stderr.write(f'in the background: {str(failed.exc_value)[:200]}\n') and None
    )


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
    except UsageError:  # a config's own, which says what is wrong
        raise
    except (flags.Error, TypeError, ValueError) as error:
        raise UsageError(str(error).replace('\n', ' ') + _hint(str(error))) from error
    if rest[1:]:
        raise UsageError(f'unexpected {" ".join(rest[1:])!r}; flags look like --name=value')
    return _with_search(holder.value, argv)


def _with_search(config: ConfigDict, argv: list[str]) -> ConfigDict:
    """The config with the search that the command line gives; a knob that it gives as a number is not searched."""
    search = Search({**config.search, **_candidates(SEARCH.value)}) if SEARCH.value else config.search
    given = [field for word in argv if (field := word.removeprefix('--config.').partition('=')[0]) != word]
    with config.unlocked(), config.ignore_type():
        config.search = search
        searched = search.candidates(config)
        config.search = search.without(field for field in given if field in searched)
    return config


def _candidates(text: str) -> Mapping[str, Any]:
    """Candidates by field, as the command line gives them."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, dict):
        raise UsageError(f'--search must be a mapping such as "{{\'terms.soft.temperature\': (2., 4.)}}", got {text!r}')
    return value


def _hint(message: str) -> str:
    """What to do where several values were given for a number, as configs had it before 0.2."""
    if not any(kind in message for kind in ('tuple', "could not convert string to float: '(")):
        return ''
    return '; a knob is a number, and candidates that validation chooses from are named in config.search'


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
    try:
        config = module['get_config'](argument)
    except TypeError as error:
        if not str(error).startswith('Could not override field'):
            raise
        raise UsageError(f'{path}: {str(error).splitlines()[0]}{_hint(str(error))}') from error
    for word in argv:
        if word.startswith('--config.'):
            _walk(config, word.removeprefix('--config.').partition('=')[0])


def _walk(config: ConfigDict, dotted: str) -> None:
    if dotted == 'search':
        raise UsageError('config.search has a flag of its own: --search="{\'terms.soft.temperature\': (2., 4.)}"')
    node: Any = config
    for part in dotted.split('.'):
        if not isinstance(node, ConfigDict) or part not in node:
            raise unknown('config field', part, node if isinstance(node, ConfigDict) else (), f' in {dotted!r}')
        node = node[part]


def _configs(wanted: str) -> str:
    folder = Path('configs')
    files = [str(file) for file in folder.rglob('*.py') if not file.name.startswith('_')]
    return ', '.join(nearest(wanted, files)) or 'none here'
