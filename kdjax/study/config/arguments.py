"""Arguments that a config does not list and that a network, term, source or optimiser takes all the same."""

import ast
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import shown, unknown
from kdjax.resolve import resolve, signature_of


def open_part(config: ConfigDict, way: list[str]) -> bool:
    """Whether the part of the config at `way` holds arguments of something that is named there."""
    return way[-1:] in (['args'], ['optim']) or 'kind' in _at(config, way)


def extended(config: ConfigDict, given: Mapping[str, str]) -> ConfigDict:
    """A config with arguments that it does not list, by dotted field, as text.

    Raises:
      UsageError: what the config names there does not take such an argument, or does not exist.
    """
    with config.unlocked(), config.ignore_type():
        for field, text in given.items():
            *way, name = field.split('.')
            known = _accepted(config, way)
            if name not in known:
                raise unknown('argument', name, known, f' in {field!r}')
            _at(config, way)[name] = _value(text)
    return config


def _at(config: ConfigDict, way: list[str]) -> Any:
    node = config
    for part in way:
        node = node[part]
    return node


def _accepted(config: ConfigDict, way: list[str]) -> list[str]:
    """The arguments that what the config names at `way` takes."""
    if way[-1] == 'optim':
        from kdjax.train import optim

        return [name for name in signature_of(optim.build, 'the optimiser').parameters if name != 'steps']
    where, node = _at(config, way[:-1]), _at(config, way)
    if way == ['data', 'args']:
        package, name = 'kdjax.data', 'tfds.prepared' if where.source.startswith('tfds:') else where.source
    elif way[-1] == 'args':
        package, name = 'kdjax.nets', where.net
    else:
        package = {'terms': 'kdjax.techniques', 'task': 'kdjax.tasks'}.get(way[0], 'kdjax.data')
        name = node.kind
    return list(signature_of(resolve(package, name, 'object'), shown(name)).parameters)


def _value(text: str) -> Any:
    """A Python literal, or else the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return ConfigDict(value) if isinstance(value, dict) else value
