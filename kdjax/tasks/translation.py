"""Translation: a sentence is written in another language; what decides is how much of it others wrote too, or nats."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Shared, Split
from kdjax.decoding.base import BEGIN, END, Limits, generator_of
from kdjax.decoding.beam import Beam, search
from kdjax.decoding.greedy import greedy
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Question
from kdjax.tasks.next_token import ACCURACY, AGREEMENT, BITS, NLL, PERPLEXITY, NextToken
from kdjax.types import Array, Batch, Net, Outputs, Tree

SPACE = '▁'  # how sentencepiece writes one
NO_PIECE = ' ⁇ '  # and what it writes of an unknown one
# Of what sacrebleu measures, without its version
SIGNATURES = {
    'bleu': 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp',
    'bleu_lower': 'nrefs:1|case:lc|eff:no|tok:13a|smooth:exp',
    'chrf': 'nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no',
}
BLEU = (
    Metric('bleu', 'BLEU', 'BLEU'),
    Metric('bleu_lower', 'BLEU in lower case', 'BLEU', short='lower case'),
    Metric('chrf', 'chrF', 'chrF'),
    Metric('length_ratio', 'tokens written for each of the reference', '', 'higher', 3, 'length'),
    Metric('unended', 'translations without an end', '%', 'lower', 2, 'no end'),
)
WRITTEN, ASKED = 'written', 'asked'  # the question that a teacher is asked, and the column that says so
ORDERS = 4  # of n-grams
WIDER, MORE = 2, 8  # a translation has at most so many times the tokens of its source, and so many more


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(NextToken):
    """Inputs are 'source' (B, M) and 'target' (B, N), a reference that begins with an id of its own, labels (B, N) what
    follows each of its ids: logits (B, N, K). 'reference' is the text of it in UTF-8, (B, R) uint8.

    'nll', 'bits', 'perplexity' and 'accuracy' are of the references, token by token, each after those before it, and so
    is 'agreement' with the teacher. The others are of what the network writes, against the references, as sacrebleu
    measures them on plain text, with the settings of SIGNATURES. The figures of most papers on Multi30k are of text in
    lower case that is tokenised; 'bleu_lower' is the nearest to them.

    With `sequences` a cached teacher translates the training sentences, once, and in fits that it teaches (those with a
    term that reads a teacher, be its weight 0) its translations take the place of the references, where they end and
    are no wider than the batch: sequence-level distillation (Kim, Rush 2016, sec. 3.2), and both levels with terms of
    words. Validation and test keep their references.

    Attributes:
      beam: texts that a search goes on with; 1 for greedy decoding, and 0 for none, with metrics of tokens alone.
      sequences: the same of a teacher's translations that students learn from; 0 for references.
      rule: of length, 'gnmt' or 'mean', where there is a search.
      alpha: its exponent.
    """

    beam: int = 1
    sequences: int = 0
    rule: str = 'gnmt'
    alpha: float = 0.6
    score: str = 'bleu'
    pieces: tuple[str, ...] = ()  # of the data set, by id; a config leaves it to the data

    def __post_init__(self) -> None:
        object.__setattr__(self, 'pieces', tuple(self.pieces))  # a config may have a list
        if min(self.beam, self.sequences) < 0:
            raise UsageError(f'beam and sequences of Translation must be >= 0, got {self.beam} and {self.sequences}')
        Beam(1, self.rule, self.alpha).checked()
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (*(BLEU if self.beam else ()), NLL, BITS, PERPLEXITY, ACCURACY, AGREEMENT)

    @property
    def predicts(self) -> bool:
        return self.beam > 0

    def text(self, inputs: Tree) -> Any:
        return inputs['target']

    def retold(self, inputs: Tree, text: Array) -> Tree:
        return {**inputs, 'target': text}

    def source(self, inputs: Tree) -> Tree:
        return inputs['source']

    def limits(self, length: int) -> Limits:
        return Limits(length)

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            inputs = split.column('inputs')
            if not isinstance(inputs, Mapping) or set(inputs) != {'source', 'target'}:
                raise UsageError(f"translation needs inputs 'source' and 'target', split {name!r} has "
                                 f'{sorted(inputs) if isinstance(inputs, Mapping) else "an array"}')  # fmt: skip
            if self.beam and name != 'train':
                split.column('reference')
        super().check(dataset)
        if self.beam and len(dataset.facts.get('pieces', ())) != dataset.facts['vocabulary']:
            raise UsageError("translation needs the fact 'pieces', the string of each of the "
                             f'{dataset.facts["vocabulary"]} ids, of the data')  # fmt: skip

    def informed(self, dataset: Dataset) -> 'Translation':
        return dataclasses.replace(self, pieces=tuple(dataset.facts.get('pieces', ())))

    def answer(self, outputs: Outputs, batch: Batch) -> Array:
        """The most probable token after each, (B, N) int32: logits of all would be many."""
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)

    def _likeness(self, logs: Array, teacher_logits: Array, mask: Array) -> dict[str, Any]:
        agree = (jnp.argmax(logs, axis=-1) == teacher_logits).astype(jnp.float32)
        return {'agreement': mean(agree, mask)}

    def respond(self, net: Net | None, variables: Tree, outputs: Outputs, batch: Batch) -> Tree:
        """Of every token of the reference 'nll' and 'right', (B, N), and what is 'written', (B, T) int32."""
        found = self.predict(outputs, batch)
        if not self.beam:
            return found
        return {**found, 'written': self.written(net, variables, batch['inputs']['source'], self.beam)}

    def written(self, net: Net | None, variables: Tree, source: Array, beam: int) -> Array:
        """What a network writes of sources (B, M), (B, T) int32."""
        # Of its own tokens, however wide its batch is
        each = WIDER * jnp.sum(source > 0, axis=1, dtype=jnp.int32) + MORE
        limits = Limits(WIDER * source.shape[1] + MORE, each=each)
        given = generator_of(net), variables, source, jnp.full((len(source), 1), BEGIN, jnp.int32), limits
        if beam == 1:
            return greedy(*given).tokens
        return search(*given, Beam(beam, self.rule, self.alpha)).tokens[:, 0]

    def questions(self, dataset: Dataset) -> Mapping[str, Question]:
        """The training sentences, to be translated."""
        if not self.sequences:
            return {}
        train = dataset.splits['train']
        return {WRITTEN: Question(Split(train.inputs, train.labels, {ASKED: np.ones(train.size, np.int8)}),
                                  np.arange(train.size))}  # fmt: skip

    def reply(self, net: Net | None, variables: Tree, outputs: Outputs, batch: Batch) -> Array:
        if ASKED not in batch:
            return self.answer(outputs, batch)
        return self.written(net, variables, batch['inputs']['source'], self.sequences)

    def prepare(self, batch: Batch) -> Batch:
        """As `NextToken`; where a teacher's translations come with the batch they are what is to be written."""
        found = batch.get(f'teacher/{WRITTEN}')
        if found is not None:
            rest = {name: column for name, column in batch.items() if name != f'teacher/{WRITTEN}'}
            batch = {**rest, **_taught(rest, found.table[found.rows] if isinstance(found, Shared) else found)}
        return super().prepare(batch)

    def measure(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, float]:
        ours, theirs = self._both(predictions, split)
        tokens = np.sum(np.asarray(split.column('labels')) > 0)
        return {
            'bleu': float(bleu(counts(ours, theirs).sum(axis=0))),
            'bleu_lower': float(bleu(counts(ours, theirs, lower=True).sum(axis=0))),
            'chrf': float(_metrics().CHRF().corpus_score(ours, [theirs]).score),
            'length_ratio': float(np.sum(predictions['written'] > 0) / tokens),
            'unended': float(np.mean(~np.any(predictions['written'] == END, axis=1))),
        }

    @property
    def has_statistics(self) -> bool:
        return self.score in ('bleu', 'bleu_lower', 'nll', 'bits', 'perplexity', 'accuracy')

    def statistics(self, predictions: Mapping[str, np.ndarray], split: Split) -> np.ndarray:
        """Of each sentence sacrebleu's counts, (N, 10): n-grams that are right, n-grams, tokens of both sides. Of a
        score of tokens those of `NextToken`."""
        if not self.score.startswith('bleu'):
            return super().statistics(predictions, split)
        return counts(*self._both(predictions, split), lower=self.score == 'bleu_lower')

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return bleu(sums) if self.score.startswith('bleu') else super().score_of(sums)

    def _both(self, predictions: Mapping[str, np.ndarray], split: Split) -> tuple[list[str], list[str]]:
        """What is written, and what others wrote."""
        return self.read(predictions['written']), references(split)

    def read(self, tokens: np.ndarray) -> list[str]:
        """Ids (N, T) as text, up to the end."""
        return [self._text(row) for row in np.asarray(tokens).tolist()]

    def _text(self, ids: Sequence[int]) -> str:
        kept = ids[: ids.index(END)] if END in ids else ids
        written = (NO_PIECE if token == 1 else self.pieces[token] for token in kept if token == 1 or token > END)
        return ''.join(written).replace(SPACE, ' ').strip()


def _taught(batch: Batch, written: Array) -> dict[str, Any]:
    """Inputs and labels with translations (B, T) in the place of references, but of those without an end in time."""
    target, labels = batch['inputs']['target'], batch['labels']
    short = target.shape[1] - written.shape[1]
    written = jnp.pad(written, [(0, 0), (0, max(0, short))])[:, : target.shape[1]].astype(labels.dtype)
    begun = jnp.concatenate([target[:, :1], jnp.where(written == END, 0, written)[:, :-1].astype(target.dtype)], axis=1)
    ended = jnp.any(written == END, axis=1, keepdims=True)
    return {
        'inputs': {**batch['inputs'], 'target': jnp.where(ended, begun, target)},
        'labels': jnp.where(ended & (labels[:, :1] >= 0), written, labels),
    }


def references(split: Split) -> list[str]:
    """The texts that others wrote."""
    return [bytes(row[row > 0]).decode() for row in np.asarray(split.column('reference'))]


def counts(ours: Sequence[str], theirs: Sequence[str], lower: bool = False) -> np.ndarray:
    """What sacrebleu counts of each sentence: right n-grams and n-grams of 1 to 4, its tokens, and the reference's.

    They add up: BLEU of a corpus is `bleu` of their sum. (N, 10)
    """
    measure = _metrics().BLEU(lowercase=lower, effective_order=False)
    rows = []
    for one, other in zip(ours, theirs, strict=True):
        found = measure.corpus_score([one], [[other]])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.asarray(rows, np.float64)


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU, in 0 to 100, of sums of `counts` (..., 10), smoothed as sacrebleu does where an order has none right.

    Reference: Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002; Post, A Call
    for Clarity in Reporting BLEU Scores, WMT 2018.
    """
    sums = np.asarray(sums, np.float64)
    right, total, ours, theirs = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS], sums[..., -2], sums[..., -1]
    none = (right == 0) & (total > 0)
    halved = 0.5 ** np.cumsum(none, axis=-1)  # the first such order counts for half an n-gram, the next for a quarter
    with np.errstate(divide='ignore', invalid='ignore'):
        precision = np.where(none, halved, right) / total
        brevity = np.where(ours < theirs, np.exp(1 - theirs / ours), 1)
        found = 100 * brevity * np.exp(np.mean(np.log(precision), axis=-1))
    # Where there is no n-gram of an order at all, sacrebleu says 0.
    return np.where(np.all(total > 0, axis=-1) & np.any(right > 0, axis=-1), found, 0)


def _metrics() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise UsageError('BLEU needs the package sacrebleu: pip install "kdjax[translation]"') from error
    return metrics
