"""What a network does to one example, as a list of few operators with their numbers: for those who write programs.

A network is traced. What depends on variables alone, such as normalisation folded into a kernel, is computed; what is
left are products, sums and maxima over windows, each with a bias, something that is added, and a ReLU. Everything that
only moves numbers (reshapes, padding, windows that are put side by side) is followed by index, and becomes part of the
product that reads it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.compress import products
from kdjax.errors import UsageError
from kdjax.export.c import joining, layouts
from kdjax.export.c.equations import Equation, Equations, Value, computed
from kdjax.export.c.kinds import ADD, AFFINE, MAXIMUM, PRODUCT, RELU, SUM, Graph, Operator

PASSED = ('convert_element_type', 'copy', 'copy_p', 'stop_gradient', 'reduce_precision', 'optimization_barrier')
FACTORS: Mapping[str, Callable[[Any, Any], Any]] = {'mul': np.multiply, 'div': np.divide}
FRAMES = 'frames'


def graph(function: Callable[[Mapping[str, Any]], Any], inputs: Mapping[str, jax.ShapeDtypeStruct]) -> Graph:
    """The operators of a network.

    Args:
      function: {name: (B, ...)} -> logits (B, K); its weights are constants in it.
      inputs: of one example, by name. Of a network of speech its frames are read, all of which are then real.

    Raises:
      UsageError: it reads several inputs, or does what is no such operator; says what.
    """
    if len(inputs) > 1 and FRAMES not in inputs:
        raise UsageError(f'one input can be read, got {", ".join(inputs)}; export this network to LiteRT or ONNX')
    name = FRAMES if FRAMES in inputs else next(iter(inputs))
    others = {other: np.ones((1, *spec.shape), spec.dtype) for other, spec in inputs.items() if other != name}
    given = jax.ShapeDtypeStruct((1, *inputs[name].shape), inputs[name].dtype)
    closed = jax.make_jaxpr(lambda example: function({name: example, **others}))(given)
    return _Maker(inputs[name].shape).made(Equations(closed))


class _View(NamedTuple):
    """Numbers of a tensor in some shape: where each of them is; -1 for a zero."""

    tensor: int
    places: np.ndarray


class _Maker:
    """Makes a graph of a program."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.maps = [layouts.map_of(shape)]
        self.operators: list[Operator] = []
        self.sites = 0

    def made(self, program: Equations) -> Graph:
        (example,), (output,) = program.inputs, program.outputs
        left, values = computed(program, example)
        values[example] = _View(0, np.arange(math.prod(self.shape)).reshape(1, *self.shape))
        for equation in left:
            operands = [values[read] if isinstance(read, Value) else read for read in equation.reads]
            values.update(dict.fromkeys(equation.makes, self._one(equation, operands)))
        answer = values.get(output)
        if not isinstance(answer, _View) or not layouts.whole(answer.places):
            raise UsageError('the logits are not what one operator makes, in its order; export to LiteRT or ONNX')
        scale, offset, operators, last = joining.joined(self.operators, answer.tensor)
        if not operators or operators[-1].makes != last or operators[-1].kind != PRODUCT:
            raise UsageError('the logits are not what a product makes; export this network to LiteRT or ONNX')
        return Graph(tuple(math.prod(shape) for shape in self.maps), scale, offset, operators, self.shape)

    def _one(self, equation: Equation, operands: list[Any]) -> _View:
        name = equation.primitive.name
        views = [operand for operand in operands if isinstance(operand, _View)]
        if name in PASSED:
            return views[0]
        if name in layouts.MOVES:
            return self._moved(name, equation.params, operands)
        if name in products.PRODUCTS:
            return self._product(name, equation.params, operands)
        if name in ('add', 'sub', 'mul', 'div', 'neg', 'max'):
            return self._by_element(name, operands)
        if name in ('reduce_sum', 'reduce_max'):
            return self._over(SUM if name == 'reduce_sum' else MAXIMUM, views[0], equation.params['axes'])
        if name in ('reduce_window_sum', 'reduce_window_max'):
            return self._window(SUM if name.endswith('sum') else MAXIMUM, views[0], equation.params)
        if name == 'select_n':
            return self._chosen(operands)
        raise _stands_in_the_way(name)

    def _moved(self, name: str, params: Any, operands: list[Any]) -> _View:
        tensors = {operand.tensor for operand in operands if isinstance(operand, _View)}
        if len(tensors) > 1:
            raise _stands_in_the_way(name, ' of several tensors')
        places = []
        for operand in operands:
            if not isinstance(operand, _View) and np.any(np.asarray(operand)):
                raise _stands_in_the_way(name, ' with numbers other than 0')
            places.append(operand.places if isinstance(operand, _View) else np.full(np.shape(operand), -1))
        return _View(tensors.pop(), layouts.MOVES[name](places, params))

    def _chosen(self, operands: list[Any]) -> _View:
        which, *cases = operands
        if isinstance(which, _View):
            raise _stands_in_the_way('select_n', ' by what is read')
        which = np.broadcast_to(np.asarray(which).astype(int), np.shape(layouts.places_of(cases)))
        used = [cases[number] for number in np.unique(which)]
        if len(used) == 1 and isinstance(used[0], _View):
            return used[0]
        tensors = {case.tensor for case in cases if isinstance(case, _View)}
        if len(tensors) > 1 or any(np.any(np.asarray(case)) for case in used if not isinstance(case, _View)):
            raise _stands_in_the_way('select_n', ' of several tensors')
        places = [case.places if isinstance(case, _View) else np.full(which.shape, -1) for case in cases]
        return _View(tensors.pop(), np.choose(which, places))

    def _by_element(self, name: str, operands: list[Any]) -> _View:
        views = [operand for operand in operands if isinstance(operand, _View)]
        if name == 'neg':
            return self._affine(views[0], -1.0, 0.0)
        if len(views) == 2:
            if name != 'add':
                raise _stands_in_the_way(name, ' of two activations')
            return self._added(*views)
        other = next(np.asarray(operand, np.float64) for operand in operands if not isinstance(operand, _View))
        if name == 'max':
            if np.any(other):
                raise _stands_in_the_way(name, ' with numbers other than 0')
            view = views[0]
            return _View(self._after(RELU, view.tensor, np.ones(1), np.zeros(1)), view.places)
        if name in FACTORS:
            if name == 'div' and not isinstance(operands[0], _View):
                raise _stands_in_the_way(name, ' by an activation')
            return self._affine(views[0], FACTORS[name](1.0, other), 0.0)
        if name == 'add':
            return self._affine(views[0], 1.0, other)
        minus = isinstance(operands[0], _View)
        return self._affine(views[0], 1.0 if minus else -1.0, -other if minus else other)

    def _affine(self, view: _View, scale: Any, offset: Any) -> _View:
        channels = self.maps[view.tensor][2]
        scale, offset = (layouts.by_channel(view.places, value, channels) for value in (scale, offset))
        if scale is None or offset is None:
            raise _stands_in_the_way('mul', ' with numbers that differ from place to place')
        return _View(self._after(AFFINE, view.tensor, scale, offset), view.places)

    def _added(self, left: _View, right: _View) -> _View:
        if not np.array_equal(left.places, right.places) or np.any(left.places < 0):
            raise _stands_in_the_way('add', ' of activations that lie in different orders')
        made = self._after(ADD, max(left.tensor, right.tensor), np.ones(1), np.zeros(1))
        self.operators[-1] = self.operators[-1]._replace(adds=min(left.tensor, right.tensor))
        return _View(made, left.places)

    def _after(self, kind: str, tensor: int, kernel: np.ndarray, bias: np.ndarray) -> int:
        """Adds what happens number by number."""
        shape = self.maps[tensor]
        return self._add(Operator(kind, tensor, 0, shape, shape, kernel, bias, (1, 1)))

    def _add(self, operator: Operator) -> int:
        self.maps.append(operator.gives)
        self.operators.append(operator._replace(makes=len(self.maps) - 1))
        return len(self.maps) - 1

    def _over(self, kind: str, view: _View, axes: tuple[int, ...]) -> _View:
        shape = view.places.shape
        if not layouts.whole(view.places) or axes != tuple(range(1, len(shape) - 1)):
            raise _stands_in_the_way(f'reduce_{"sum" if kind == SUM else "max"}', f' of {shape} over axes {axes}')
        height, width, channels = layouts.map_of(shape[1:])
        made = self._add(Operator(kind, view.tensor, 0, (height, width, channels), (1, 1, channels), np.ones(channels),
                                  np.zeros(channels), (height, width)))  # fmt: skip
        return _View(made, np.arange(channels).reshape(1, channels))

    def _window(self, kind: str, view: _View, params: Any) -> _View:
        window, strides, pads = (tuple(params[name]) for name in ('window_dimensions', 'window_strides', 'padding'))
        shape = view.places.shape
        if (
            not layouts.whole(view.places)
            or len(shape) != 4
            or window[0] * window[3] > 1
            or strides[0] * strides[3] > 1
        ):
            raise _stands_in_the_way('reduce_window', f' of {shape} over {window}')
        gives = layouts.strided(shape[1:3], window[1:3], strides[1:3], pads[1:3])
        made = self._add(Operator(kind, view.tensor, 0, shape[1:], (*gives, shape[3]), np.ones(shape[3]),
                                  np.zeros(shape[3]), window[1:3], strides[1:3], pads[1:3]))  # fmt: skip
        return _View(made, np.arange(math.prod(gives) * shape[3]).reshape(1, *gives, shape[3]))

    def _product(self, name: str, params: Any, operands: list[Any]) -> _View:
        view, kernel = operands[:2]
        if not isinstance(view, _View) or isinstance(kernel, _View):
            raise _stands_in_the_way(name, ' of two activations')
        site, self.sites = self.sites, self.sites + 1
        kernel = np.asarray(kernel, np.float64)
        if name == products.DOT:
            return self._dense(view, kernel, params['dimension_numbers'], site)
        strides, pads, groups = layouts.convolution(name, params)
        if strides is None or kernel.ndim != 4:
            raise _stands_in_the_way(name, ' of another layout, or dilated')
        inside = layouts.within(view.places)
        if inside is None:
            raise _stands_in_the_way(name, ' of numbers in another order')
        around, sees = inside
        pads = layouts.joined(pads, around)
        gives = layouts.strided(sees[:2], kernel.shape[:2], strides, pads)
        bias, adds, relu = np.zeros(kernel.shape[3]), None, False
        if name == products.FINISHED:
            bias, relu = np.asarray(operands[2], np.float64), params['relu']
            adds = self._beside(operands[3:])
        made = self._add(Operator(PRODUCT, view.tensor, 0, sees, (*gives, kernel.shape[3]), kernel, bias,
                                  kernel.shape[:2], strides, pads, groups, adds, relu, site))  # fmt: skip
        return _View(made, np.arange(math.prod(gives) * kernel.shape[3]).reshape(1, *gives, kernel.shape[3]))

    def _beside(self, more: list[Any]) -> int | None:
        if not more:
            return None
        (view,) = more
        if not isinstance(view, _View) or not layouts.whole(view.places):
            raise _stands_in_the_way(products.FINISHED, ' to which numbers in another order are added')
        return view.tensor

    def _dense(self, view: _View, kernel: np.ndarray, numbers: Any, site: int) -> _View:
        ((over,), (rows,)), batch = (tuple(map(tuple, numbers[0])), numbers[1]) if len(numbers[0][0]) == 1 else (
            ((None,), (None,)), numbers[1])  # fmt: skip
        if over is None or any(batch) or kernel.ndim != 2:
            raise _stands_in_the_way(products.DOT, ' over several axes')
        kernel = kernel if rows == 0 else kernel.T
        places = np.moveaxis(view.places, over, -1)
        before = places.shape[:-1]
        if math.prod(before) == 1:
            size = math.prod(self.maps[view.tensor])
            whole = np.zeros((size, kernel.shape[1]))
            real = places.reshape(-1) >= 0
            np.add.at(whole, places.reshape(-1)[real], kernel[real])
            made = self._add(Operator(PRODUCT, view.tensor, 0, (1, 1, size), (1, 1, kernel.shape[1]), whole[None, None],
                                      np.zeros(kernel.shape[1]), (1, 1), site=site))  # fmt: skip
        else:
            found = layouts.as_convolution(places, self.maps[view.tensor])
            if found is None:
                raise _stands_in_the_way(products.DOT, f' of windows {places.shape} that are no convolution')
            window, strides, pads = found
            sees = self.maps[view.tensor]
            gives = layouts.map_of((*before[1:], kernel.shape[1]))
            own = kernel.reshape(*window, sees[2], kernel.shape[1])
            made = self._add(Operator(PRODUCT, view.tensor, 0, sees, gives, own, np.zeros(kernel.shape[1]), window,
                                      strides, pads, site=site))  # fmt: skip
        shape = (*before, kernel.shape[1])
        return _View(made, np.arange(math.prod(shape)).reshape(shape))


def _stands_in_the_way(name: str, how: str = '') -> UsageError:
    return UsageError(
        f'operator {name!r}{how} is in the way: networks of dense layers, convolutions, normalisation by statistics, '
        'ReLU, sums and pooling can be written out; export this one to LiteRT or ONNX'
    )
