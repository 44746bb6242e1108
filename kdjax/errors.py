"""The errors that users meet: what they gave cannot be used, or they asked to stop."""

import contextlib
import difflib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST_NAME, LONGEST_LIST = 60, 160  # characters of a name that is not known, and of those that are


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
        self.messages: dict[str, None] = {}  # each once, in order

    def add(self, message: str) -> None:
        """Notes a problem."""
        self.messages[message] = None

    @contextlib.contextmanager
    def collected(self, context: str = '') -> Iterator[None]:
        """Notes a UsageError of the block, after `context`, and ends the block; other errors are not touched."""
        try:
            yield
        except UsageError as error:
            for line in str(error).splitlines():
                self.add(f'{context}{line}')

    def report(self) -> None:
        """Raises UsageError with all problems, one a line, where there are any."""
        if self.messages:
            raise UsageError('\n'.join(self.messages))


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names, most similar to `name` first."""
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))


def unknown(kind: str, name: Any, known: Iterable[str], context: str = '') -> UsageError:
    """The error for a name that does not exist: says what does, nearest first, as far as a line goes."""
    text = str(name)
    given = repr(name) if len(text) <= LONGEST_NAME else f'{text[:LONGEST_NAME]!r}... ({len(text)} characters)'
    names = [repr(other) for other in nearest(text[:LONGEST_NAME], known)]
    lengths = itertools.accumulate(len(other) + 2 for other in names)
    shown = sum(length <= LONGEST_LIST for length in lengths)
    more = f' and {len(names) - shown} more' if shown < len(names) else ''
    return UsageError(f'unknown {kind} {given}{context}; there is: {", ".join(names[:shown]) or "none"}{more}')
