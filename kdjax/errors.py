"""The errors that users meet: what they gave cannot be used, or they asked to stop."""

import contextlib
import difflib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_NAME, LONGEST_LIST = 60, 140  # characters of a value that is given, and of the names that are known
LONGEST_SAID = 100  # characters of what an error of other code says
MOST_CONTEXTS = 3  # that an error names


class UsageError(ValueError):
    """Something the user gave cannot be used. Each line of the message names a value and the alternatives.

    It is a ValueError: who uses kdjax's parts in a program of their own need not know it.
    """


class Remark(UserWarning):
    """Something the user gave is used, though perhaps not as they think: what is left out, and how much."""


class Interrupted(Exception):
    """A run was asked to stop, saved what it had, and can be resumed by the same command."""


class Problems:
    """Collects errors, so that all of a config are reported together.

    problems = Problems()
    with problems.collected():
        check_one_thing()
    problems.report()
    """

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, None]] = {}  # each once, in order, with where it was met

    def add(self, message: str, context: str = '') -> None:
        """Notes a problem."""
        self.messages.setdefault(message, {})[context] = None

    @contextlib.contextmanager
    def collected(self, context: str = '') -> Iterator[None]:
        """Notes a UsageError of the block, met in `context`, and ends the block; other errors are not touched."""
        try:
            yield
        except UsageError as error:
            for line in str(error).splitlines():
                self.add(line, context)

    def report(self) -> None:
        """Raises UsageError with all problems, one a line, where there are any; the same of several places is one."""
        if self.messages:
            raise UsageError('\n'.join(_met(list(filter(None, c))) + said for said, c in self.messages.items()))


def _met(contexts: list[str]) -> str:
    several = f' and {len(contexts) - MOST_CONTEXTS} more' if len(contexts) > MOST_CONTEXTS else ''
    return f'{", ".join(contexts[:MOST_CONTEXTS])}{several}: ' if contexts else ''


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, and cut where it is long."""
    text = ' '.join(repr(value).split())
    return text if len(text) <= LONGEST_NAME else f'{text[:LONGEST_NAME]}... ({len(text)} characters)'


def said(error: BaseException) -> str:
    """What an error of somebody else's code says, on one line that is not long."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:LONGEST_SAID]}{" ..." if len(text) > LONGEST_SAID else ""}'


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names, most similar to `name` first."""
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))


def unknown(kind: str, name: Any, known: Iterable[str], context: str = '') -> UsageError:
    """The error for a name that does not exist: says what does, nearest first, as far as a line goes."""
    names = [repr(other) for other in nearest(str(name)[:LONGEST_NAME], known)]
    lengths = itertools.accumulate(len(other) + 2 for other in names)
    fitting = sum(length <= LONGEST_LIST for length in lengths)
    more = f' and {len(names) - fitting} more' if fitting < len(names) else ''
    return UsageError(f'unknown {kind} {shown(name)}{context}; there is: {", ".join(names[:fitting]) or "none"}{more}')
