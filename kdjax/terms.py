"""Every distillation term by its name, to be used beside others: `from kdjax.terms import SoftTargets`.

A term is called here as its class is. Where classes of two files have one name, the name of the file comes before it.
`kdjax.losses` has those that need no parameters and no memory as plain functions.
"""

import collections
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from kdjax.errors import unknown
from kdjax.resolve import modules, public
from kdjax.techniques.base import Term, is_technique

PACKAGE = 'kdjax.techniques'


def by_name(found: Iterable[tuple[str, type[Term]]]) -> dict[str, type[Term]]:
    """Terms by their names; of (name of the file, class)."""
    found = list(found)
    count = collections.Counter(kind.__name__ for _, kind in found)
    return {
        kind.__name__ if count[kind.__name__] == 1 else file.title().replace('_', '') + kind.__name__: kind
        for file, kind in found
    }


@functools.cache
def kinds() -> Mapping[str, type[Term]]:
    """All terms by name, in the order of the alphabet."""
    found = [(file, kind) for file in modules(PACKAGE) for kind in public(f'{PACKAGE}.{file}').values()]
    return dict(sorted(by_name((file, kind) for file, kind in found if is_technique(kind)).items()))


def __getattr__(name: str) -> Any:
    if name == '__all__':
        return list(kinds())
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if name not in kinds():
        raise AttributeError(str(unknown('term', name, kinds(), f' in {__name__}')))
    return kinds()[name]


def __dir__() -> list[str]:
    return [*globals(), *kinds()]
