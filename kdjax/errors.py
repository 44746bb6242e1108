"""The errors that users meet: what they gave cannot be used, or they asked to stop."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


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


def unknown(kind: str, name: str, known: Iterable[str], context: str = '') -> UsageError:
    """The error for a name that does not exist: says what does, nearest first."""
    choices = ', '.join(repr(other) for other in nearest(name, known)) or 'none'
    return UsageError(f'unknown {kind} {name!r}{context}; there is: {choices}')
