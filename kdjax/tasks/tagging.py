"""Tagging: one class for every token, BIO tags of entities; what decides is how many entities are found whole."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.crf import best_paths
from kdjax.dataset import UNLABELLED, Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Metric, calibration, mean
from kdjax.tasks.base import Task
from kdjax.tasks.entities import OUTSIDE, Entities, Scheme, entities, f1, scheme, share, tally
from kdjax.types import Array, Batch, Outputs, Tree

METRICS = (
    Metric('f1', 'entity F1', '%', short='F1'),
    Metric('f1_strict', 'entity F1, strict IOB2', '%', short='F1 strict'),
    Metric('precision', 'entity precision', '%', short='precision'),
    Metric('recall', 'entity recall', '%', short='recall'),
    Metric('accuracy', 'token accuracy', '%', short='tokens'),
    Metric('entity_share', 'tokens predicted to be in an entity', '%', short='in entities'),
    Metric('invalid', 'predicted I- tags that continue nothing', '%', 'lower', short='invalid I-'),
    Metric('nll', 'negative log-likelihood of a token', 'nats', 'lower', 3, 'NLL'),
    Metric('ece', 'calibration error of tokens', '%', 'lower', 2, 'ECE'),
    Metric('agreement', 'tokens tagged as by the teacher', '%', 'higher', 2, 'agrees'),
    Metric('kl', 'KL to the teacher of a token', 'nats', 'lower', 3, 'KL'),
)
CRF = {'emissions', 'transitions'}  # taps of a network whose best sequence need not be that of the best tags
CLASSES = 256  # at most: predictions are kept as bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """Each real token has one of the classes: logits (B, N, K), labels (B, N); a token is real where its id is not 0.

    Predictions are the most probable tag of every token, or the most probable tags of a sentence where the network is
    a CRF (`kdjax.crf`). Entities are read as conlleval does, with 'f1_strict' as strict IOB2 does. 'nll', 'ece',
    'agreement' and 'kl' are of the logits, token by token; of a CRF those are its marginals.

    Attributes:
      tags: the classes of the data set: 'O' and, of every type of entities x, 'B-x' and 'I-x'. They are named here
        because metrics are known before the data are: each type has its own F1, 'f1_x'.
    """

    SOFTMAX: ClassVar[bool] = True

    tags: tuple[str, ...]
    score: str = 'f1'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'tags', tuple(self.tags))  # a config may have a list
        if len(self.tags) > CLASSES:
            raise UsageError(f'tagging has room for {CLASSES} tags, got {len(self.tags)}')
        super().__post_init__()

    @property
    def scheme(self) -> Scheme:
        """What the tags mean."""
        return scheme(self.tags)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            *METRICS,
            *(Metric(f'f1_{kind}', f'entity F1 of {kind}', '%', short=kind) for kind in self.scheme.types),
        )

    @property
    def per_token(self) -> bool:
        return True

    def check(self, dataset: Dataset) -> None:
        if dataset.classes != self.tags:
            raise UsageError(f'task.tags must be the classes of the data, {dataset.classes}, got {self.tags}')
        if {'inputs', 'labels'} - set(dataset.padded):
            raise UsageError(f"tagging needs padded columns 'inputs' and 'labels', the data have {dataset.padded}")
        for name, split in dataset.splits.items():
            inputs, labels = split.column('inputs'), split.column('labels')
            if labels.ndim != 2 or labels.shape != inputs.shape or not np.issubdtype(labels.dtype, np.integer):
                raise UsageError(f'tagging needs an integer label for every token, split {name!r} has labels '
                                 f'{labels.dtype} {labels.shape} for inputs {inputs.shape}')  # fmt: skip
            least = UNLABELLED if name == 'train' else 0
            if labels.min() < least or labels.max() >= len(self.tags):
                raise UsageError(f'labels of split {name!r} must be in {least} to {len(self.tags) - 1}, got '
                                 f'{labels.min()} to {labels.max()}')  # fmt: skip

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(self.tags)}

    def strata(self, split: Split) -> np.ndarray:
        """Sentences without an entity, with one, and with more: 0, 1, 2."""
        wanted = self._entities(*self._labels(split, split.column('labels').shape[1]))
        return np.minimum(np.bincount(wanted.sentence, minlength=split.size), 2).astype(np.int32)

    def real_tokens(self, inputs: Tree) -> Any:
        """Which tokens are not padding (B, N); of words that come in pieces, those that have a first one."""
        return (inputs['first'] if isinstance(inputs, Mapping) else inputs) > 0

    def prepare(self, batch: Batch) -> Batch:
        """Adds 'token_mask' (B, N), which tokens are real; 'mask' is that of real tokens of real examples."""
        real = self.real_tokens(batch['inputs']).astype(batch['mask'].dtype)
        return {**batch, 'token_mask': real, 'mask': batch['mask'][:, None] * real}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'nll' (nats) and 'ece'; against a teacher of as many tags of 'agreement' and of 'kl',
        KL(teacher || student) in nats at temperature 1. All over real tokens."""
        logits, labels, mask = outputs.logits, batch['labels'], batch['mask']
        known = mask * (labels != UNLABELLED).astype(mask.dtype)
        log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        nll = -jnp.take_along_axis(log_probabilities, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
        probabilities = jnp.exp(log_probabilities).reshape(-1, logits.shape[-1])
        meters = {'nll': mean(nll, known), 'ece': calibration(probabilities, labels.ravel(), known.ravel())}
        if teacher_logits is not None and teacher_logits.shape[-1] == logits.shape[-1]:
            log_teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32), axis=-1)
            kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_probabilities), axis=-1)
            agree = jnp.argmax(logits, axis=-1) == jnp.argmax(teacher_logits, axis=-1)
            meters |= {'agreement': mean(agree.astype(jnp.float32), mask), 'kl': mean(kl, mask)}
        return meters

    def predict(self, outputs: Outputs, batch: Batch) -> Array:
        """The tag of every token. (B, N) uint8"""
        if outputs.features.keys() >= CRF:
            emissions, transitions = outputs.features['emissions'], outputs.features['transitions']
            tags = best_paths(emissions, transitions, batch['mask'])[0][:, 0]
        else:
            tags = jnp.argmax(outputs.logits, axis=-1)
        return tags.astype(jnp.uint8)

    def measure(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        labels, real = self._labels(split, predictions.shape[1])
        wanted, found = self._entities(labels, real), self._entities(predictions, real)
        strict = found.where(found.strict), wanted.where(wanted.strict)
        inside = real & (self.scheme.type[predictions] != OUTSIDE)
        loose, by_type = tally(found, wanted, split.size).sum(axis=0), self._by_type(found, wanted)
        return {
            'f1': float(f1(loose)),
            'f1_strict': float(f1(tally(*strict, split.size).sum(axis=0))),
            'precision': float(share(loose[0], loose[1])),
            'recall': float(share(loose[0], loose[2])),
            'accuracy': float(share(np.sum((predictions == labels) & real), np.sum(real))),
            'entity_share': float(share(np.sum(inside), np.sum(real))),
            'invalid': float(share(np.sum(~found.strict), np.sum(inside & ~self.scheme.begins[predictions]))),
            **by_type,
        }

    def statistics(self, predictions: np.ndarray, split: Split) -> np.ndarray:
        """Of each sentence: entities found rightly, found, and there to find; (N, 3).

        They are of the score: as strict IOB2 reads them, of one type, or tokens instead, where it is 'accuracy'. Of a
        score that is of the logits, such as 'nll', they are those of F1.
        """
        labels, real = self._labels(split, predictions.shape[1])
        if self.score == 'accuracy':
            tokens = np.sum(real, axis=1)
            return np.stack([np.sum((predictions == labels) & real, axis=1), tokens, tokens], axis=1).astype(np.float64)
        wanted, found = (self._scored(self._entities(tags, real)) for tags in (labels, predictions))
        return tally(found, wanted, split.size)

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        whole = {'precision': 1, 'recall': 2}
        return share(sums[..., 0], sums[..., whole[self.score]]) if self.score in whole else f1(sums)

    def balance(self, dataset: Dataset) -> dict[str, int]:
        """Training tokens by tag."""
        labels, real = self._labels(dataset.splits['train'], dataset.splits['train'].column('labels').shape[1])
        counts = np.bincount(labels[real], minlength=len(self.tags))
        return {tag: int(count) for tag, count in zip(self.tags, counts, strict=True)}

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any] | None:
        """The validation sentence about which the teacher is least sure, of those with entities, all of which it finds;
        None where there is none."""
        split = dataset.splits['validation']
        labels, real = self._labels(split, outputs.shape[1])
        tags, highest = outputs.argmax(axis=-1), 1 / np.exp(outputs - outputs.max(axis=-1, keepdims=True)).sum(axis=-1)
        right, found, there = tally(self._entities(tags, real), self._entities(labels, real), split.size).T
        whole = (there > 0) & (right == found) & (right == there)
        if not whole.any():
            return None
        least = np.min(np.where(real, highest, 1), axis=1)
        example = int(np.argmin(np.where(whole, least, 2)))
        kept = real[example]
        return {
            'kind': 'tags',
            'words': self._words(dataset, example, kept),
            'gold': labels[example][kept].tolist(),
            'predicted': tags[example][kept].tolist(),
            'probabilities': highest[example][kept].tolist(),
            'class_names': list(self.tags),
        }

    def _words(self, dataset: Dataset, example: int, kept: np.ndarray) -> list[str]:
        """A validation sentence as a reader sees it; ids where the words are not known."""
        ids = np.asarray(dataset.splits['validation'].inputs[example])[: len(kept)][kept]
        words = dataset.facts.get('words')
        return [str(token) if words is None else words[token] for token in ids]

    def _labels(self, split: Split, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels, and which tokens are real and have one, of as many tokens as there are predictions of. (N, width)"""
        labels = np.asarray(split.column('labels'))[:, :width]
        return labels, self.real_tokens(np.asarray(split.column('inputs'))[:, :width]) & (labels != UNLABELLED)

    def _entities(self, tags: np.ndarray, real: np.ndarray) -> Entities:
        return entities(tags, real, self.scheme)

    def _by_type(self, found: Entities, wanted: Entities) -> dict[str, float]:
        types = self.scheme.types
        scores = f1(tally(found, wanted, len(types), by='type'))
        return {f'f1_{kind}': float(score) for kind, score in zip(types, scores, strict=True)}

    def _scored(self, found: Entities) -> Entities:
        """Those that the score counts."""
        if self.score == 'f1_strict':
            return found.where(found.strict)
        kind = self.score.removeprefix('f1_')
        return found.where(found.type == self.scheme.types.index(kind)) if kind in self.scheme.types else found
