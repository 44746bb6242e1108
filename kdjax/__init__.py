"""kdjax: knowledge distillation in JAX and Flax."""

import importlib
from typing import Any

__version__ = '0.2.0'

# What is loaded when it is first asked for.
_FACE = {'load': 'kdjax.study.recipe.students'}


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_FACE[name]), name)
