"""Distillation losses as plain functions of arrays, for a training loop of one's own:

    loss = losses.soft_targets(student_logits, teacher_logits, temperature=4.0).mean()

Each is made of a term that learns and remembers nothing, and is named as its class is; `dir(kdjax.losses)` lists them
and `help` has the equation and the paper of each. Values are per example (B,) or per token (B, N), not averaged. All
are differentiable on both sides and stop no gradient but where their papers do: where a teacher is trained beside the
student, put `jax.lax.stop_gradient` round what it says. Numbers such as temperatures may be traced; everything else
chooses the program. What learns or remembers, and examples that lie on several
devices, are for `kdjax.objective`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from kdjax.errors import unknown
from kdjax.face.arguments import is_plain
from kdjax.face.functions import function
from kdjax.techniques.base import Term
from kdjax.terms import kinds
from kdjax.types import Array


@functools.cache
def named() -> Mapping[str, type[Term]]:
    """The classes of terms that are functions, by the names of those, in the order of the alphabet."""
    return {snake_case(name): kind for name, kind in kinds().items() if is_plain(kind)}


@functools.cache
def made(name: str) -> Callable[..., Array]:
    """The function of that name."""
    return function(name, named()[name], __name__)


def functions() -> dict[str, Callable[..., Array]]:
    """All of them by name."""
    return {name: made(name) for name in named()}


def snake_case(name: str) -> str:
    """The name of a function for that of a class: 'SkewReverseKL' is 'skew_reverse_kl'."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', '_', name).lower()


def __getattr__(name: str) -> Any:
    if name == '__all__':
        return list(named())
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if name not in named():
        raise AttributeError(str(unknown('loss', name, named(), f' in {__name__}')))
    return made(name)


def __dir__() -> list[str]:
    return list(named())
