"""From a name that users write to the object it stands for.

A technique, network or data set is named by where it lives: ``'fitnets.Hint'`` is ``kdjax.techniques.fitnets.Hint``.
Nothing is registered; an unknown name is answered with the nearest existing one first.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from kdjax.errors import UsageError, unknown


@functools.cache  # a large sweep asks ten thousands of times
def modules(package: str) -> tuple[str, ...]:
    """Names of the modules directly inside `package`."""
    return tuple(info.name for info in pkgutil.iter_modules(importlib.import_module(package).__path__))


def public(module: str) -> Mapping[str, Any]:
    """Public classes and functions that `module` itself defines, by name."""
    loaded = importlib.import_module(module)
    return {
        name: value
        for name, value in vars(loaded).items()
        if not name.startswith('_')
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == loaded.__name__
    }


def resolve(package: str, name: str, kind: str) -> Any:
    """What `name` stands for: 'module.Object' inside `package`, or 'any.module:Object' of the user's own.

    Raises:
      UsageError: no such module or object; lists what exists, nearest first.
    """
    if ':' in name:
        return _own(name, kind)
    module, _, attribute = name.partition('.')
    if module not in modules(package):
        raise unknown(kind, name, modules(package))
    found = public(f'{package}.{module}')
    if attribute not in found:
        raise unknown(kind, name, [f'{module}.{other}' for other in found])
    return found[attribute]


def construct(package: str, name: str, arguments: Mapping[str, Any], kind: str) -> Any:
    """Calls what `name` stands for with `arguments`, naming any argument that it does not take.

    Raises:
      UsageError: unknown name, or an argument that the object does not have.
    """
    target = resolve(package, name, kind)
    accepted = list(inspect.signature(target).parameters)
    for argument in arguments:
        if argument not in accepted:
            raise unknown('argument', argument, accepted, f' of {kind} {name!r}')
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise UsageError(f'{kind} {name!r}: {error}; it takes: {", ".join(accepted)}') from error
    return target(**arguments)


def _own(name: str, kind: str) -> Any:
    module, _, attribute = name.partition(':')
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f'{kind} {name!r}: cannot import {module!r} ({error})') from error
    if not hasattr(loaded, attribute):
        raise unknown(kind, name, [f'{module}:{other}' for other in public(module)])
    return getattr(loaded, attribute)
