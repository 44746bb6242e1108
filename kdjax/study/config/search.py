"""What validation chooses: `config.search`, the candidates of knobs by field.

    config.search = Search({'terms.soft.temperature': (2.0, 4.0, 8.0), 'fits.*.learning_rate': (3e-3, 1e-2)})

A run trains all candidates of a fit as one grid and goes on with the best; a sweep has each as an axis of its own;
tuning looks among them. A field without a star is more particular than one with it. What is searched does not take the
number that the config has.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import UsageError, shown
from kdjax.study.config import fields


class Search(Mapping[str, tuple[float, ...]]):
    """Candidates by field; immutable.

    Raises:
      UsageError: candidates that are no numbers, or none.
    """

    def __init__(self, candidates: Mapping[str, Sequence[float]] = {}, fixed: Iterable[str] = ()) -> None:
        self._candidates = {field: _numbers(field, values) for field, values in candidates.items()}
        self.fixed = frozenset(fixed)  # fields that were given since: a star does not reach them

    def __getitem__(self, field: str) -> tuple[float, ...]:
        return self._candidates[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self._candidates)

    def __len__(self) -> int:
        return len(self._candidates)

    def __repr__(self) -> str:
        return f'Search({self._candidates!r})'

    def without(self, given: Iterable[str]) -> 'Search':
        """The search less fields that have a number of their own now."""
        given = set(given)
        return Search({name: values for name, values in self.items() if name not in given}, self.fixed | given)

    def candidates(self, config: ConfigDict) -> dict[str, tuple[float, ...]]:
        """Candidates of every field of `config`, without stars.

        Raises:
          UsageError: a field that does not exist, or one that two fields with stars stand for.
        """
        result: dict[str, tuple[float, ...]] = {}
        for field in sorted(self, key=lambda field: '*' not in field):  # the particular ones last
            for name in fields.find(config, field):
                if name in self.fixed:
                    continue
                if name in result and '*' in field:
                    raise UsageError(f'config.search: two fields stand for {name!r}; name it without a star')
                result[name] = self[field]
        return result


def combinations(knobs: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the knobs that have several values, by name; [{}] where none has."""
    varied = {name: values for name, values in knobs.items() if len(values) > 1}
    return [dict(zip(varied, combination, strict=True)) for combination in itertools.product(*varied.values())]


def number(name: str, value: Any) -> float:
    """A knob's number.

    Raises:
      UsageError: it is none; of several it says where they belong.
    """
    if isinstance(value, tuple | list):
        raise UsageError(
            f'{name} must be a number, got {shown(value)}; candidates that validation chooses from are named in '
            f"config.search: {{'{name}': {shown(tuple(value))}}}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f'{name} must be a finite number, got {shown(value)}')
    return float(value)


def _numbers(field: str, values: Any) -> tuple[float, ...]:
    if not isinstance(field, str):
        raise UsageError(f'config.search: a field is text, got {shown(field)}')
    if not isinstance(values, tuple | list) or not values:
        raise UsageError(f"config.search: candidates of '{field}' must be several numbers, got {shown(values)}")
    for value in values:
        number(f"config.search: a candidate of '{field}'", value)
    return tuple(values)
