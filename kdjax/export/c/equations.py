"""What a network computes, equation by equation, and what of it can be computed before there is an example."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from kdjax.compress import products

# What is entered, and where its program is.
CALLS = {**dict.fromkeys(products.CALLS, 'jaxpr'), 'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr'}


class Equation(NamedTuple):
    primitive: Any
    params: Any
    reads: tuple[Any, ...]  # numbers of values, or values themselves
    makes: tuple[Any, ...]


class Value(NamedTuple):
    number: int


class Equations:
    """A program without calls: equations over numbered values."""

    def __init__(self, closed: ClosedJaxpr) -> None:
        self.equations: list[Equation] = []
        self.count = 0
        self.inputs = [self._new() for _ in closed.jaxpr.invars]
        self.outputs = self._entered(closed, self.inputs)

    def _new(self) -> Value:
        self.count += 1
        return Value(self.count - 1)

    def _entered(self, closed: ClosedJaxpr, given: Sequence[Any]) -> list[Any]:
        known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        known |= dict(zip(closed.jaxpr.invars, given, strict=True))

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else known[variable]

        for equation in closed.jaxpr.eqns:
            reads = tuple(map(read, equation.invars))
            name = equation.primitive.name
            if name in CALLS:
                inner = equation.params[CALLS[name] if CALLS[name] in equation.params else 'call_jaxpr']
                inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
                made = self._entered(inner, reads)
            else:
                made = [self._new() for _ in equation.outvars]
                self.equations.append(Equation(equation.primitive, equation.params, reads, tuple(made)))
            known.update(dict(zip(equation.outvars, made, strict=True)))
        return [read(variable) for variable in closed.jaxpr.outvars]


def computed(program: Equations, example: Value) -> tuple[list[Equation], dict[Value, Any]]:
    """The equations that depend on the example, and the values of all else that they read, by one compiled program."""
    unknown: set[Value] = {example}
    left, before = [], []
    for equation in program.equations:
        if unknown & {read for read in equation.reads if isinstance(read, Value)}:
            unknown.update(equation.makes)
            left.append(equation)
        else:
            before.append(equation)
    wanted = sorted({read for equation in left for read in equation.reads if isinstance(read, Value)} - unknown)

    def run() -> list[Any]:
        values: dict[Value, Any] = {}
        for equation in before:
            operands = [values[read] if isinstance(read, Value) else read for read in equation.reads]
            found = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
            values.update(zip(equation.makes, found if equation.primitive.multiple_results else [found], strict=True))
        return [values[one] for one in wanted]

    return left, dict(zip(wanted, map(np.asarray, jax.jit(run)()), strict=True))
