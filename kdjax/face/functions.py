"""A term as a plain function of arrays, in the manner of optax."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.face.arguments import COLUMN, check_given, columns, filled, own_fields, plain_fields, readings, slots
from kdjax.face.docstrings import docstring
from kdjax.techniques.base import Term
from kdjax.train.objective import check_classes, shown, spread_mask
from kdjax.types import Array, Outputs, TermInputs

POSITIONAL, KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


def function(name: str, kind: type[Term], module: str) -> Callable[..., Array]:
    """The function of that name which has the values of plain terms of a class; its signature and docstring say how."""
    signature = signature_of(kind)

    def loss(*args: Any, **kwargs: Any) -> Array:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f'{name}(): {error}; it takes {signature}') from None
        with _of(name):
            return _values(kind, bound.arguments)

    loss.__name__ = loss.__qualname__ = name
    loss.__module__ = module
    loss.__doc__ = docstring(kind, signature)
    loss.__signature__ = signature  # type: ignore[attr-defined]
    return loss


def signature_of(kind: type[Term]) -> inspect.Signature:
    """Arrays of both sides, labels, then numbers and fields of the term; by keyword alone what it draws with, the step
    that it counts, and what is real."""
    always, sometimes = _arrays(kind)
    arrays = [inspect.Parameter(name, POSITIONAL, annotation=type) for name, type in always.items()]
    arrays += [_optional(name, POSITIONAL, type) for name, type in sometimes.items()]
    fields = [
        inspect.Parameter(field.name, POSITIONAL, default=field.default, annotation=_type(field))
        for field in dataclasses.fields(kind) if field.name in own_fields(kind)
    ]  # fmt: skip
    asked = {'step': kind.COUNTS, 'key': kind.DRAWS}
    keywords = [inspect.Parameter(name, KEYWORD, annotation=Array) for name, reads in asked.items() if reads]
    optional = [*(name for name in kind.COLUMNS if name != COLUMN), *(['ids'] if kind.DRAWS else []), 'where']
    keywords += [_optional(name, KEYWORD, Array) for name in optional]
    return inspect.Signature([*arrays, *fields, *keywords], return_annotation=Array)


def _arrays(kind: type[Term]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays that every term of a class reads, and those that only some do, with their types."""
    several: Any = Sequence[Array]
    found = {slot.argument: (several if slot.many else Array, slot.needed) for slot in slots(kind)}
    labels = [term.reads_labels for term in readings(kind)]
    if any(labels):
        found[COLUMN] = Array, all(labels)
    needed, optional = ({name: type for name, (type, all_do) in found.items() if all_do == so} for so in (True, False))
    return needed, optional


def _optional(name: str, kind: Any, type: Any) -> inspect.Parameter:
    return inspect.Parameter(name, kind, default=None, annotation=type | None)


def _type(field: dataclasses.Field) -> Any:
    return Array | float if 'knob' in field.metadata else field.type


def _values(kind: type[Term], given: Mapping[str, Any]) -> Array:
    """What the term of those arguments answers, 0 where an example is not real or, if it reads them, has no label."""
    given = {argument: value for argument, value in given.items() if value is not None}
    arrays, (student, teacher) = filled(kind, given)
    numbers = {argument: value for argument, value in given.items() if argument in own_fields(kind)}
    named, own = columns(kind, given)
    term = kind(**{**plain_fields(kind), **arrays, **named, **_concrete(kind, numbers)})
    check_given(term, given, kind)
    inputs = TermInputs(student, teacher, {**_batch(student, teacher, given), **own})
    if student.logits is not None and teacher.logits is not None:
        check_classes(kind.__name__, term, inputs)
    inputs = inputs._replace(batch=shown(kind.__name__, term, inputs.batch))
    knobs = {knob: _float(numbers.get(knob, value)) for knob, value in term.knobs().items()}
    step, key = given.get('step'), given.get('key')
    values = term({}, {}, inputs, knobs, step=step, key=key).values  # type: ignore[arg-type]
    if 'where' not in given and not term.reads_labels:
        return values
    return jnp.where(spread_mask(inputs.batch['mask'], values) > 0, values, 0)


def _batch(student: Outputs, teacher: Outputs, given: Mapping[str, Any]) -> dict[str, Array]:
    """The columns that the arguments are.

    Raises:
      UsageError: what is real is said of other examples than there are.
    """
    size = len(_first(student, teacher))
    mask = jnp.asarray(given['where']).astype(bool).astype(jnp.float32) if 'where' in given else jnp.ones(size)
    if mask.ndim not in (1, 2) or len(mask) != size:
        raise UsageError(f'where must be ({size},), or ({size}, N) of tokens, got {mask.shape}')
    batch = {'mask': mask, 'view': jnp.zeros(size, jnp.int32), 'id': jnp.asarray(given.get('ids', jnp.arange(size)))}
    labels = {COLUMN: jnp.asarray(given[COLUMN])} if COLUMN in given else {}
    shape = labels[COLUMN].shape if labels else ()
    if mask.ndim == 2:
        batch['token_mask'] = mask
        if len(shape) == 2 and shape != mask.shape:  # labels of a whole string, not of each token
            batch['mask'] = jnp.max(mask, axis=1)
    elif len(shape) == 2 and shape == _first(student, teacher).shape[:2]:  # a token without a label is one all the same
        batch['token_mask'] = jnp.ones(shape, jnp.float32)
    return {**batch, **labels}


def _first(*sides: Outputs) -> Array:
    """One of the arrays."""
    return next(x for side in sides for x in (side.logits, *side.features.values()) if x is not None)


def _concrete(kind: type[Term], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What a term can check of the numbers given: not those that are traced.

    Raises:
      UsageError: a traced number is no scalar.
    """
    knobs, known = {field.name for field in dataclasses.fields(kind) if 'knob' in field.metadata}, {}
    for name, value in numbers.items():
        if name in knobs and isinstance(value, jax.Array | np.ndarray | np.generic):
            if jnp.ndim(value):
                raise UsageError(f'{name} must be a number, got an array of shape {jnp.shape(value)}')
            value = None if isinstance(value, jax.core.Tracer) else float(value)
        if value is not None:
            known[name] = value
    return known


def _float(number: Any) -> Any:
    """A knob as terms compute with it."""
    if isinstance(number, int | float):
        return float(number)
    number = jnp.asarray(number)
    return number if jnp.issubdtype(number.dtype, jnp.floating) else number.astype(jnp.float32)


@contextlib.contextmanager
def _of(name: str) -> Iterator[None]:
    """Errors say which function they are of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f'{name}: {error}') from error
