"""The reused teacher classifier: the student learns the features that the teacher's last layer reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.cpu.convolution import Conv
from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import batch_norm, example_mask, per_example, pool_to, wide
from kdjax.techniques.base import Knobs, Paper, Scope, number
from kdjax.techniques.layers import MapTerm, pairs
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree


class _Projector(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 with a narrow middle, each with batch normalisation and ReLU."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, mask_B: Array, train: bool = True) -> Array:
        for channels, size in ((self.width, 1), (self.width, 3), (self.channels, 1)):
            x = Conv(channels, (size, size), use_bias=False)(x)
            x = nn.relu(batch_norm(x, mask_B, train))
        return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReusedClassifier(MapTerm):
    """Mean square of f_t - P(f_s), with a learned projector P. Values: (B,).

    The paper trains with this term alone, without labels, and answers with the teacher's classifier on the pooled
    P(f_s): the `answer` of the term, with the running statistics of P. That classifier is adopted, not trained: it has
    no gradient, so terms_weight_decay must stay 0 where it is to be used.

    Attributes:
      layer: pair of maps (B, H, W, C), 'tap' or 'student_tap:teacher_tap'; the larger map is average-pooled.
      factor: the teacher's channels over those in the middle of P.
      classifier: name of the teacher's last layer, whose weights are adopted; '' for none.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Chen, Mei, Zhang, Wang, Feng, Chen',
        'Knowledge Distillation with the Reused Teacher Classifier',
        'CVPR',
        2022,
        '2203.14001',
    )
    scope: ClassVar[Scope] = 'batch'

    factor: int = number(2, minimum=1)
    classifier: str = 'head'

    @property
    def adopts(self) -> bool:
        return bool(self.classifier)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher = self.features(inputs)
        learned = _projector(self.factor, teacher.shape[-1]).init(key, student, example_mask(inputs))
        # The map says by its shape how far a student is pooled that answers without its teacher.
        memory = {'statistics': learned['batch_stats'], 'map': jnp.zeros(teacher.shape[1:3])}
        return {'projector': learned['params']}, memory

    def adopt(self, params: Tree, earlier: Mapping[str, Tree], teacher: Tree) -> Tree:
        if not self.classifier:
            return params
        layers = teacher.get('params', {})
        if not layers:
            raise UsageError("no teacher weights to adopt; set classifier=''")
        if self.classifier not in layers:
            raise unknown('classifier', self.classifier, layers, ' of the teacher')
        return {**params, 'classifier': layers[self.classifier]}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student, teacher = self.features(inputs)
        variables = {'params': params['projector'], 'batch_stats': memory['statistics']}
        projected, seen = _projector(self.factor, teacher.shape[-1]).apply(
            variables, student, example_mask(inputs), mutable=['batch_stats']
        )
        return TermOut(per_example(jnp.square(projected - teacher)), {**memory, 'statistics': seen['batch_stats']}, {})

    def answer(self, params: Tree, memory: Tree, student: Outputs) -> Array:
        """Logits of the teacher's classifier on the pooled P(f_s). (B, K)"""
        if not self.classifier:
            raise UsageError("ReusedClassifier answers with the teacher's last layer: name it by `classifier`, not ''")
        own = pool_to(wide(student.features[pairs([self.layer])[0][0]]), *memory['map'].shape)
        kernel, bias = params['classifier']['kernel'], params['classifier']['bias']
        variables = {'params': params['projector'], 'batch_stats': memory['statistics']}
        answer = _projector(self.factor, len(kernel)).apply(variables, own, jnp.ones(len(own)), train=False)
        return jnp.mean(jnp.asarray(answer), axis=(1, 2)) @ kernel + bias

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(factor=8, classifier=''), cls(layer='stage1:stage2', factor=6, classifier='')]


def _projector(factor: int, channels: int) -> _Projector:
    return _Projector(max(channels // factor, 1), channels)
