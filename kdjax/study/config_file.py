"""What the functions of a config file give; what is wrong with the file is one line that says where."""

import contextlib
import inspect
import runpy
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import UsageError, said


def load(path: str) -> dict[str, Any]:
    """Names that a config file defines.

    Raises:
      UsageError: it does not run, or has no `get_config`.
    """
    with told(path):
        module = runpy.run_path(path)
    if 'get_config' not in module:
        raise UsageError(f'{path} has no function get_config(arg)')
    return module


def config_of(path: str, argument: str) -> ConfigDict:
    """The config that a file gives for an argument.

    Raises:
      UsageError: the file or its function fails, or what it returns is no config.
    """
    config = call(path, 'get_config', argument)
    if not isinstance(config, ConfigDict):
        raise UsageError(f'{path}: get_config must return a ConfigDict, got {type(config).__name__}')
    return config


def call(path: str, name: str, argument: str) -> Any:
    """What a function of a config file returns for an argument, rows of an iterator as a list; None without such one.

    Raises:
      UsageError: the file or the function fails, or is none of one argument.
    """
    function = load(path).get(name)
    if function is None:
        return None
    if not callable(function) or isinstance(function, ModuleType):
        raise UsageError(f'{path}: {name} must be a function {name}(arg), got {type(function).__name__}')
    try:
        inspect.signature(function).bind(argument)
    except TypeError as error:
        raise UsageError(f'{path}: {name}(arg) must take one argument, text that may be empty: {error}') from error
    with told(path):
        result = function(argument)
        result = list(result) if isinstance(result, Iterator) else result
    if result is None:
        raise UsageError(f'{path}: {name}(arg) must return something, got None')
    return result


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """What a config file raises, its exit included, is an error that names the file and the line in it."""
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the file is code of its user, and may raise anything
        raise UsageError(f'{path}{_line(path, error)}: {_said(error)}') from error


def hint(message: str) -> str:
    """What to do where several values were given for a number, as configs had it before 0.2."""
    if not any(kind in message for kind in ('tuple', "could not convert string to float: '(")):
        return ''
    return '; a knob is a number, and candidates that validation chooses from are named in config.search'


def _said(error: BaseException) -> str:
    return f'{said(error)}{hint(str(error)) if str(error).startswith("Could not override field") else ""}'


def _line(path: str, error: BaseException) -> str:
    """':LINE' of the innermost place in the file, where the error has passed one."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == Path(path):
        return f':{error.lineno}'
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == Path(path)]
    return f':{lines[-1]}' if lines else ''
