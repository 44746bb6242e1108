"""kdjax: knowledge distillation in JAX and Flax."""

__version__ = '0.2.0'


def __getattr__(name: str) -> object:
    if name == 'load':
        from kdjax.study.recipe.students import load

        return load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
