"""Factor transfer: translated maps of the student match the factors that a paraphraser finds in the teacher's."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import batch_norm, example_mask, flat, magnitude, norm, smaller_map, unit, wide
from kdjax.techniques.base import AtTeacher, Knobs, Paper, Scope, Taps, Term, apply_module, init_module, number
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree

PAPER = Paper(
    'Kim, Park, Kwak',
    'Paraphrasing Complex Network: Network Compression via Factor Transfer',
    'NeurIPS',
    2018,
    '1802.04977',
)


class _Coder(nn.Module):
    """Three 3x3 convolutions, each followed by batch normalisation over real examples, where asked, and leaky ReLU."""

    widths: tuple[int, int, int]
    transposed: bool = False
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        for width in self.widths:
            x = self._layer(width)(x)
            if self.batch_norm:
                x = batch_norm(x, mask_B)
            x = nn.leaky_relu(x, 0.1)
        return x

    def _layer(self, width: int) -> Any:
        if self.transposed:
            return nn.ConvTranspose(width, (3, 3), padding='SAME', transpose_kernel=True)
        return Conv(width, (3, 3))


def _factors(channels: int, rate: float) -> int:
    return max(1, int(channels * rate))


def _encoder(channels: int, rate: float) -> _Coder:
    factors = _factors(channels, rate)
    return _Coder((channels, factors, factors))


def _as_map(tap: str, x: Array) -> Array:
    if x.ndim != 4:
        raise UsageError(f'factors of {tap!r} need maps (B, H, W, C), got {x.shape}')
    return wide(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paraphrase(Term):
    """|| t - decode(encode(t)) ||^2 of a teacher's map t: learns the paraphraser, the encoder (eq. 1). Values: (B,).

    The first of two fits of one method: it trains nothing of the student. Forms: 'paper': the sum of squares; 'mean':
    their mean (RepDistiller, KD-Zoo).

    Attributes:
      layer: the teacher's tap, a map (B, H, W, C).
      rate: factors per channel of the map (k, sec. 3.1).
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mean')
    STUDENT: ClassVar[bool] = False
    OTHER_CLASSES: ClassVar[bool] = True

    layer: str = 'stage2'
    rate: float = number(0.5, above=0.0)
    form: str = 'paper'

    def taps(self) -> Taps:
        return Taps(teacher=(self.layer,))

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        teacher, mask = _as_map(self.layer, inputs.teacher.features[self.layer]), example_mask(inputs)
        encoder, decoder = self._encoder_decoder(teacher)
        keys = jax.random.split(key)
        encoded = init_module(encoder, keys[0], teacher, mask)
        factor = apply_module(encoder, encoded, teacher, mask)
        return {'encoder': encoded, 'decoder': init_module(decoder, keys[1], factor, mask)}, {}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        square = flat(jnp.square(self.paraphrased(params, inputs)[1] - wide(inputs.teacher.features[self.layer])))
        reduce = jnp.mean if self.form == 'mean' else jnp.sum
        return TermOut(reduce(square, axis=1), memory, {})

    def paraphrased(self, params: Tree, inputs: TermInputs) -> tuple[Array, Array]:
        """The factors, and the map as rebuilt from them."""
        teacher, mask = _as_map(self.layer, inputs.teacher.features[self.layer]), example_mask(inputs)
        encoder, decoder = self._encoder_decoder(teacher)
        factor = apply_module(encoder, params['encoder'], teacher, mask)
        return factor, apply_module(decoder, params['decoder'], factor, mask)

    def _encoder_decoder(self, teacher: Array) -> tuple[_Coder, _Coder]:
        channels = teacher.shape[-1]
        return _encoder(channels, self.rate), _Coder((_factors(channels, self.rate), channels, channels), True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor(LayerTerm):
    """|| F_t / ||F_t|| - F_s / ||F_s|| ||_p of factors (eq. 3). Values: (B,).

    F_s = translator(s) is learned; F_t = paraphraser(t) was learned by `Paraphrase` in the fit before and is adopted,
    not trained, so terms_weight_decay must stay 0. The larger map of factors is average-pooled. Forms, with d the
    difference of the flattened, scaled factors:

    | form         | value                                                     | as in                                |
    |--------------|-----------------------------------------------------------|--------------------------------------|
    | paper        | (sum of abs(d)^p)^(1/p)                                   | the paper, torchdistill              |
    | mean         | mean of abs(d)^p                                          | KD-Zoo, mmrazor, torchdistill, p = 1 |
    | repdistiller | mean of d^p, its magnitude for p = 1; factors first become| RepDistiller                         |
    |              | the channel mean of their power `moment`, as attention    |                                      |

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', maps (B, H, W, C).
      paraphraser: name of the term `Paraphrase` in the fit before; '' where the teacher's map itself is the factor.
      translator: whether to learn the translator; without it the student's map itself is the factor.
      batch_norm: whether the translator normalises (over real examples of all devices).
      rate: factors per channel of the teacher's map, as in `Paraphrase`.
      power: p, a positive integer.
      moment: see the form 'repdistiller'; a positive integer.
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = PAPER
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'mean', 'repdistiller')
    PLAIN: ClassVar[Mapping[str, Any]] = {'translator': False, 'paraphraser': '', 'batch_norm': True, 'rate': 0.5}

    layer: str = 'stage2'
    paraphraser: str = ''
    translator: bool = True
    batch_norm: bool = True
    rate: float = number(0.5, above=0.0)
    power: int = number(1, minimum=1)
    moment: int = number(2, minimum=1)
    form: str = 'paper'

    @property
    def scope(self) -> Scope:
        return 'batch' if self.translator and self.batch_norm else 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        return 'free' if self.translator or self.paraphraser else 'zero'

    @property
    def minimum(self) -> float:
        # An odd power keeps the sign of the difference.
        return -math.inf if self.form == 'repdistiller' and self.power % 2 and self.power > 1 else 0.0

    @property
    def adopts(self) -> bool:
        return bool(self.paraphraser)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        (student, teacher), mask = self.features(inputs), example_mask(inputs)
        params = {}
        if self.translator:
            params['translator'] = init_module(self._translator(student, teacher), key, student, mask)
        if self.paraphraser:  # a place for what `adopt` brings
            params['paraphraser'] = init_module(_encoder(teacher.shape[-1], self.rate), key, teacher, mask)
        return params, {}

    def adopt(self, params: Tree, earlier: Mapping[str, Tree], teacher: Tree) -> Tree:
        if not self.paraphraser:
            return params
        if self.paraphraser not in earlier:
            raise unknown('term', self.paraphraser, earlier, ' of the fit before, as paraphraser of Factor')
        encoder = earlier[self.paraphraser].get('encoder', {})
        found, wanted = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (encoder, params['paraphraser']))
        if found != wanted:
            raise UsageError(f'paraphraser {self.paraphraser!r} learned the encoder {found}, but {self.layer!r} with '
                             f'rate {self.rate!r} needs {wanted}; layer and rate of both terms must agree')  # fmt: skip
        return {**params, 'paraphraser': encoder}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = smaller_map(*self.factors(params, inputs))
        if self.form == 'repdistiller':
            student, teacher = (jnp.mean(x**self.moment, axis=-1) for x in (student, teacher))
        elif student.shape != teacher.shape:
            raise UsageError(f'factors of {self.layer!r}: {student.shape} and {teacher.shape} differ in channels; '
                             'set translator=True')  # fmt: skip
        return TermOut(self._distance(unit(flat(student)) - unit(flat(teacher))), memory, {})

    def factors(self, params: Tree, inputs: TermInputs) -> tuple[Array, Array]:
        """F_s and F_t, before they are scaled."""
        (student, teacher), mask = self.features(inputs), example_mask(inputs)
        factor_s, factor_t = student, teacher
        if self.translator:
            factor_s = apply_module(self._translator(student, teacher), params['translator'], student, mask)
        if self.paraphraser:
            frozen = jax.lax.stop_gradient(params['paraphraser'])
            factor_t = apply_module(_encoder(teacher.shape[-1], self.rate), frozen, teacher, mask)
        return factor_s, factor_t

    def _distance(self, gap_BD: Array) -> Array:
        if self.form == 'repdistiller' and self.power > 1:
            return jnp.mean(gap_BD**self.power, axis=1)
        if self.form == 'paper' and self.power == 2:
            return norm(gap_BD)[:, 0]
        total = jnp.sum(magnitude(gap_BD) ** self.power, axis=1)
        if self.form != 'paper':
            return total / gap_BD.shape[1]
        positive = total > 0
        return jnp.where(positive, jnp.where(positive, total, 1) ** (1 / self.power), 0)

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = super().features(inputs)
        return _as_map(self.layer, student), _as_map(self.layer, teacher)

    def _translator(self, student: Array, teacher: Array) -> _Coder:
        own, channels = student.shape[-1], teacher.shape[-1]
        factors = _factors(channels, self.rate) if self.paraphraser else channels
        return _Coder((own, factors, factors), batch_norm=self.batch_norm)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        fixed = [cls(form=form, translator=False, layer='map') for form in cls.FORMS]
        powers = [dataclasses.replace(term, power=power) for term, power in ((fixed[0], 2), (fixed[2], 3))]
        return [*fixed, *powers, cls(form='mean'), cls(form='mean', layer='stage1')]
