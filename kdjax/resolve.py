"""From a name that users write to the object it stands for.

A technique, network or data set is named by where it lives: ``'fitnets.Hint'`` is ``kdjax.techniques.fitnets.Hint``.
Nothing is registered; an unknown name is answered with the nearest existing one first.
"""

import collections.abc
import functools
import importlib
import importlib.util
import inspect
import math
import numbers
import pkgutil
import types
import typing
from collections.abc import Mapping
from typing import Any

from kdjax.errors import Interrupted, UsageError, said, shown, unknown


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
      UsageError: unknown name, or as `called`.
    """
    return called(resolve(package, name, kind), f'{kind} {shown(name)}', arguments)


def called(target: Any, what: str, arguments: Mapping[str, Any]) -> Any:
    """Calls a function or class that a config names, its arguments held against their annotations.

    Args:
      target: what is called.
      what: what errors call it.
      arguments: by name.

    Raises:
      UsageError: an argument that it does not have, lacks, or cannot use; or whatever it raises, which may be a
        user's own code.
    """
    signature = signature_of(target, what)
    for argument in arguments:
        if argument not in signature.parameters:
            raise unknown('argument', argument, signature.parameters, f' of {what}')
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UsageError(f'{what}: {error}; it takes: {", ".join(signature.parameters)}') from error
    for argument, value in arguments.items():
        parameter = signature.parameters[argument]
        if not is_a(value, parameter.annotation) and not _same(value, parameter.default):
            wanted = inspect.formatannotation(parameter.annotation)
            raise UsageError(f'{argument} of {what} must be {wanted}, got {shown(value)}')
    try:
        return target(**arguments)
    except (UsageError, Interrupted, OSError):
        raise
    except Exception as error:
        raise UsageError(f'{what} fails with {said(error)} (--debug shows where)') from error


def signature_of(target: Any, what: str) -> inspect.Signature:
    """The signature of something that a config names, annotations evaluated where they can be.

    Raises:
      UsageError: it is nothing that can be called.
    """
    if not callable(target):
        raise UsageError(f'{what} is {shown(target)}, which cannot be called')
    try:
        return inspect.signature(target, eval_str=True)
    except (NameError, TypeError, AttributeError):  # annotations that are text, of what is imported for type checkers
        return inspect.signature(target)
    except ValueError as error:
        raise UsageError(f'{what} does not say which arguments it takes') from error


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value of a config is what an annotation asks for; numbers must be finite. True where it cannot tell."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return value is None
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    if kind in (str, bool):
        return isinstance(value, kind)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(is_a(value, one) for one in inner)
    if origin in (collections.abc.Mapping, dict):
        return hasattr(value, 'items') and all(is_a(one, inner[1]) for one in dict(value.items()).values())
    if origin is tuple and inner[-1] is not Ellipsis:
        return isinstance(value, tuple | list) and len(value) == len(inner) and all(map(is_a, value, inner))
    if origin in (tuple, list, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, tuple | list) and all(is_a(one, inner[0]) for one in value)
    return True


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _own(name: str, kind: str) -> Any:
    module, _, attribute = name.partition(':')
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f'{kind} {shown(name)}: cannot import {shown(module)} ({said(error)})') from error
    except Exception as error:  # code of the user's own, or what is no name of a module
        raise UsageError(f'{kind} {shown(name)}: importing it fails with {said(error)}') from error
    if not hasattr(loaded, attribute):
        raise unknown(kind, name, [f'{module}:{other}' for other in public(module)])
    return getattr(loaded, attribute)
