"""What tasks of texts that are written share: at every token the next one is foreseen, and nats are counted."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split
from kdjax.decoding.base import Limits
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Task
from kdjax.types import Array, Batch, Outputs, Tree

NLL = Metric('nll', 'negative log-likelihood of a token', 'nats', 'lower', 4, 'NLL')
BITS = Metric('bits', 'bits of a token', 'bits', 'lower', 4)
PERPLEXITY = Metric('perplexity', 'perplexity of a token', '', 'lower')
ACCURACY = Metric('accuracy', 'tokens foreseen', '%', short='foreseen')
AGREEMENT = Metric('agreement', 'tokens foreseen as by the teacher', '%', 'higher', 2, 'agrees')
KL = Metric('kl', 'KL to the teacher of a token', 'nats', 'lower', 4, 'KL')
# Of a training step of one network, of the last fit of a method
STEP_COSTS = (
    Metric('step_ms', 'time of a step', 'ms', 'lower', 1, 'step'),
    Metric('sampling_ms', 'of which texts are written', 'ms', 'lower', 1, 'sampling'),
    Metric('teacher_ms', 'and the teacher is asked', 'ms', 'lower', 1, 'teacher'),
    Metric('update_ms', 'and the rest', 'ms', 'lower', 1, 'update'),
)


class Perplexity(NamedTuple):
    """exp of a mean in the making."""

    total: Array
    number: Array

    def compute(self) -> Array:
        """exp(total / number); nan where nothing was counted."""
        return jnp.exp(self.total / self.number)


class NextToken(Task):
    """Labels (B, N) are the tokens that follow those of the text, of which logits (B, N, K) are; 0 is padding.

    All means are over the real tokens of all examples: a long text counts for more than a short one.
    """

    SOFTMAX: ClassVar[bool] = True

    @property
    def per_token(self) -> bool:
        return True

    @property
    def writes(self) -> bool:
        return True

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return (*super().cost_metrics, *STEP_COSTS)

    def text(self, inputs: Tree) -> Any:
        """The tokens (B, N), of inputs, after which another is foreseen."""
        return inputs

    def retold(self, inputs: Tree, text: Array) -> Tree:
        """Inputs with other tokens (B, N) in the place of theirs: of 'target', where there is a source too."""
        return {**inputs, 'target': text} if isinstance(inputs, Mapping) else text

    def source(self, inputs: Tree) -> Tree:
        """What a network that writes reads, (B, ...): 'source', where there is one."""
        return inputs['source'] if isinstance(inputs, Mapping) else inputs

    def limits(self, length: int) -> Limits:
        """What may be written, of at most so many tokens."""
        return Limits(length)

    def check(self, dataset: Dataset) -> None:
        if {'inputs', 'labels'} - set(dataset.padded):
            raise UsageError(f"{type(self).__name__} needs padded columns 'inputs' and 'labels', the data have "
                             f'{dataset.padded}')  # fmt: skip
        if 'vocabulary' not in dataset.facts:
            raise UsageError(f"{type(self).__name__} needs the fact 'vocabulary', the number of ids, of the data")
        for name, split in dataset.splits.items():
            written, labels = self.text(split.column('inputs')), split.column('labels')
            if labels.ndim != 2 or labels.shape != written.shape or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'{type(self).__name__} needs the id that follows each token, split {name!r} has '
                                 f'labels {labels.dtype} {labels.shape} for texts {written.shape}')  # fmt: skip
            if labels.min() < 0 or labels.max() >= dataset.facts['vocabulary']:
                raise UsageError(f'labels of split {name!r} must be in 0 to {dataset.facts["vocabulary"] - 1}, got '
                                 f'{labels.min()} to {labels.max()}')  # fmt: skip

    def prepare(self, batch: Batch) -> Batch:
        """Adds 'token_mask' (B, N), which tokens are real; 'mask' is that of real tokens of real examples."""
        real = (self.text(batch['inputs']) > 0).astype(batch['mask'].dtype)
        return {**batch, 'token_mask': real, 'mask': batch['mask'][:, None] * real}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'nll', 'bits', 'perplexity' and 'accuracy'; against a teacher of as many ids of 'agreement' and of
        'kl', KL(teacher || student) in nats at temperature 1, where a task has those. All over real tokens."""
        logs, labels, mask = self._logs(outputs), batch['labels'], batch['mask'] * known(batch)
        nll = _surprise(logs, labels)
        right = (jnp.argmax(logs, axis=-1) == labels).astype(jnp.float32)
        total = mean(nll, mask)
        found: dict[str, Any] = {
            'nll': total, 'bits': mean(nll / jnp.log(2.0), mask), 'perplexity': Perplexity(*total),
            'accuracy': mean(right, mask),
        }  # fmt: skip
        found |= {} if teacher_logits is None else self._likeness(logs, teacher_logits, batch['mask'])
        return {name: meter for name, meter in found.items() if name in self.by_name}

    def _likeness(self, logs: Array, teacher_logits: Array, mask: Array) -> dict[str, Any]:
        if teacher_logits.shape[-1] != logs.shape[-1]:
            return {}
        teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32), axis=-1)
        kl = jnp.sum(jnp.exp(teacher) * (teacher - logs), axis=-1)
        agree = (jnp.argmax(logs, axis=-1) == jnp.argmax(teacher, axis=-1)).astype(jnp.float32)
        return {'agreement': mean(agree, mask), 'kl': mean(kl, mask)}

    def _logs(self, outputs: Outputs) -> Array:
        return jax.nn.log_softmax(outputs.logits.astype(jnp.float32), axis=-1)

    def predict(self, outputs: Outputs, batch: Batch) -> Tree:
        """Of every token its 'nll' in nats and whether it was 'right', (B, N) float32, 0 at padding."""
        logs, real = self._logs(outputs), batch['mask'] * known(batch)
        right = (jnp.argmax(logs, axis=-1) == batch['labels']).astype(jnp.float32)
        return {'nll': jnp.where(real > 0, _surprise(logs, batch['labels']), 0), 'right': right * real}

    def decide(self, outputs: Outputs, batch: Batch) -> Tree:
        """The most probable next token after each. (B, N) int32"""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    def statistics(self, predictions: Mapping[str, np.ndarray], split: Split) -> np.ndarray:
        """Of each text the nats, or with the score 'accuracy' the tokens foreseen, and its tokens. (N, 2)"""
        counted = predictions['right' if self.score == 'accuracy' else 'nll']
        real = np.asarray(self.text(split.column('inputs')))[:, : counted.shape[1]] > 0
        return np.stack([counted.sum(axis=1), real.sum(axis=1)], axis=1).astype(np.float64)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        """Of a score that is none of tokens, such as 'kl', it is nats."""
        share = sums[..., 0] / sums[..., 1]
        return share / np.log(2) if self.score == 'bits' else np.exp(share) if self.score == 'perplexity' else share


def known(batch: Batch) -> Array:
    """1 where the next token is shown. (B, N)"""
    return (batch['labels'] >= 0).astype(batch['mask'].dtype)


def _surprise(logs: Array, labels: Array) -> Array:
    return -jnp.take_along_axis(logs, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
