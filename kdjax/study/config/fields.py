"""The fields of a config by dotted name, with stars: how they are found, and how values are put into them.

A star stands for every entry that has the rest of the path: 'terms.*.temperature' is the temperature of every term that
sets one.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import UsageError, unknown

# Parts of a config in which names are the user's, so that a value may be added.
OPEN = ('terms', 'fits', 'methods', 'assistants', 'weights', 'args', 'optim', 'augment', 'task', 'start', 'preprocess',
        'change', 'data_args')  # fmt: skip


def find(config: ConfigDict, field: str) -> list[str]:
    """The dotted fields that `field` stands for; several, or none that exists, only where it has stars.

    Raises:
      UsageError: no such field.
    """
    return ['.'.join([*way, last]) for way, _, last in _places(config, field)]


def put(config: ConfigDict, field: str, value: Any) -> None:
    """Puts a value into all that `field` stands for, in an unlocked config.

    Raises:
      UsageError: a field that does not exist, or a value of another type than the field's.
    """
    for _, parent, last in _places(config, field):
        parent[last] = _as_field(field, parent.get(last), value)


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A locked copy of `config` with other values, by field. A field that is given is not searched any more.

    Raises:
      UsageError: a field that does not exist, or a value of another type than the field's.
    """
    new = config.copy_and_resolve_references()
    with new.unlocked(), new.ignore_type():
        for field, value in changes.items():
            put(new, field, value)
            if field != 'search' and new.search:
                new.search = new.search.without(find(new, field))
    return new.lock()


def _places(config: ConfigDict, field: str) -> list[tuple[tuple[str, ...], ConfigDict, str]]:
    """Where a dotted field lies: the way to a mapping, the mapping, and the key in it."""
    *way, last = field.split('.')
    nodes: list[tuple[tuple[str, ...], ConfigDict]] = [((), config)]
    path = ''
    for part in way:
        if part == '*':
            nodes = [
                ((*before, name), node[name])
                for before, node in nodes for name in sorted(node) if isinstance(node[name], ConfigDict)
            ]  # fmt: skip
        else:
            for _, node in nodes:
                if part not in node or not isinstance(node[part], ConfigDict):
                    raise unknown('config field', part, node, f' in {field!r}')
            nodes = [((*before, part), node[part]) for before, node in nodes]
        path = part
    if '*' in way:
        nodes = [(before, node) for before, node in nodes if last in node]
        if not nodes:
            raise UsageError(f'no field of the config is like {field!r}')
    elif last not in nodes[0][1] and path not in OPEN and 'terms' not in way:
        raise unknown('config field', last, nodes[0][1], f' in {field!r}')
    return [(before, node, last) for before, node in nodes]


def _as_field(field: str, old: Any, new: Any) -> Any:
    """`new` as the field takes it: a mapping is a ConfigDict, one value of a tuple a tuple of one."""
    if isinstance(new, Mapping) and not isinstance(new, type(old)):
        return ConfigDict(new)
    if isinstance(old, tuple) and not isinstance(new, tuple | list):
        return (new,)
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    if old is not None and type(old) is not type(new) and not (isinstance(old, tuple) and isinstance(new, list)):
        raise UsageError(f'{field} must be of type {type(old).__name__}, got {new!r}')
    return tuple(new) if isinstance(new, list) else new
