"""A student as exporters take it: nothing but what makes logits of inputs, its weights inside.

Whatever follows from weights alone is computed before anything is exported: normalisation becomes part of the kernel
before it, rounded weights are numbers on their grid. What is left is what a device has to do.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.interpreters import partial_eval

from kdjax.compress import products
from kdjax.cpu import convolution
from kdjax.export.bundle import Student
from kdjax.types import Array, Net, Tree

INPUTS = 'inputs'  # what a network's input is called where it is one array
# Operations that hold a program, which is taken out of them; by their parameter that has it.
CALLS = {name: 'jaxpr' for name in products.CALLS} | {
    'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr', 'custom_vjp_call_jaxpr': 'fun_jaxpr',
}  # fmt: skip
IDENTITIES = ('copy', 'stop_gradient', 'optimization_barrier')  # outside of training
JOINED = 'jax.numpy.concatenate'  # which a converter to ONNX puts into its place, and which has no value of constants
UNIFORM = 16  # so many numbers of a constant that are alike are written as one


class Program(NamedTuple):
    """What is exported.

    Attributes:
      student: whose it is.
      example: shapes and dtypes of one example, as the network reads it, without an axis for examples.
    """

    student: Student
    example: Tree

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one example by name, without an axis for examples."""
        return named(self.example)

    def function(self, inputs: Mapping[str, Array], loops: bool = False) -> Array:
        """Logits (B, ...) of inputs {name: (B, ...)} as the network reads them, for any B, also a symbolic one.

        Weights are constants in it, normalisation is part of them, and convolutions are those of `lax`.

        Args:
          inputs: by name.
          loops: whether a loop of a known length stays one, as in an LSTM; else its steps stand one after the other.
        """
        tree = jax.tree.unflatten(jax.tree.structure(self.example), [inputs[name] for name in self.inputs])
        return folded(self.student.net, self.student.variables, tree, loops)


class Learned(NamedTuple):
    """What rounded training knows of what is multiplied in a product."""

    low: float  # <= 0
    high: float  # >= 0
    weights: np.ndarray  # of the product, normalisation in them


class Calibration(NamedTuple):
    """What tells the ranges of a network's numbers.

    Attributes:
      examples: {name: (N, ...)} as the network reads them.
      ranges: of a student that was trained rounded, by `compress.quantized.key` of a product; {} of others.
    """

    examples: Mapping[str, np.ndarray]
    ranges: Mapping[str, Learned] = MappingProxyType({})


def program(student: Student, seen: Tree) -> Program:
    """A student as exporters take it.

    Args:
      student: any.
      seen: examples (N, ...) as its network reads them; only shapes are used.
    """
    return Program(student, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), seen))


def named(seen: Tree) -> dict[str, Any]:
    """Inputs of a network by name, in the order of its tree: 'inputs' of a single array, else the way to each."""
    leaves = jax.tree_util.tree_leaves_with_path(seen)
    return {jax.tree_util.keystr(path, simple=True, separator='_') or INPUTS: leaf for path, leaf in leaves}


def unnamed(inputs: Mapping[str, Any]) -> Tree:
    """The tree that `named` made names of, of a network that reads one array or a mapping of them."""
    return inputs[INPUTS] if list(inputs) == [INPUTS] else dict(inputs)


def folded(net: Net, variables: Tree, inputs: Tree, loops: bool = False) -> Array:
    """Logits of inputs, which are being traced; what depends on variables alone is computed at once."""
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(inputs)]
    structure = jax.tree.structure(inputs)

    def forward(*leaves: Array) -> Array:
        return net.apply(variables, jax.tree.unflatten(structure, leaves), train=False, key=None)[0].logits

    # Whole float32 also where a device would multiply in less.
    with convolution.plain(), jax.default_matmul_precision('highest'):
        closed = jax.make_jaxpr(forward)(*shapes)
        slim = jax.make_jaxpr(lambda *leaves: _given(evaluated(closed, leaves, loops)[0]))(*shapes)
        needed, _ = partial_eval.dce_jaxpr(slim.jaxpr, [True], instantiate=True)
        (logits,) = jaxpr_as_fun(ClosedJaxpr(needed, slim.consts))(*jax.tree.leaves(inputs))
    return logits


def evaluated(closed: ClosedJaxpr, operands: Sequence[Any], loops: bool) -> list[Any]:
    """Outputs of a program: numpy arrays where they follow from constants, else traced.

    Args:
      closed: the program.
      operands: numpy arrays, or arrays that are being traced.
      loops: whether loops stay loops.
    """
    known: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    known.update(zip(closed.jaxpr.invars, operands, strict=True))
    for equation in closed.jaxpr.eqns:
        values = [_read(one, known) for one in equation.invars]
        known.update(zip(equation.outvars, _one(equation, values, loops), strict=True))
    return [_read(one, known) for one in closed.jaxpr.outvars]


def _read(variable: Any, known: Mapping[Any, Any]) -> Any:
    return variable.val if isinstance(variable, Literal) else known[variable]


def _one(equation: Any, values: Sequence[Any], loops: bool) -> list[Any]:
    """The outputs of one operation."""
    name = equation.primitive.name
    if name in CALLS:
        inner = equation.params[CALLS[name] if CALLS[name] in equation.params else 'call_jaxpr']
        return evaluated(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), values, loops)
    if name in IDENTITIES:
        return list(values)
    if name == 'select_n' and (chosen := _one_number(values[0])) is not None:
        return [values[1 + int(chosen)]]
    fixed = all(_fixed(variable.aval) for variable in equation.outvars)
    if name == 'broadcast_in_dim' and not fixed and _constant(values[0]) and np.ndim(values[0]) == 0:
        return [_Filled(values[0], lambda: _bound(equation, None, values)[0])]
    values = [value.make() if isinstance(value, _Filled) else value for value in values]
    by_lax = convolution.without_primitives(name)
    by_lax = _stacked if name == 'stack' else by_lax
    if fixed and all(map(_constant, values)):
        with jax.ensure_compile_time_eval():
            return list(map(np.asarray, _bound(equation, _joined if name == JOINED else by_lax, values)))
    if name == 'scan' and not loops:
        return _steps(equation.params, values)
    return _bound(equation, by_lax, list(map(_given, values)))


def _steps(params: Mapping[str, Any], values: Sequence[Any]) -> list[Any]:
    """The outputs of a loop, step after step."""
    carried, first = params['num_carry'], params['num_consts']
    fixed, carry, columns = values[:first], list(values[first : first + carried]), values[first + carried :]
    places = range(params['length'])
    rows: list[list[Any]] = []
    for place in reversed(places) if params['reverse'] else places:
        found = evaluated(params['jaxpr'], [*fixed, *carry, *(column[place] for column in columns)], loops=False)
        carry = found[:carried]
        rows.append(found[carried:])
    ordered = rows[::-1] if params['reverse'] else rows
    return [*carry, *(_stacked(*map(jnp.asarray, column), axis=0) for column in zip(*ordered, strict=True))]


def _stacked(*arrays: Array, axis: int) -> Array:
    return lax.concatenate([lax.expand_dims(array, (axis,)) for array in arrays], axis)


def _joined(*arrays: Array, dimension: int) -> Array:
    return lax.concatenate(arrays, dimension % arrays[0].ndim)


def _bound(equation: Any, by_lax: Callable[..., Array] | None, values: Sequence[Any]) -> list[Any]:
    if by_lax is not None:
        return [by_lax(*map(jnp.asarray, values), **equation.params)]
    found = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
    return list(found) if equation.primitive.multiple_results else [found]


class _Filled(NamedTuple):
    """One number in an array whose size is not known: a switch, where it is a condition."""

    number: Any
    make: Callable[[], Any]


def _one_number(value: Any) -> Any:
    """The number that all of a constant are, or None."""
    if isinstance(value, _Filled):
        return value.number
    if not _constant(value) or not np.size(value):
        return None
    first = np.asarray(value).flat[0]
    return first if (np.asarray(value) == first).all() else None


def _constant(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer | _Filled)


def _fixed(aval: Any) -> bool:
    return all(isinstance(size, int) for size in aval.shape) and not jnp.issubdtype(aval.dtype, jax.dtypes.extended)


def _given(value: Any) -> Any:
    """A value as an operand; one number for many that are alike, such as zeros around a map."""
    if isinstance(value, _Filled):
        return value.make()
    number = _one_number(value) if _constant(value) and np.size(value) >= UNIFORM else None
    return value if number is None else jnp.full(np.shape(value), number, np.asarray(value).dtype)
