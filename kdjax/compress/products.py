"""Where a network multiplies what it reads with what it has learned, found in its program, whatever it is made of.

A network is traced, and its operations are run one by one. Of every value is known what it comes from: from inputs, or
from variables alone, and then from which. A product of the two kinds is a *site*: a dense layer, a convolution, and a
convolution with its normalisation folded in alike. What happens at sites is a rule.
"""

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxprs_in_params

from kdjax.errors import UsageError
from kdjax.types import Array, Cache, Generator, Net, Outputs, Tree

DOT, CONVOLUTION = 'dot_general', 'conv_general_dilated'
OUTPUTS, FINISHED = 'kdjax_convolution__outputs_by_lax', 'kdjax_convolution_finished'
PRODUCTS = (DOT, CONVOLUTION, OUTPUTS, FINISHED)
# How jitted functions are called that filter each channel by itself, written as sums: of inputs (..., C) and a kernel
# (size, C), they are products of one kind.
DEPTHWISE = 'depthwise_'
# Products of which the interpreter does not know what is summed over.
STRANGE = ('ragged_dot', 'ragged_dot_general', 'scaled_dot_general', 'kdjax_convolution__inputs_by_lax',
           'kdjax_convolution__kernel_by_lax')  # fmt: skip
# What is entered. Recomputation in the pass back ('checkpoint') is given up thereby.
CALLS = ('jit', 'pjit', 'closed_call', 'core_call', 'checkpoint', 'remat2')

Origin = frozenset[int] | None  # positions of the variables that a value comes from; None of what comes from inputs


class Site(NamedTuple):
    """A product of an input and a weight, or of two activations."""

    name: str  # path of the weight, '<path>#2' where it is used again; 'product1', ... of two activations
    kind: str  # of PRODUCTS, or DEPTHWISE
    shape: tuple[int, ...]  # of the weight as it is multiplied; of the second activation
    weight: int | None  # which operand is the weight, 0 or 1; None of two activations
    summed: tuple[int, ...]  # axes of the weight that are summed over
    path: str  # of the variable that it is, or is made of
    leaf: int | None  # position of that variable among the leaves of the variables
    same: bool  # whether it is that variable itself, but for its dtype
    macs: int  # multiplications of a pass over the inputs that were given
    params: Any  # of the operation


Rule = Callable[[Site, Sequence[Array], Callable[..., list[Array]]], list[Array]]


def interpreted(function: Callable[[Tree, Tree], Any], variables: Tree, inputs: Tree, rule: Rule,
                activations: bool = False) -> Any:  # fmt: skip
    """`function(variables, inputs)`, with a rule in the place of its products.

    Args:
      function: pure.
      variables, inputs: trees of arrays.
      rule: from a site, the operands of the product and the product itself as a function of them to its outputs.
      activations: whether products of two activations, as in attention, are sites too.

    Raises:
      UsageError: a product of an input and a weight stands inside of a loop, a branch or a function that has its own
        derivative, where no rule reaches it.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(variables, inputs)
    leaves, given = jax.tree_util.tree_leaves_with_path(variables), jax.tree.leaves(inputs)
    run = _Run([_path(path) for path, _ in leaves], [leaf.shape for _, leaf in leaves], rule, activations)
    origins: list[Origin] = [*(frozenset([place]) for place in range(len(leaves))), *(None for _ in given)]
    found, _ = run.evaluate(closed, [*(leaf for _, leaf in leaves), *given], origins)
    return jax.tree.unflatten(jax.tree.structure(shape), found)


def applied(net: Net, variables: Tree, inputs: Tree, rule: Rule, *, train: bool, key: Array | None,
            activations: bool = False) -> tuple[Outputs, Tree]:  # fmt: skip
    """`net.apply`, with a rule in the place of its products."""

    def forward(variables: Tree, inputs: Tree) -> tuple[Outputs, Tree]:
        return net.apply(variables, inputs, train=train, key=key)

    return interpreted(forward, variables, inputs, rule, activations)


def writing(net: Net, plain: Callable[[Tree], Tree], rule: Callable[[Tree], Rule]) -> Generator | None:
    """How a network writes, with a rule in the place of its products; None of one that does not.

    Args:
      net: the network within.
      plain, rule: from variables of the whole, its variables, and what happens at its products.
    """
    if net.generator is None:
        return None
    own = net.generator

    def start(variables: Tree, source: Tree, length: int, width: int = 1) -> Cache:
        return interpreted(lambda v, x: own.start(v, x, length, width), plain(variables), source, rule(variables))

    def extend(variables: Tree, cache: Cache, token: Array, t: Array | int) -> tuple[Array, Cache]:
        return interpreted(lambda v, given: own.extend(v, *given), plain(variables), (cache, token, t), rule(variables))

    return Generator(start, extend)


def sites(net: Net, variables: Tree, inputs: Tree, *, train: bool = False, activations: bool = False) -> list[Site]:
    """The sites of a network, in the order of its program. Nothing is computed: shapes will do.

    Args:
      net: of any make.
      variables, inputs: arrays, or their shapes.
      train: of its program in training, or outside of it.
      activations: whether products of two activations are sites too.
    """
    found: list[Site] = []

    def noted(site: Site, operands: Sequence[Array], product: Callable[..., list[Array]]) -> list[Array]:
        found.append(site)
        return product(*operands)

    def run(variables: Tree, inputs: Tree, key: Array) -> Any:
        return applied(net, variables, inputs, noted, train=train, key=key if train else None, activations=activations)

    jax.eval_shape(run, variables, inputs, jax.eval_shape(lambda: jax.random.key(0)))
    return found


def _path(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return name.removeprefix('params/')


class _Run:
    """One pass over a program."""

    def __init__(self, paths: Sequence[str], shapes: Sequence[tuple[int, ...]], rule: Rule, activations: bool) -> None:
        self.paths, self.shapes, self.rule, self.activations = paths, shapes, rule, activations
        self.uses: collections.Counter[str] = collections.Counter()

    def evaluate(
        self, closed: ClosedJaxpr, values: Sequence[Any], origins: Sequence[Origin]
    ) -> tuple[list[Any], list[Origin]]:
        """Outputs of a program, and what they come from."""
        known: dict[Any, tuple[Any, Origin]] = {}
        nothing: Origin = frozenset()

        def read(variable: Any) -> tuple[Any, Origin]:
            return (variable.val, nothing) if isinstance(variable, Literal) else known[variable]

        known.update(
            {name: (value, nothing) for name, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)}
        )
        known.update(dict(zip(closed.jaxpr.invars, zip(values, origins, strict=True), strict=True)))
        for equation in closed.jaxpr.eqns:
            operands, whence = [list(part) for part in zip(*map(read, equation.invars), strict=True)] or [[], []]
            with equation.ctx.manager:
                found, come = self._one(equation, operands, whence)
            known.update(dict(zip(equation.outvars, zip(found, come, strict=True), strict=True)))
        answers = [read(variable) for variable in closed.jaxpr.outvars]
        return [value for value, _ in answers], [origin for _, origin in answers]

    def _one(self, equation: Any, operands: list[Any], whence: list[Origin]) -> tuple[list[Any], list[Origin]]:
        if equation.primitive.name in CALLS and _kind(equation) != DEPTHWISE:
            inner = equation.params['jaxpr'] if 'jaxpr' in equation.params else equation.params['call_jaxpr']
            return self.evaluate(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), operands, whence)

        def product(*operands: Array) -> list[Array]:
            found = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
            return list(found) if equation.primitive.multiple_results else [found]

        site = self._site(equation, operands, whence)
        found = product(*operands) if site is None else self.rule(site, operands, product)
        origin = None if None in whence else frozenset().union(*(one for one in whence if one is not None))
        return found, [origin] * len(found)

    def _site(self, equation: Any, operands: list[Any], whence: list[Origin]) -> Site | None:
        kind = _kind(equation)
        mixed = None in whence and any(whence)  # inputs and variables
        if (
            mixed
            and kind != DEPTHWISE
            and (kind in STRANGE or any(map(_multiplies, jaxprs_in_params(equation.params))))
        ):
            shapes = [operand.shape for operand, origin in zip(operands, whence, strict=True) if origin]
            raise UsageError(
                f'a product of an input and a weight stands inside of {kind!r} (variables of shapes '
                f'{", ".join(map(str, shapes[:4]))}), where it cannot be changed: such a network, as one with an LSTM, '
                'can be pruned, but neither rounded nor factored; one whose layers are in a loop takes scanned=False'
            )
        if kind not in (*PRODUCTS, DEPTHWISE) or not jax.numpy.issubdtype(operands[0].dtype, jax.numpy.floating):
            return None
        pair = whence[:2]
        if pair == [None, None] and self.activations:
            self.uses[''] += 1
            return _described(equation, operands, f'product{self.uses[""]}', None, '', None, False)
        if None not in pair or not any(pair):
            return None
        weight = 0 if pair[1] is None else 1
        leaf = self._leaf(operands[weight].shape, pair[weight] or frozenset())
        path = self.paths[leaf]
        self.uses[path] += 1
        name = path if self.uses[path] == 1 else f'{path}#{self.uses[path]}'
        same = pair[weight] == {leaf} and self.shapes[leaf] == operands[weight].shape
        return _described(equation, operands, name, weight, path, leaf, same)

    def _leaf(self, shape: tuple[int, ...], origin: frozenset[int]) -> int:
        """Of the variables that a weight comes from the one that it is a form of."""
        return max(sorted(origin), key=lambda leaf: (self.shapes[leaf] == shape, math.prod(self.shapes[leaf])))


def _described(equation: Any, operands: Sequence[Any], name: str, weight: int | None, path: str, leaf: int | None,
               same: bool) -> Site:  # fmt: skip
    place = 1 if weight is None else weight
    summed = _summed(equation, place)
    shape = operands[place].shape
    per_output = math.prod(shape[axis] for axis in summed)
    macs = math.prod(equation.outvars[0].aval.shape) * per_output
    return Site(name, _kind(equation), shape, weight, summed, path, leaf, same, macs, equation.params)


def _summed(equation: Any, place: int) -> tuple[int, ...]:
    """Axes of an operand that a product sums over."""
    kind = _kind(equation)
    if kind == DEPTHWISE:
        return tuple(range(len(equation.invars[place].aval.shape) - 1))
    if kind == DOT:
        return tuple(equation.params['dimension_numbers'][0][place])
    if kind != CONVOLUTION:
        return (0, 1, 2)
    free = equation.params['dimension_numbers'].rhs_spec[0]
    return tuple(axis for axis in range(len(equation.params['dimension_numbers'].rhs_spec)) if axis != free)


def _kind(equation: Any) -> str:
    called = equation.primitive.name in CALLS and equation.params.get('name', '').startswith(DEPTHWISE)
    return DEPTHWISE if called else equation.primitive.name


def _multiplies(jaxpr: Any) -> bool:
    """Whether there is a product anywhere in a program."""
    return any(
        _kind(equation) in (*PRODUCTS, DEPTHWISE, *STRANGE) or any(map(_multiplies, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )
