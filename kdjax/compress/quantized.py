"""A network whose products see rounded numbers, in training and outside: quantization-aware training, and after it.

Weights have one step for each output channel, from the largest of them, so nothing has to be kept of them. What they
are multiplied with has one range, a moving one in training, kept among the statistics with the numbers of bits:
{'rounding': {'bits': (2,) of weights and inputs, 'least': {site: () bits at least}, 'seen': () batches,
'ranges': {site: (2,) smallest and largest}}}.

Reference: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018, sec. 3.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.compress import products, rounding
from kdjax.compress.products import Site
from kdjax.errors import UsageError, unknown
from kdjax.types import Array, Net, Outputs, Tree

ROUNDING = 'rounding'  # what the statistics, and the parameters of 'lsq', have it under
FORMS = ('absmax', 'lsq')
KEPT = 0.9  # of a range, in every step of training
Ends = tuple[Array, Array]  # of a range


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How a network is rounded; the numbers of bits flow through it.

    Attributes:
      form: 'absmax', steps from the largest weight of a channel; or 'lsq', learned ones, for 4 bits and fewer.
      edges: bits that the first and the last product have at least; 0 for as many as the others.
      activations: whether products of two activations, those of attention, are rounded too.
      axis: name of the device axis that a batch is split over, None where it is whole.
    """

    form: str = 'absmax'
    edges: int = 0
    activations: bool = False
    axis: str | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown('form', self.form, FORMS, ' of rounding')


def quantized(net: Net, how: Rounding = Rounding()) -> Net:
    """`net` with its products rounded; its variables are `begun`, of 32 bits until they are told others.

    Outside of training inputs are rounded once there are ranges (`Rounding`'s statistics say 'seen'): after a step of
    training, or `calibrated`.

    A network that writes does so with the same rounded products.

    Raises:
      UsageError: products of activations of a network that writes are to be rounded; or, when it is traced, as
        `products.interpreted`, or it has other products than its variables know of.
    """
    if how.activations and net.generator is not None:
        raise UsageError('products of activations are rounded of a network that does not write, which it does in other '
                         'products than those it is trained with: set activations=False')  # fmt: skip

    def init(key: Array, inputs: Tree) -> Tree:
        return begun(net, how, net.init(key, inputs), inputs)

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        pass_ = _Pass(how, variables, train)
        outputs, stats = products.applied(
            net, plain(variables), inputs, pass_.rule, train=train, key=key, activations=how.activations
        )
        return outputs, {**stats, ROUNDING: pass_.after()}

    writes = products.writing(net, plain, lambda variables: _Pass(how, variables, False).rule)
    return Net(init, apply, net.taps, net.names, writes)


def begun(net: Net, how: Rounding, variables: Tree, inputs: Tree, bits: Sequence[Any] = (32.0, 32.0)) -> Tree:
    """Variables of `net` as those of `quantized(net, how)`, without ranges yet.

    Args:
      net, how: as there.
      variables, inputs: of `net`; inputs say shapes only.
      bits: () of weights, and of inputs; traced.

    Raises:
      UsageError: the network's variables are no dictionaries, or it has no products to round.
    """
    if not isinstance(variables['stats'], Mapping) or not isinstance(variables['params'], Mapping):
        raise UsageError(
            'a network is rounded whose params and stats are dictionaries; round the members of a team, not the team'
        )
    found = products.sites(net, variables, inputs, activations=how.activations)
    if not found:
        raise UsageError('there is nothing to round: the network has no product of an input and a weight')
    told = jnp.stack([jnp.asarray(number, jnp.float32) for number in bits])
    edges = (found[0], found[-1])
    own = {
        'bits': told,
        'least': {key(site): jnp.float32(how.edges if site in edges else 0) for site in found},
        'seen': jnp.zeros(()),
        'ranges': {key(site): jnp.zeros(2) for site in found},
    }
    params = variables['params']
    if how.form == 'lsq':
        leaves = jax.tree.leaves(variables)
        steps = {key(site): _started(site, leaves[_own(site)], told[0]) for site in found if site.weight is not None}
        params = {**params, ROUNDING: steps}
    return {'params': params, 'stats': {**variables['stats'], ROUNDING: own}}


def plain(variables: Tree) -> Tree:
    """Variables without what rounding has added to them."""
    return {part: {name: leaf for name, leaf in variables[part].items() if name != ROUNDING} for part in variables}


def with_bits(variables: Tree, bits: Array) -> Tree:
    """Variables that are told other numbers of bits, (2,) of weights and of inputs."""
    own = {**variables['stats'][ROUNDING], 'bits': jnp.asarray(bits, jnp.float32)}
    return {**variables, 'stats': {**variables['stats'], ROUNDING: own}}


def observed(net: Net, how: Rounding, variables: Tree, inputs: Tree) -> Tree:
    """The ranges of what is multiplied with the rounded weights, outside of training: {site: (2,)}.

    Those of several batches are put together by `joined`.
    """
    pass_ = _Pass(how, variables, True, watches=True)
    products.applied(net, plain(variables), inputs, pass_.rule, train=False, key=None, activations=how.activations)
    return pass_.ranges


def joined(left: Tree, right: Tree) -> Tree:
    """Ranges that hold two."""
    return jax.tree.map(lambda a, b: jnp.stack([jnp.minimum(a[0], b[0]), jnp.maximum(a[1], b[1])]), left, right)


def calibrated(variables: Tree, ranges: Tree) -> Tree:
    """Variables with ranges of all that was `observed`."""
    own = {**variables['stats'][ROUNDING], 'ranges': ranges, 'seen': jnp.ones(())}
    return {**variables, 'stats': {**variables['stats'], ROUNDING: own}}


def key(site: Site) -> str:
    """What its range is called: a name with the shape, so that another product under its name is an error."""
    if site.weight is None:  # whose shape is that of a batch
        return site.name
    # A kernel of one position is used as a matrix where that is faster.
    return f'{site.name.replace("/", ".")}:{"x".join(str(size) for size in site.shape if size > 1)}'


def _started(site: Site, leaf: Any, bits: Array) -> Array:
    """Where the steps of a weight begin, one for each output channel."""
    if leaf.size != math.prod(site.shape):
        raise UsageError(
            f"form 'lsq' learns a step for each channel of a weight that is used as it is; {site.path} is {leaf.shape} "
            f'and is multiplied as {site.shape}: take form absmax'
        )
    return rounding.learned_start(leaf.reshape(site.shape), bits, site.summed)


def _own(site: Site) -> int:
    """The variable that is a weight; steps are learned of those that keep their shape."""
    assert site.leaf is not None
    return site.leaf


class _Pass:
    """One pass through a rounded network: what happens at its products, and the ranges that were seen."""

    def __init__(self, how: Rounding, variables: Tree, train: bool, watches: bool = False) -> None:
        self.how, self.train, self.watches = how, train, watches
        self.own = variables['stats'][ROUNDING]
        self.steps = variables['params'].get(ROUNDING, {})
        self.leaves = jax.tree.leaves(plain(variables))
        self.ranges: dict[str, Array] = {}

    def rule(self, site: Site, operands: Sequence[Array], product: Callable[..., list[Array]]) -> list[Array]:
        """The product of rounded operands."""
        name, bits = key(site), self.own['bits']
        if name not in self.own['ranges']:
            why = ': the network has others in training than outside, or was rounded for inputs of another shape'
            raise unknown('product', name, self.own['ranges'], why)
        bits = jnp.maximum(bits, self.own['least'][name])
        rounded = list(operands)
        if site.weight is None:
            (low, high), (least, most) = (self._seen(operand) for operand in operands[:2])
            ends = self._kept(name, (jnp.minimum(low, least), jnp.maximum(high, most)))
            rounded[:2] = [self._input(operand, bits[1], ends) for operand in operands[:2]]
        else:
            place = 1 - site.weight
            rounded[place] = self._input(operands[place], bits[1], self._kept(name, self._seen(operands[place])))
            rounded[site.weight] = self._weight(site, name, operands[site.weight], bits[0])
        return product(*rounded)

    def after(self) -> Tree:
        """What is kept of it."""
        missing = [key for key in self.own['ranges'] if key not in self.ranges]
        if missing:
            raise UsageError(
                f'the network has no product {missing[0]!r}, which its variables know of: it has others in training '
                'than outside'
            )
        return {**self.own, 'ranges': self.ranges, 'seen': self.own['seen'] + float(self.train)}

    def _seen(self, x: Array) -> Ends:
        """Smallest and largest number of a batch."""
        if not self.train:
            return jnp.zeros(()), jnp.zeros(())
        x = jax.lax.stop_gradient(x).astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        # Over examples first, side by side: XLA makes one reduction of both otherwise, which is slower on a CPU.
        low, high = jax.lax.optimization_barrier((jnp.min(x, axes), jnp.max(x, axes)))
        low, high = jnp.min(low), jnp.max(high)
        if self.how.axis is None or self.watches:
            return low, high
        return -jax.lax.pmax(-low, self.how.axis), jax.lax.pmax(high, self.how.axis)

    def _kept(self, name: str, seen: Ends) -> Ends:
        """The range of a product, which is kept."""
        low, high = self.own['ranges'][name]
        if self.watches:
            low, high = seen
        elif self.train:
            low, high = (jnp.where(self.own['seen'] > 0, KEPT * old + (1 - KEPT) * new, new)
                         for old, new in zip((low, high), seen, strict=True))  # fmt: skip
        self.ranges[name] = jnp.stack([low, high])
        return low, high

    def _input(self, x: Array, bits: Array, ends: Ends) -> Array:
        if self.watches:
            return x
        found = rounding.asymmetric(x, bits, *ends)
        return found if self.train else jnp.where(self.own['seen'] > 0, found, x)

    def _weight(self, site: Site, name: str, weight: Array, bits: Array) -> Array:
        if self.how.form == 'absmax':
            return rounding.symmetric(weight, bits, site.summed)
        leaf: Any = self.leaves[_own(site)].reshape(weight.shape)
        step = self.steps[name].reshape([1 if axis in site.summed else size for axis, size in enumerate(weight.shape)])
        if not site.same:
            # Where normalisation is folded in, a channel is larger by a factor, and so is its step.
            step = step * jax.lax.stop_gradient(_largest(weight, site) / jnp.maximum(_largest(leaf, site), 1e-30))
        return rounding.learned(weight, jnp.maximum(step, 1e-12), bits)


def _largest(weight: Array, site: Site) -> Array:
    return jnp.max(jnp.abs(weight.astype(jnp.float32)), axis=site.summed, keepdims=True)
