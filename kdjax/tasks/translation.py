"""Translation: a sentence is written in another language; what decides is how much of it others wrote too, or nats."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Shared, Split
from kdjax.decoding import cost, hypotheses
from kdjax.decoding.alignment import aligned
from kdjax.decoding.base import BEGIN, END, Limits, generator_of
from kdjax.decoding.beam import Beam, Found
from kdjax.decoding.beam import search as searched
from kdjax.decoding.bleu import bleu, chrf, counts
from kdjax.decoding.greedy import greedy
from kdjax.errors import UsageError, unknown
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Kept, Question
from kdjax.tasks.next_token import ACCURACY, AGREEMENT, BITS, NLL, PERPLEXITY, NextToken
from kdjax.types import Array, Batch, Net, Outputs, Tree

SPACE = '▁'  # how sentencepiece writes one
NO_PIECE = ' ⁇ '  # and what it writes of an unknown one
LENGTH = Metric('length_ratio', 'words written for each of the reference', '', 'higher', 3, 'length')
UNENDED = Metric('unended', 'translations without an end', '%', 'lower', 2, 'no end')
GREEDY = (
    Metric('bleu', 'BLEU', 'BLEU'),
    Metric('bleu_lower', 'BLEU in lower case', 'BLEU', short='lower case'),
    Metric('chrf', 'chrF', 'chrF'),
)
SEARCHED = (
    Metric('beam_bleu', 'BLEU of the search', 'BLEU', short='search'),
    Metric('beam_bleu_lower', 'BLEU of the search in lower case', 'BLEU', short='search, lower case'),
    Metric('beam_chrf', 'chrF of the search', 'chrF', short='search, chrF'),
)
REFERENCES = 'references'
LEARNED = (REFERENCES, *hypotheses.CHOICES)
WRITTEN, ASKED = 'written', 'asked'  # the questions that a teacher is asked, and the columns that say so
WIDER, MORE = 2, 8  # a translation has at most so many times the tokens of its source, and so many more
LONG = 5  # width of the search whose time is taken where none is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(NextToken):
    """Inputs are 'source' (B, M) and 'target' (B, N), a reference that begins with an id of its own, labels (B, N) what
    follows each of its ids: logits (B, N, K). 'reference' is the text of it in UTF-8, (B, R) uint8.

    'nll', 'bits', 'perplexity' and 'accuracy' are of the references, token by token, each after those before it, and so
    is 'agreement' with the teacher. The others are of what the network writes, against the references, as sacrebleu
    measures them on plain text, with the settings of `bleu.SIGNATURES`. The figures of most papers on Multi30k are of
    text in lower case that is tokenised; 'bleu_lower' is the nearest to them.

    With `sequences` a cached teacher translates the training sentences, once, by a search of each of these widths, and
    fits say what they learn: `learned`, `search` and `share` are theirs (`fits.NAME.task`). So students of the
    references, of what a teacher says of each of their words, and of its translations (sequence-level distillation,
    Kim, Rush 2016) are methods of one run. Validation and test keep their references. Translations that have no end,
    are no likeness of the reference, or are wider than the batch are not learned: the reference stands in their place.

    Attributes:
      beam: above 1, what a search that goes on with so many texts writes is measured beside what is written greedily;
        0 for metrics of tokens alone.
      sequences: widths of the searches by which a teacher translates training sentences, 1 for greedy decoding; the n
        best are kept, with their scores.
      least_bleu: of a translation that is learned, BLEU of the sentence to its reference, at least.
      longest_ratio: of it, tokens to those of the reference or the reverse, at most; 0 for no bound.
      learned: of a fit: 'references'; 'best', the teacher's translations; or 'closest', of the n best those of the
        highest BLEU to the reference (Seq-Inter, ibid., sec. 3.3).
      search: of a fit, the width of the search whose translations they are; 0 for the widest.
      share: of a fit, the share of examples that have the translation, drawn for each view of each; the others have
        their reference.
      rule: of length, 'gnmt' or 'mean', where there is a search.
      alpha: its exponent.
    """

    ASKED_BY: ClassVar[tuple[str, ...]] = ('sequences',)
    OF_FITS: ClassVar[tuple[str, ...]] = ('learned', 'search', 'share')

    beam: int = 1
    sequences: tuple[int, ...] = ()
    least_bleu: float = 0.0
    longest_ratio: float = 0.0
    learned: str = REFERENCES
    search: int = 0
    share: float = 1.0
    rule: str = 'gnmt'
    alpha: float = 0.6
    score: str = 'bleu'
    pieces: tuple[str, ...] = ()  # of the data set, by id; a config leaves it to the data

    def __post_init__(self) -> None:
        for name in ('pieces', 'sequences'):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a config may have a list
        if self.beam < 0 or any(width < 1 for width in self.sequences):
            raise UsageError(f'beam of Translation must be >= 0 and sequences widths >= 1, got {self.beam} and '
                             f'{self.sequences}')  # fmt: skip
        if self.learned not in LEARNED:
            raise unknown('choice', self.learned, LEARNED, ' of what is learned of Translation')
        if self.reads_teacher and (self.search or max(self.sequences, default=0)) not in self.sequences:
            raise UsageError(f'search of Translation must be one of its sequences, {self.sequences}, got {self.search}')
        if not (0 <= self.share <= 1 and 0 <= self.least_bleu <= 100) or 0 < self.longest_ratio < 1:
            raise UsageError('Translation needs share in [0, 1], least_bleu in [0, 100] and longest_ratio >= 1 or 0, '
                             f'got {self.share}, {self.least_bleu} and {self.longest_ratio}')  # fmt: skip
        Beam(1, self.rule, self.alpha).checked()
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        written = (*GREEDY, *(SEARCHED if self.beam > 1 else ()), LENGTH, UNENDED) if self.beam else ()
        return (*written, NLL, BITS, PERPLEXITY, ACCURACY, AGREEMENT)

    @property
    def predicts(self) -> bool:
        return self.beam > 0

    @property
    def reads_teacher(self) -> bool:
        return self.learned != REFERENCES

    def text(self, inputs: Tree) -> Any:
        return inputs['target']

    def check(self, dataset: Dataset) -> None:
        for name, split in dataset.splits.items():
            inputs = split.column('inputs')
            if not isinstance(inputs, Mapping) or set(inputs) != {'source', 'target'}:
                raise UsageError(f"translation needs inputs 'source' and 'target', split {name!r} has "
                                 f'{sorted(inputs) if isinstance(inputs, Mapping) else "an array"}')  # fmt: skip
            if self.beam and name != 'train':
                split.column('reference')
        super().check(dataset)
        if (self.beam or self.sequences) and len(dataset.facts.get('pieces', ())) != dataset.facts['vocabulary']:
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
        """Of every token of the reference 'nll' and 'right', (B, N), what is 'written' greedily, (B, T) int32, and with
        a `beam` above 1 what is 'searched'."""
        found, source = self.predict(outputs, batch), batch['inputs']['source']
        if self.beam:
            found = {**found, 'written': self.written(net, variables, source, 1)}
        if self.beam > 1:
            found = {**found, 'searched': self.written(net, variables, source, self.beam)}
        return found

    def written(self, net: Net | None, variables: Tree, source: Array, beam: int) -> Array:
        """What a network writes of sources (B, M), (B, T) int32, greedily where `beam` is 1."""
        given = self._asked(net, variables, source)
        return greedy(**given).tokens if beam == 1 else self._searched(given, beam).tokens[:, 0]

    def _asked(self, net: Net | None, variables: Tree, source: Array) -> dict[str, Any]:
        # Of its own tokens, however wide its batch is
        each = WIDER * jnp.sum(source > 0, axis=1, dtype=jnp.int32) + MORE
        limits = Limits(WIDER * source.shape[1] + MORE, each=each)
        return {
            'generator': generator_of(net), 'variables': variables, 'source': source,
            'prompt': jnp.full((len(source), 1), BEGIN, jnp.int32), 'limits': limits,
        }  # fmt: skip

    def _searched(self, given: Mapping[str, Any], width: int) -> Found:
        return searched(**given, beam=Beam(width, self.rule, self.alpha))

    def questions(self, dataset: Dataset) -> Mapping[str, Question]:
        """The training sentences, to be translated by each search."""
        train, every = dataset.splits['train'], np.arange(dataset.splits['train'].size)
        return {
            f'{WRITTEN}{width}': Question(
                Split(train.inputs, train.labels, {f'{ASKED}{width}': np.ones(train.size, np.int8)}), every
            )
            for width in self.sequences
        }

    def reply(self, net: Net | None, variables: Tree, outputs: Outputs, batch: Batch) -> Tree:
        """Of a question the n best translations, 'tokens' (B, n, T) int32, and their 'scores' (B, n), by the rule."""
        asked = [width for width in self.sequences if f'{ASKED}{width}' in batch]
        if not asked:
            return self.answer(outputs, batch)
        given = self._asked(net, variables, batch['inputs']['source'])
        if asked == [1]:
            one = greedy(**given)
            score = Beam(1, self.rule, self.alpha).score(one.log_probabilities, one.lengths)
            return {'tokens': one.tokens[:, None], 'scores': score[:, None]}
        found = self._searched(given, asked[0])
        return {'tokens': found.tokens, 'scores': found.scores}

    def keep(self, answer: Tree, split: Split) -> Kept:
        """The column is what is learned, (N, 2, T): the best, and the closest to the reference; 0 where the reference
        stands. Tables are 'tokens' (N, n, T) of all n, their 'scores', where known, and 'likeness', BLEU of each."""
        found = hypotheses.as_searched(answer)
        written = self.read(split.column('labels'))
        texts = [self.read(several) for several in found['tokens']]
        found['likeness'] = hypotheses.likeness(texts, written)
        lengths = np.sum(np.asarray(split.column('labels')) > 0, axis=1)
        whole = hypotheses.Hypotheses(found['tokens'], texts, found['likeness'], lengths)
        filters = hypotheses.Filters(self.least_bleu, self.longest_ratio)
        column, said = hypotheses.learned(whole, written, filters, split.column('labels').shape[1])
        return Kept(column.astype(np.int32), found, said)

    def carried(self, column: np.ndarray, theirs: Dataset, ours: Dataset) -> np.ndarray:
        """Translations (R, 2, T) by the words of a teacher as those of its students, (R, 2, N): its texts, in their
        sub-words. What is then too long is 0, and its reference stands."""
        self._same_pairs(theirs, ours)
        if ours.facts.get('fingerprint') == theirs.facts.get('fingerprint'):
            return column
        of_theirs, encoder = self.informed(theirs), ours.facts['subwords']
        width = ours.splits['train'].column('labels').shape[1]
        found = np.zeros((*column.shape[:2], width), np.int32)
        for place in range(column.shape[1]):
            rows = np.flatnonzero(np.any(column[:, place] > 0, axis=1))
            for row, ids in zip(rows, encoder.encoded(of_theirs.read(column[rows, place])), strict=True):
                if len(ids) < width:
                    found[row, place, : len(ids) + 1] = [*ids, END]
        return found

    def beside(self, theirs: Dataset, ours: Dataset) -> Mapping[str, Tree]:
        """What a teacher of other words reads of each pair, and where it has read as much of the reference."""
        self._same_pairs(theirs, ours)
        if self.reads_teacher:
            raise UsageError('a teacher of other sub-words is asked about references, and this fit learns translations')
        own, others = (each.splits['train'].column('labels') for each in (ours, theirs))
        places = aligned(own, others, ours.facts['pieces'], theirs.facts['pieces'])
        return {'teacher_inputs': theirs.splits['train'].column('inputs'), 'aligned': places}

    def _same_pairs(self, theirs: Dataset, ours: Dataset) -> None:
        own, others = (self.informed(each).read(each.splits['train'].column('labels')) for each in (ours, theirs))
        if own != others:
            raise UsageError(
                f'a teacher translates the training pairs of its students, and has {len(others)} that are not their '
                f'{len(own)}: leave pairs out by words, which no vocabulary changes (words=...), and not by sub-words'
            )

    def check_answer(self, name: str, answer: np.ndarray, dataset: Dataset) -> None:
        most = dataset.facts['vocabulary'] - 1
        if answer.ndim not in (2, 3) or answer.min() < 0 or answer.max() > most:
            raise UsageError(f'questions/{name} must be ids (N, T) or (N, n, T) from 0 to {most}, got {answer.shape}, '
                             f'{answer.min()} to {answer.max()}')  # fmt: skip

    def prepare(self, batch: Batch) -> Batch:
        """As `NextToken`; where a fit learns a teacher's translations they are what is to be written."""
        taught = f'teacher/{WRITTEN}{self.search or max(self.sequences, default=0)}'
        found = batch.get(taught) if self.reads_teacher else None
        batch = {name: column for name, column in batch.items() if not name.startswith(f'teacher/{WRITTEN}')}
        if found is not None:
            place = hypotheses.CHOICES.index(self.learned)
            written = found.table[:, place][found.rows] if isinstance(found, Shared) else found[:, place]
            batch = {**batch, **_taught(batch, written, _drawn(batch, self.share))}
        return super().prepare(batch)

    def measure(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, float]:
        theirs = references(split)
        found = _bleus(self.read(predictions['written']), theirs)
        if self.beam > 1:
            searched = _bleus(self.read(predictions['searched']), theirs)
            found |= {f'beam_{name}': value for name, value in searched.items() if name != LENGTH.name}
        return {**found, UNENDED.name: float(np.mean(~np.any(predictions['written'] == END, axis=1)))}

    @property
    def _of_words(self) -> bool:
        """Whether the score is one whose statistics add up over sentences that are written."""
        return self.score in ('bleu', 'bleu_lower', 'beam_bleu', 'beam_bleu_lower')

    @property
    def has_statistics(self) -> bool:
        return self._of_words or self.score in ('nll', 'bits', 'perplexity', 'accuracy')

    def statistics(self, predictions: Mapping[str, np.ndarray], split: Split) -> np.ndarray:
        """Of each sentence sacrebleu's counts, (N, 10): n-grams that are right, n-grams, tokens of both sides. Of a
        score of tokens those of `NextToken`."""
        if not self._of_words:
            return super().statistics(predictions, split)
        ours = self.read(predictions['searched' if self.score.startswith('beam') else 'written'])
        return counts(ours, references(split), lower=self.score.endswith('lower'))

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        return bleu(sums) if self._of_words else super().score_of(sums)

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return (*super().cost_metrics, *cost.COSTS)

    def costs_in_use(
        self, net: Net, variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]
    ) -> dict[str, float]:
        """Of a network that writes those of `cost.COSTS`, with a search of `beam` texts, or of 5."""
        if net.generator is None:
            return {}
        return cost.costs(net, variables, example['source'], self.written, self.beam if self.beam > 1 else LONG)

    def read(self, tokens: np.ndarray) -> list[str]:
        """Ids (N, T) as text, up to the end."""
        return [self._text(row) for row in np.asarray(tokens).tolist()]

    def _text(self, ids: Sequence[int]) -> str:
        kept = ids[: ids.index(END)] if END in ids else ids
        written = (NO_PIECE if token == 1 else self.pieces[token] for token in kept if token == 1 or token > END)
        return ''.join(written).replace(SPACE, ' ').strip()


def _drawn(batch: Batch, share: float) -> Array:
    """Which examples have a translation, drawn for each view of each. (B,) bool"""
    if share == 1:
        return jnp.ones(len(batch['labels']), bool)

    def draw(example: Array, view: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), example), view))

    return jax.vmap(draw)(batch['id'], batch['view']) < share


def _taught(batch: Batch, written: Array, drawn: Array) -> dict[str, Any]:
    """Inputs and labels with translations (B, T) in the place of references, where they are drawn and end in time."""
    target, labels = batch['inputs']['target'], batch['labels']
    short = target.shape[1] - written.shape[1]
    written = jnp.pad(written, [(0, 0), (0, max(0, short))])[:, : target.shape[1]].astype(labels.dtype)
    begun = jnp.concatenate([target[:, :1], jnp.where(written == END, 0, written)[:, :-1].astype(target.dtype)], axis=1)
    there = (jnp.any(written == END, axis=1) & drawn)[:, None]
    return {
        'inputs': {**batch['inputs'], 'target': jnp.where(there, begun, target)},
        'labels': jnp.where(there & (labels[:, :1] >= 0), written, labels),
    }


def _bleus(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, float]:
    cased = counts(ours, theirs).sum(axis=0)
    return {
        'bleu': float(bleu(cased)),
        LENGTH.name: float(cased[-2] / cased[-1]),
        'bleu_lower': float(bleu(counts(ours, theirs, lower=True).sum(axis=0))),
        'chrf': chrf(ours, theirs),
    }


def references(split: Split) -> list[str]:
    """The texts that others wrote."""
    return [bytes(row[row > 0]).decode() for row in np.asarray(split.column('reference'))]
