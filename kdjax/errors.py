"""The errors that users meet: what they gave cannot be used, or they asked to stop."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something the user gave cannot be used. The message is one line that names the value and the alternatives."""


class Interrupted(Exception):
    """A run was asked to stop, saved what it had, and can be resumed by the same command."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names, most similar to `name` first."""
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))


def unknown(kind: str, name: str, known: Iterable[str], context: str = '') -> UsageError:
    """The error for a name that does not exist: says what does, nearest first."""
    choices = ', '.join(repr(other) for other in nearest(name, known)) or 'none'
    return UsageError(f'unknown {kind} {name!r}{context}; there is: {choices}')
