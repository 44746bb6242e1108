"""What a field of a config may be: kinds of rules, which say all that is wrong with a value."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol

from ml_collections import ConfigDict

from kdjax.errors import UsageError, shown, unknown
from kdjax.study.config.search import number

MOST = 2**31 - 1  # of any count: beyond it indices would need more than 32 bits


class Problem(NamedTuple):
    """What is wrong with a field."""

    field: str
    said: str  # after the field's name; or all of it, where that is empty
    typed: bool = False  # whether it has the type that it must have all the same, so that others can be held against it


class Rule(Protocol):
    """What a field may be."""

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        """All that is wrong with the value of a field, by its dotted name, and with what is in it."""
        ...


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of a type, within bounds.

    Attributes:
      wanted: after 'must be'.
      typed: whether a value has the type.
      within: whether one of the type may be.
    """

    wanted: str
    typed: Callable[[Any], bool]
    within: Callable[[Any], bool] = lambda value: True

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        typed = self.typed(value)
        if not typed or not self.within(value):
            yield Problem(field, f'must be {self.wanted}, got {shown(value)}', typed)


@dataclasses.dataclass(frozen=True)
class Whole:
    """An integer."""

    least: int
    most: int

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        typed = is_whole(value)
        if not typed or not self.least <= value <= self.most:
            plenty = self.most == MOST and not (typed and value > self.most)  # a bound that nobody meets by chance
            wanted = f'>= {self.least}' if plenty else f'from {self.least} to {self.most}'
            yield Problem(field, f'must be an integer {wanted}, got {shown(value)}', typed)


@dataclasses.dataclass(frozen=True)
class Knob:
    """A number that flows through the program, >= 0."""

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        try:
            number(field, value)
        except UsageError as error:  # which says where several numbers belong
            yield Problem('', str(error))
        else:
            yield from NOT_NEGATIVE.problems(field, value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several words."""

    choices: tuple[str, ...]

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        if value not in self.choices:
            yield Problem('', str(unknown(field, value, self.choices)), isinstance(value, str))


@dataclasses.dataclass(frozen=True)
class Many:
    """Any number of values."""

    rule: Rule

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, tuple | list):
            yield Problem(field, f'must be a tuple, got {shown(value)}')
            return
        found = (self.rule.problems(f'{field}[{place}]', one) for place, one in enumerate(value))
        yield from next(filter(None, map(list, found)), [])  # of the first that is wrong: a field is one line


@dataclasses.dataclass(frozen=True)
class Named:
    """A mapping from names of the user's own."""

    rule: Rule

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        yield from _names(field, value)
        for name, one in _entries(value):
            yield from self.rule.problems(f'{field}.{name}', one)


@dataclasses.dataclass(frozen=True)
class Part:
    """A mapping of certain fields, and no others unless it is open.

    Attributes:
      fields: name -> rule.
      optional: names that may be left out; all of them, where that is True.
      rest: of fields that are not named here; None where there are none.
    """

    fields: Mapping[str, Rule]
    optional: tuple[str, ...] = ()
    rest: Rule | None = None

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        wrong = list(_names(field, value))
        yield from wrong
        if wrong:
            return
        others = [(name, one) for name, one in _entries(value) if name not in self.fields]
        for name, rule in self.fields.items():
            if name in value:
                yield from rule.problems(_joined(field, name), value[name])
            elif name not in self.optional and (self.rest or not others):  # an unknown one may be it, misspelt
                yield Problem(_joined(field, name), 'is missing')
        for name, one in others:
            if self.rest is None:
                yield Problem('', str(unknown('config field', name, self.fields, f' in {_joined(field, name)!r}')))
            else:
                yield from self.rest.problems(_joined(field, name), one)


@dataclasses.dataclass(frozen=True)
class Plain:
    """An argument of something that is named: what JSON has, so that it has an address."""

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        if isinstance(value, ConfigDict):
            yield from Named(self).problems(field, value)
        elif isinstance(value, tuple | list):
            yield from Many(self).problems(field, value)
        elif isinstance(value, Real) and not math.isfinite(value):
            yield Problem(field, f'must be finite, got {shown(value)}')
        elif not (value is None or isinstance(value, str | Real)):
            yield Problem(field, f'must be a number, text, True, False, None or several of them, got {shown(value)}')


@dataclasses.dataclass(frozen=True)
class Several:
    """One, or any number in a tuple."""

    rule: Rule

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, tuple | list):
            yield from self.rule.problems(field, value)
        elif not value:
            yield Problem(field, 'must be one or several, got none')
        for place, one in enumerate(value if isinstance(value, tuple | list) else ()):
            yield from self.rule.problems(f'{field}[{place}]', ConfigDict(one) if isinstance(one, dict) else one)


@dataclasses.dataclass(frozen=True)
class Optional:
    """A mapping that may be empty."""

    rule: Rule

    def problems(self, field: str, value: Any) -> Iterator[Problem]:
        if not isinstance(value, ConfigDict) or len(value):
            yield from self.rule.problems(field, value)


def _names(field: str, value: Any) -> Iterator[Problem]:
    """What is wrong with something that must be a mapping, and with its names."""
    if not isinstance(value, ConfigDict):
        yield Problem(field or 'the config', f'must be a mapping, got {shown(value)}')
        return
    for name in _keys(value):
        if not isinstance(name, str):
            yield Problem(field, f'must have text as names, got {shown(name)}')


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ConfigDict):
        yield from ((name, value[name]) for name in _keys(value) if isinstance(name, str))


def _keys(value: ConfigDict) -> list[Any]:
    return sorted(value._fields, key=str)  # its own order fails on names of several types


def _joined(field: str, name: str) -> str:
    return f'{field}.{name}' if field else name


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def are_whole(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(is_whole, value))


def whole(least: int = 1, most: int = MOST) -> Whole:
    """An integer within bounds."""
    return Whole(least, most)


def real(least: float = 0.0, most: float = math.inf) -> Value:
    """A number that is finite."""
    bounds = f'in [{least:g}, {most:g}]' if most < math.inf else f'>= {least:g}' if least > -math.inf else ''
    return Value(f'a finite number {bounds}'.strip(), _is_number,
                 lambda value: math.isfinite(value) and least <= value <= most)  # fmt: skip


NOT_NEGATIVE = real()
