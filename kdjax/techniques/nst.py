"""Neuron selectivity transfer: the channels of a layer, as a set of spatial patterns, are alike on both sides."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import example_mask, same_maps, token_mask, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term
from kdjax.techniques.layers import LayerwiseTerm, as_seen, paired, pairs
from kdjax.types import Array, TermInputs

PAPER = Paper(
    'Huang, Wang', 'Like What You Like: Knowledge Distill via Neuron Selectivity Transfer', 'arXiv', 2017, '1707.01219'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuronSelectivity(LayerwiseTerm):
    """Squared maximum mean discrepancy of channels, summed over pairs of layers (eq. 5-6). Values: (B,).

    mean_{i,i'} k(t_i, t_i') + mean_{j,j'} k(s_j, s_j') - 2 mean_{i,j} k(t_i, s_j), where t_i and s_j are the channels'
    maps, each scaled to length 1; the numbers of channels may differ. Kernels (sec. 4.2): 'linear': x'y; 'polynomial':
    (x'y)^2, which projects use; 'gaussian': exp(-||x - y||^2 / (2 v)), v being the mean of ||t_i - s_j||^2.

    Attributes:
      layers: pairs of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      kernel: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    at_teacher: ClassVar[AtTeacher] = 'zero'

    kernel: str = 'polynomial'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel not in KERNELS:
            raise unknown('kernel', self.kernel, KERNELS, ' of NeuronSelectivity')

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        student, teacher = (_patterns(x) for x in same_maps(student, teacher))
        if self.kernel == 'polynomial' and student.shape[1] < student.shape[2]:
            return by_positions(student, teacher)
        spread = jnp.mean(_distances(teacher, student), axis=(1, 2), keepdims=True)
        tt, ss, ts = (
            jnp.mean(KERNELS[self.kernel](x, y, spread), axis=(1, 2))
            for x, y in ((teacher, teacher), (student, student), (teacher, student))
        )
        return tt + ss - 2 * ts

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(kernel=kernel) for kernel in KERNELS]


def _patterns(x: Array) -> Array:
    """The channels' maps (B, H, W, C), each of length 1. (B, HW, C)"""
    return unit(x.reshape(x.shape[0], -1, x.shape[-1]), axis=1)


def by_positions(student: Array, teacher: Array) -> Array:
    """The discrepancy of patterns (B, P, C) with the polynomial kernel, in time P^2 C instead of P C^2. (B,)

    The mean of (x'y)^2 over x of X and y of Y is <X X', Y Y'> over the numbers of channels (sec. 4.3), so that all is
    the squared norm of a difference of products of positions.
    """
    products = [jnp.einsum('bpc,bqc->bpq', x, x) / x.shape[-1] for x in (student, teacher)]
    return jnp.sum(jnp.square(products[0] - products[1]), axis=(1, 2))


def _products(left: Array, right: Array) -> Array:
    """(B, P, C) and (B, P, D) to (B, C, D)."""
    return jnp.einsum('bpc,bpd->bcd', left, right)


def _distances(left: Array, right: Array) -> Array:
    """||x - y||^2 of all pairs; a dead channel is the vector 0, not of length 1. (B, C, D)"""
    lengths = [jnp.sum(jnp.square(x), axis=1) for x in (left, right)]
    return jnp.maximum(lengths[0][:, :, None] + lengths[1][:, None, :] - 2 * _products(left, right), 0)


# Of channels (B, P, C) and (B, P, D), and of the mean squared distance between the sides.
KERNELS: Mapping[str, Callable[[Array, Array, Array], Array]] = {
    'linear': lambda x, y, spread: _products(x, y),
    'polynomial': lambda x, y, spread: jnp.square(_products(x, y)),
    'gaussian': lambda x, y, spread: jnp.exp(-_distances(x, y) / (2 * jnp.maximum(spread, 1e-6))),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenSelectivity(Term):
    """Squared difference of the tokens' products h h'^T / D between two layers, averaged over token pairs. (B,).

    For h = h' it is NeuronSelectivity with the polynomial kernel, whose channels are those of tokens, unscaled: the
    mean of (x'y)^2 over channels is the squared norm of the tokens' product (sec. 4.3). Forms: 'example': mean over an
    example's pairs of real tokens; 'textbrewer': examples weighted by their number of pairs, as in its masked mmd.

    Attributes:
      layers: the two layers, 'tap' or 'student_tap:teacher_tap', of tokens (B, N, D).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('example', 'textbrewer')
    OTHER_CLASSES: ClassVar[bool] = True
    at_teacher: ClassVar[AtTeacher] = 'zero'

    layers: tuple[str, str] = ('hidden2', 'hidden2')
    form: str = 'example'

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.layers) != 2:
            raise UsageError(f'TokenSelectivity needs two layers (the same one twice is usual), got {self.layers!r}')

    @property
    def scope(self) -> Scope:
        return 'batch' if self.form == 'textbrewer' else 'example'

    def taps(self) -> Taps:
        return paired(self.layers)

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        sides = [[wide(side.features[tap]) for tap in taps] for side, taps in zip(inputs[:2], self.taps(), strict=True)]
        shapes = [x.shape for side in sides for x in side]
        if any(len(shape) != 3 or shape[:2] != shapes[0][:2] for shape in shapes):
            raise UsageError(f'TokenSelectivity needs tokens (B, N, D) of one B and N, got {shapes}')
        inputs = as_seen(inputs, *pairs(self.layers))
        mask = token_mask(inputs, shapes[0][1]).astype(sides[0][0].dtype)
        student, teacher = (_token_products(left, right, mask) for left, right in sides)
        gap = student - teacher
        square, counted = jnp.sum(jnp.square(gap), axis=(1, 2)), jnp.square(jnp.sum(mask, axis=1))
        if self.form == 'textbrewer':
            real = example_mask(inputs).astype(square.dtype)
            counted = jnp.sum(jnp.where(real > 0, counted, 0)) / jnp.maximum(jnp.sum(real), 1)
        return square / jnp.where(counted > 0, counted, 1)


def _token_products(left: Array, right: Array, mask_BN: Array) -> Array:
    """h h'^T / D between real tokens, 0 elsewhere. (B, N, N)"""
    left, right = (jnp.where(mask_BN[..., None] > 0, x, 0) for x in (left, right))
    return jnp.einsum('bnd,bmd->bnm', left, right) / left.shape[-1]
