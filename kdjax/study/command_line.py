"""From the command line to a config: what absl and ml_collections report is said in one line, with alternatives."""

import ast
import itertools
import logging
import os
import shlex
import shutil
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from kdjax.cpu import allocator, effort
from kdjax.errors import Interrupted, Remark, UsageError, nearest, shown, unknown
from kdjax.study import config_file, help, options
from kdjax.study.config import arguments, check
from kdjax.study.config.search import Search
from kdjax.study.sweep import rows

_formatted = warnings.formatwarning
LONGEST_LINE, MOST_LINES = 300, 20  # characters of an error and lines of all


def main(argv: list[str], default: Path, presets: Callable[[], Mapping[str, Any]]) -> int:
    """Does what a command line says. Exit codes: 0 done, 1 an acceptance bar was missed, 2 unusable input, 3 a
    fault of the program, with its traceback, 130 interrupted and saved.

    Args:
      argv: the command line, program first.
      default: config file of a command line that names none.
      presets: gives the presets that `--mode=list` names beside their techniques, by name.
    """
    command = shlex.join(['python', *argv])
    try:
        if any(word in help.ASKED for word in argv[1:]):
            print(_help(argv, default))
            return 0
        return _dispatch(argv, default, presets, command)
    except Interrupted as stop:
        print(f'{stop}; go on with: {command}', file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print(f'stopped by SIGINT; what was saved is there; go on with: {command}', file=sys.stderr)
        return 130
    except (UsageError, OSError) as error:
        if '--debug' in argv:
            raise
        place = f': {error.filename or "the workdir"}' if isinstance(error, OSError) else ''
        lines = str(getattr(error, 'strerror', None) or error).splitlines()
        for line in lines[:MOST_LINES]:
            print(f'error: {_cut(line + place)}', file=sys.stderr)
        if lines[MOST_LINES:]:
            print(f'error: and {len(lines) - MOST_LINES} more', file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
        # Everything is closed; on a full disk the exit handlers of libraries would try, fail and print once more.
        os._exit(2)
    except Exception:
        traceback.print_exc()
        return 3  # not 1: a script can tell it from a missed bar


def _cut(line: str) -> str:
    """A line, without its middle where it is too long to be read: first is what is wrong, last what there is."""
    return line if len(line) <= LONGEST_LINE else f'{line[: LONGEST_LINE - 105]} ... {line[-100:]}'


def _help(argv: list[str], default: Path) -> str:
    """What `--help` says: of the config file where one is named, else of the program."""
    if not _given(argv):
        return help.general(options.MODES, {flag: str(flags.FLAGS[flag].help) for flag in options.names(flags.FLAGS)})
    path, _, _ = _given(argv)[-1].partition(':')
    config = parse([word for word in argv if word not in help.ASKED], flags.FLAGS, options.CONFIG, default)
    return help.of_config(path, config, default.with_name('base.py'))


def _dispatch(argv: list[str], default: Path, presets: Callable[[], Mapping[str, Any]], command: str) -> int:
    """Carries out the mode of a command line; returns its exit code."""
    config = parse(argv, flags.FLAGS, options.CONFIG, default)
    workdir = Path(options.WORKDIR.value or Path('runs') / name(argv, default.stem))
    options.check()
    if options.MODE.value == 'list':
        show_techniques(presets)
        return 0
    if options.MODE.value in ('prepare', 'export', 'new'):
        _aside(workdir)
        return 0
    # Before JAX is loaded: the answer comes at once.
    check.check_fields(config)
    listed = called(argv, 'space' if options.MODE.value == 'tune' else 'sweep')
    if options.MODE.value in ('sweep', 'plan', 'report') and listed is not None:
        listed = rows.checked(listed)
    elif options.MODE.value != 'sweep':  # whose rows have yet to say what the config is
        check.check(config)
    return _on_config(config, listed, workdir, command)


def _aside(workdir: Path) -> None:
    """The modes that need no config."""
    from kdjax.data import prepare
    from kdjax.study import new
    from kdjax.study.recipe import students

    if options.MODE.value == 'prepare':
        print(prepare.prepare(options.DATA.value, options.ORIGINALS.value, options.DATA_DIR.value))
    elif options.MODE.value == 'new':
        print(new.create(options.TO.value))
    else:
        chosen = options.METHOD.value, options.SIZE.value, options.STUDENT_SEED.value
        print(students.export(workdir, *chosen, options.TO.value, options.FORMATS.value))


def _on_config(config: ConfigDict, listed: Any, workdir: Path, command: str) -> int:
    """The modes of a config, which is checked as far as it shows by itself; returns the exit code."""
    # Before JAX is loaded: a thread that it has begun keeps a heap of its own, whatever is said later.
    allocator.keep_buffers(os.environ)
    if not config.run.optimise:
        effort.save(os.environ)
    from kdjax.study import bench, run
    from kdjax.study.sweep import tune, worker
    from kdjax.train import distributed

    warnings.formatwarning = one_line
    if not options.DEBUG.value:
        quiet_threads()
    if options.MODE.value == 'run':
        with distributed.job(options.DISTRIBUTED.value, os.environ):
            return 0 if run.run(config, workdir, command) else 1
    if options.MODE.value == 'tune':
        return 0 if tune.run(config, listed, workdir, command) else 1
    if options.MODE.value == 'bench':
        bench.run(config, workdir, command)
    elif options.MODE.value == 'plan' and listed is None:
        run.show_plan(config, workdir)
    elif options.MODE.value == 'report' and listed is None:
        run.run(config, workdir, command, train=False)
    else:
        worker.MODES[options.MODE.value](config, listed, workdir, command)
    return 0


def show_techniques(presets: Callable[[], Mapping[str, Any]]) -> None:
    """Prints the techniques that the flags choose, or all about one of them."""
    from kdjax.study import listing

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if options.TERM.value:
        print(listing.details(options.TERM.value, presets()))
    else:
        print(listing.listing(listing.selected(options.READS.value, options.NEEDS.value, options.TASK.value), width))


def one_line(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    """A remark on what the user gave as a line of its own; other warnings as Python has them."""
    return f'note: {message}\n' if issubclass(category, Remark) else _formatted(message, category, *place, **line)


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
    importable(*_beside(_given(argv)[-1].partition(':')[0]), Path.cwd())
    further = _check_fields(argv)
    try:
        rest = _parsed(
            [word for word in argv if word.removeprefix('--config.').partition('=')[0] not in further], values
        )
    except flags.UnrecognizedFlagError as error:
        raise unknown('flag', error.flagname, nearest(error.flagname, {*options.names(values), 'help'})[:5]) from error
    except UsageError:  # a config's own, which says what is wrong
        raise
    except (flags.Error, TypeError, ValueError) as error:
        raise UsageError(str(error).replace('\n', ' ') + config_file.hint(str(error))) from error
    if rest[1:]:
        raise UsageError(f'unexpected {" ".join(rest[1:])!r}; flags look like --name=value')
    return _with_search(arguments.extended(holder.value, further), argv)


def _parsed(argv: list[str], values: flags.FlagValues) -> list[str]:
    """What is left of a command line by its flags. ml_collections looks for fields of the config in sys.argv."""
    whole, sys.argv = sys.argv, argv
    try:
        return list(values(argv))
    finally:
        sys.argv = whole


def _beside(config: str) -> tuple[Path, Path]:
    """The folder of a config file, and, where that is a package, the one from which the package is imported."""
    folder = Path(config).resolve().parent
    return folder, next(up for up in (folder, *folder.parents) if not (up / '__init__.py').exists())


def importable(*folders: Path) -> None:
    """Modules beside the config file and in the working folder can be named; what is installed goes first."""
    sys.path.extend(place for folder in folders if (place := str(folder.resolve())) not in sys.path)


def _with_search(config: ConfigDict, argv: list[str]) -> ConfigDict:
    """The config with the search that the command line gives; a knob that it gives as a number is not searched."""
    if not isinstance(config.get('search'), Search):  # which is said with all else that is wrong
        return config
    search = Search({**config.search, **_candidates(options.SEARCH.value)}) if options.SEARCH.value else config.search
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


def called(argv: list[str], function: str) -> Any:
    """What a function of the config file, `sweep(arg)` or `space(arg)`, returns; None where it has none."""
    if not _given(argv):
        return None
    path, _, argument = _given(argv)[-1].partition(':')
    return config_file.call(path, function, argument)


def name(argv: list[str], default: str) -> str:
    """Name of the config file, for the default workdir; of its folder, where it is called 'config' itself."""
    if not _given(argv):
        return default
    path = Path(_given(argv)[-1].partition(':')[0]).resolve()
    return path.parent.name if path.stem == 'config' else path.stem


def _given(argv: list[str]) -> list[str]:
    joined = [word.partition('=')[2] for word in argv if word.startswith('--config=')]
    return joined + [after for word, after in itertools.pairwise(argv) if word == '--config']


def _check_fields(argv: list[str]) -> dict[str, str]:
    """Meets a config file that does not load and a field that does not exist, before absl does.

    Returns:
      What is given of arguments that the config does not list, by field.
    """
    path, _, argument = _given(argv)[-1].partition(':')
    if not Path(path).is_file():
        raise UsageError(f'no config file {shown(path)}; the nearest: {_configs(path)}')
    config = config_file.config_of(path, argument)
    further = {}
    for word in argv:
        if word.startswith('--config.'):
            field, equals, text = word.removeprefix('--config.').partition('=')
            if not _walk(config, field) and equals:
                further[field] = text
    return further


def _walk(config: ConfigDict, dotted: str) -> bool:
    """Whether the config has a field; one that it does not have may be an argument of what it names."""
    if dotted == 'search':
        raise UsageError('config.search has a flag of its own: --search="{\'terms.soft.temperature\': (2., 4.)}"')
    node: Any = config
    for part in dotted.split('.'):
        if not isinstance(node, ConfigDict) or part not in node:
            *way, last = dotted.split('.')
            if isinstance(node, ConfigDict) and part == last and arguments.open_part(config, way):
                return False
            raise unknown('config field', part, node if isinstance(node, ConfigDict) else (), f' in {dotted!r}')
        node = node[part]
    return True


def _configs(wanted: str) -> str:
    folder = Path('configs')
    files = [str(file) for file in folder.rglob('*.py') if not file.name.startswith('_')]
    return ', '.join(nearest(wanted, files)[:5]) or 'none here'
