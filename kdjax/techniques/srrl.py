"""Softmax regression representation learning: the student's features must please the teacher's own classifier."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.techniques.algebra import batch_norm, example_mask, per_example, pooled, wide
from kdjax.techniques.base import Knobs, Paper, Scope, apply_module, init_module, knob
from kdjax.techniques.layers import LayerTerm, Pair
from kdjax.types import Array, TermInputs, TermOut, Tree


class _Connector(nn.Module):
    """A 1x1 convolution without bias, batch normalisation over real examples, ReLU, the mean over positions."""

    width: int

    @nn.compact
    def __call__(self, x: Array, mask_B: Array) -> Array:
        x = nn.Dense(self.width, use_bias=False)(x)
        x = batch_norm(x, mask_B)
        return pooled(nn.relu(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftmaxRegression(LayerTerm):
    """alpha ||h_t - r(h_s)||^2 + beta ||W r(h_s) + b - z_t||^2, both as means (eq. 2, 5). Values: (B,).

    h are features after pooling, r a learned connector, (W, b) the teacher's own classifier, fixed. Also cls_KD.

    Attributes:
      layer: 'tap' or 'student_tap:teacher_tap', maps (B, H, W, C) or vectors (B, D); the teacher's is what its
        classifier reads, but for the mean over positions.
      classifier: the teacher's classifier by the names of its layers, 'head' or 'block/head'; '' where the teacher's
        weights are not at hand: then (W, b) is learned beside r.
      alpha: weight of the features; knob, >= 0.
      beta: weight of the logits; knob, >= 0.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Yang, Martinez, Bulat, Tzimiropoulos',
        'Knowledge Distillation via Softmax Regression Representation Learning',
        'ICLR',
        2021,
    )
    scope: ClassVar[Scope] = 'batch'
    reads_logits: ClassVar[tuple[bool, bool]] = (True, True)

    classifier: str = 'head'
    alpha: float = knob(1.0, minimum=0.0)
    beta: float = knob(5.0, minimum=0.0)

    @property
    def adopts(self) -> bool:
        return bool(self.classifier)

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        student, teacher_BD = self.features(inputs)
        connector = init_module(_Connector(teacher_BD.shape[1]), key, student, example_mask(inputs))
        classes = inputs.teacher.logits.shape[-1]
        classifier = init_module(nn.Dense(classes), jax.random.fold_in(key, 1), teacher_BD)
        return {'connector': connector, 'classifier': classifier}, {}

    def adopt(self, params: Tree, earlier: Mapping[str, Tree], teacher: Tree) -> Tree:
        if not self.classifier:
            return params
        found = teacher.get('params', {})
        if not found:
            raise UsageError("no teacher weights to adopt; set classifier=''")
        for name in self.classifier.split('/'):
            if name not in found:
                raise unknown('classifier', self.classifier, found, ' of the teacher')
            found = found[name]
        shapes = [jax.tree.map(jnp.shape, dict(tree)) for tree in (found, params['classifier'])]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f'classifier {self.classifier!r} of the teacher has {shapes[0]}, but {self.layer!r} needs {shapes[1]}'
            )
        return {**params, 'classifier': found}

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        student_BD, teacher_BD = self.representations(params, inputs)
        representation = per_example(jnp.square(student_BD - teacher_BD))
        logits_BK = self.logits(params, student_BD)
        regression = per_example(jnp.square(logits_BK - wide(inputs.teacher.logits)))
        return TermOut(knobs['alpha'] * representation + knobs['beta'] * regression, memory, {})

    def representations(self, params: Tree, inputs: TermInputs) -> tuple[Array, Array]:
        """r(h_s) and h_t. (B, D) each"""
        student, teacher_BD = self.features(inputs)
        module = _Connector(teacher_BD.shape[1])
        return apply_module(module, params['connector'], student, example_mask(inputs)), teacher_BD

    def logits(self, params: Tree, student_BD: Array) -> Array:
        """What the classifier says of the connected features. (B, K)"""
        classifier = params['classifier']
        if self.classifier:
            classifier = jax.lax.stop_gradient(classifier)
        return student_BD @ wide(classifier['kernel']) + wide(classifier['bias'])

    def features(self, inputs: TermInputs) -> Pair:
        student, teacher = map(wide, super().features(inputs))
        if student.ndim not in (2, 4) or teacher.ndim not in (2, 4):
            raise UsageError(
                f'{self.layer!r} must be maps (B, H, W, C) or vectors (B, D), got {student.shape} and {teacher.shape}'
            )
        return student, pooled(teacher)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        # A law's world has no teacher weights.
        return [cls(classifier=''), cls(classifier='', layer='stage2')]
