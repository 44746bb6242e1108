"""kdjax: knowledge distillation in JAX and Flax.

In a training loop of your own: `kdjax.losses` has distillation losses as functions of arrays, `kdjax.objective` sums
terms of `kdjax.terms` up, with what they learn and remember. `kdjax.load` loads a student that a run has trained.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kdjax.version import __version__ as __version__

if TYPE_CHECKING:
    from kdjax import losses, terms, testing
    from kdjax.errors import UsageError
    from kdjax.face.objective import Distillation, objective
    from kdjax.nets.adapters import from_function, from_nnx
    from kdjax.nets.base import from_linen, tap
    from kdjax.study.recipe.students import load
    from kdjax.techniques.base import Term
    from kdjax.types import Net, Outputs

__all__ = [
    'Distillation', 'Net', 'Outputs', 'Term', 'UsageError', 'from_function', 'from_linen', 'from_nnx', 'load', 'losses',
    'objective', 'tap', 'terms', 'testing',
]  # fmt: skip

# What is loaded when it is first asked for.
_MODULES = ('losses', 'terms', 'testing')
_FACE = {
    'Distillation': 'kdjax.face.objective',
    'Net': 'kdjax.types',
    'Outputs': 'kdjax.types',
    'Term': 'kdjax.techniques.base',
    'UsageError': 'kdjax.errors',
    'from_function': 'kdjax.nets.adapters',
    'from_linen': 'kdjax.nets.base',
    'from_nnx': 'kdjax.nets.adapters',
    'load': 'kdjax.study.recipe.students',
    'objective': 'kdjax.face.objective',
    'tap': 'kdjax.nets.base',
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f'kdjax.{name}')
    if name not in _FACE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_FACE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
