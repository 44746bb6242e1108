"""ViTKD: shallow layers mimic the teacher's, a deep one generates it from tokens of which some are hidden."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError
from kdjax.techniques.algebra import example_keys, example_mask, wide
from kdjax.techniques.base import Knobs, Paper, apply_module, init_module, number
from kdjax.techniques.layers import LayerTerm, Pair, as_seen, pairs
from kdjax.techniques.tokens import ProjectedTokens, check_widths, real_states
from kdjax.types import Array, TermInputs, TermOut, Tree

_PAPER = Paper(
    'Yang, Li, Zeng, Li, Yuan, Li',
    'ViTKD: Feature-based Knowledge Distillation for Vision Transformers',
    'CVPR Workshops',
    2024,
    '2209.02432',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mimicking(ProjectedTokens):
    """|| fc(F^S) - F^T ||^2 over patches and width, summed over shallow layers (L_lr). Values: (B,).

    The paper's alpha, 3e-5, is this term's weight.

    Attributes:
      layers: pairs of tokens (B, N, D), 'tap' or 'student_tap:teacher_tap'; the paper's are the first two.
      skip: leading tokens that are no patches, such as a class token.
      projection: whether each layer learns fc; without it the widths must be equal.
    """

    PAPER: ClassVar[Paper] = _PAPER

    BIAS: ClassVar[bool] = True

    skip: int = 0
    projection: bool = True

    def states(self, feature: Array, inputs: TermInputs) -> Array:
        return _patches(feature, inputs)[:, self.skip :]

    def projected(self, params: Tree, inputs: TermInputs) -> list[Pair]:
        # What is learned adds to padding too, and the teacher is 0 there.
        real = [
            _real(inputs.student.features[taps[0]], as_seen(inputs, taps), self.skip)[..., None]
            for taps in pairs(self.layers)
        ]
        features = zip(super().projected(params, inputs), real, strict=True)
        return [(jnp.where(real_BN1, student, 0), teacher) for (student, teacher), real_BN1 in features]

    def distance(self, student: Array, teacher: Array, inputs: TermInputs, knobs: Knobs) -> Array:
        return jnp.sum(jnp.square(student - teacher), axis=(1, 2))

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(layers=('map',), projection=False)]


class _Generator(nn.Module):
    """Aligned patches, of which hidden ones are replaced by a learned token, through two convolutions. (B, N, D)"""

    width: int
    align: bool

    @nn.compact
    def __call__(self, x_BND: Array, hidden_BN: Array, real_BN: Array) -> Array:
        if self.align:
            x_BND = nn.Dense(self.width, name='align')(x_BND)
        # Not zeros, as in the authors' code: a patch among hidden ones would start in the corner of the ReLU.
        token = self.param('token', nn.initializers.normal(1.0), (self.width,))
        x_BND = jnp.where(hidden_BN[..., None], token.astype(x_BND.dtype), x_BND)
        side = round(x_BND.shape[1] ** 0.5)
        # What an image was padded with is 0 to its neighbours, as what lies beyond its border.
        x = jnp.where(real_BN[..., None], x_BND, 0).reshape(-1, side, side, self.width)
        x = Conv(self.width, (3, 3), name='first')(x)
        x = Conv(self.width, (3, 3), name='second')(nn.relu(x))
        return x.reshape(x_BND.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation(LayerTerm):
    """1/lambda || M (G(fc(F^S), M) - F^T) ||^2 over patches and width of a deep layer (L_gen). Values: (B,).

    M hides the share lambda of patches at random; G puts a learned token in their place and generates them by two 3x3
    convolutions. The factor 1/lambda is that of the authors' code. The paper's beta, 3e-6, is this term's weight.

    Attributes:
      layer: tokens (B, N, D) of which the patches make a square, or maps (B, H, H, D), 'tap' or
        'student_tap:teacher_tap'.
      ratio: lambda, in (0, 1]; of n patches int(n (1 - lambda)) stay visible.
      skip: leading tokens that are no patches, such as a class token.
      projection: whether to learn fc; without it the widths must be equal.
    """

    PAPER: ClassVar[Paper] = _PAPER
    DRAWS: ClassVar[bool] = True

    layer: str = 'hidden2'
    ratio: float = number(0.5, above=0.0, maximum=1.0)
    skip: int = 0
    projection: bool = True

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher, real_BN = self._read(inputs)
        return init_module(self._module(teacher), key, student, real_BN, real_BN), {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher, real_BN = self._read(inputs)
        hidden_BN = self._hidden(self.noise(key, inputs, student.shape[1]), real_BN)
        generated = apply_module(self._module(teacher), params, student, hidden_BN, real_BN)
        difference = jnp.where(hidden_BN[..., None], generated - teacher, 0)
        return TermOut(jnp.sum(jnp.square(difference), axis=(1, 2)) / self.ratio, memory, {})

    def noise(self, key: Array, inputs: TermInputs, patches: int) -> Array:
        """Uniform numbers by which patches are hidden: the smallest stay visible. (B, N)"""
        return jax.vmap(lambda own: jax.random.uniform(own, (patches,)))(example_keys(key, inputs))

    def _hidden(self, noise_BN: Array, real_BN: Array) -> Array:
        visible = [int(count * (1 - self.ratio)) for count in range(real_BN.shape[1] + 1)]  # of so many real patches
        keep_B = jnp.asarray(visible)[jnp.sum(real_BN, axis=1)]
        rank_BN = jnp.argsort(jnp.argsort(jnp.where(real_BN, noise_BN, jnp.inf), axis=1), axis=1)
        return (rank_BN >= keep_B[:, None]) & real_BN

    def _module(self, teacher: Array) -> nn.Module:
        return _Generator(teacher.shape[-1], self.projection)

    def _read(self, inputs: TermInputs) -> tuple[Array, Array, Array]:
        """Patches of student and teacher (B, N, D), 0 at padding, and which are real (B, N)."""
        features, inputs = self.features(inputs), self.seen(inputs)
        student, teacher = (_patches(feature, inputs)[:, self.skip :] for feature in features)
        check_widths(self.layer, student, teacher, self.projection)
        patches = student.shape[1]
        if round(patches**0.5) ** 2 != patches:
            raise UsageError(
                f'{patches} patches of layer {self.layer!r} are not a square; tokens that are no patches are left out '
                f'with skip, here {self.skip}'
            )
        return student, teacher, _real(features[0], inputs, self.skip)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(layer='stage2'), cls(layer='map', projection=False)]


def _real(feature: Array, inputs: TermInputs, skip: int) -> Array:
    """Which patches of a feature are real. (B, N)"""
    return _patches(jnp.ones((*feature.shape[:-1], 1), feature.dtype), inputs)[:, skip:, 0] > 0


def _patches(feature: Array, inputs: TermInputs) -> Array:
    if feature.ndim == 4:
        known = example_mask(inputs)[:, None, None, None] > 0
        return jnp.where(known, wide(feature), 0).reshape(feature.shape[0], -1, feature.shape[-1])
    if feature.ndim != 3:
        raise UsageError(f'needs tokens (B, N, D) or maps (B, H, W, D), got {feature.shape}')
    return real_states(feature, inputs)
