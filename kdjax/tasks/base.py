"""What the examples of a data set mean: the seam between a task and the core.

The core knows no class, no label and no accuracy: it asks the task what a batch has, what decides, and how it is shown.
A task is a frozen dataclass in a file of its own; a config names it: {'kind': 'classification.Classification'}.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import GROUPS, Dataset, Split, group_by_group, stratified
from kdjax.errors import UsageError, unknown
from kdjax.metrics import Metric
from kdjax.types import Array, Batch, Net, Outputs, Tree

TABLES = ('table', 'embedding')  # what parameters are called of which a token has a row
# Of networks that read tokens: an example is a sentence of the middle length of the test split.
TOKEN_COSTS = (
    Metric('params_without_embeddings', 'parameters without embeddings', '', 'lower', 0),
    Metric('ms_per_example', 'time of one example', 'ms', 'lower', 3),
    Metric('tokens_per_second', 'tokens', '1/s', 'higher', 0),
)


class Question(NamedTuple):
    """What a teacher is asked once, since many training examples share its answer."""

    split: Split  # its examples are asked, each once
    rows: np.ndarray  # (N,) of every training example the position in `split` of what it shares


class Kept(NamedTuple):
    """What a cache keeps of a teacher's answers to a question."""

    column: np.ndarray  # (R, ...), which batches have as 'teacher/<name>'
    tables: Mapping[str, np.ndarray] = {}  # what lies beside it, (R, ...)
    said: Mapping[str, Any] = {}  # of them in the record, JSON-able


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a data set is used for.

    Attributes:
      score: the name of the metric that decides: which step is best, which candidate is chosen, what is accepted.
    """

    OF_FITS: ClassVar[tuple[str, ...]] = ()  # attributes that a fit may have for itself: what `prepare` reads alone
    ASKED_BY: ClassVar[tuple[str, ...]] = ()  # attributes of which any that is not 0 or empty makes `questions`
    # Whether a softmax of logits over their last axis says how likely classes are, so that several networks have a mean
    SOFTMAX: ClassVar[bool] = False
    TOGETHER: ClassVar[str] = ''  # the attribute that says how many examples of a batch in a row are never parted

    score: str

    def __post_init__(self) -> None:
        if self.score not in self.by_name:
            raise unknown('score', self.score, self.by_name, f' of {type(self).__name__}')

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that it measures, in the order of columns; those of the teacher's likeness where there is a teacher."""
        raise NotImplementedError

    @property
    def by_name(self) -> dict[str, Metric]:
        """Its metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    @property
    def judged(self) -> Metric:
        """The metric that decides."""
        return self.by_name[self.score]

    @property
    def per_token(self) -> bool:
        """Whether logits, labels and predictions are of every token of the padded inputs."""
        return False

    @property
    def writes(self) -> bool:
        """Whether its networks may write texts in training, so that it is told what a step spends its time on."""
        return False

    @property
    def reads_teacher(self) -> bool:
        """Whether `prepare` makes something of what a teacher answers, so that a fit has one whatever its terms are."""
        return False

    @property
    def predicts(self) -> bool:
        """Whether metrics are measured on predictions that are gathered on the host."""
        return type(self).measure is not Task.measure

    @property
    def taps(self) -> tuple[str, ...]:
        """What it reads of every network beside what that answers."""
        return ()

    def check(self, dataset: Dataset) -> None:
        """Raises UsageError where a data set does not have what the task needs, before anything trains."""

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        """What every network of the task is told, such as {'classes': 10}."""
        return {}

    def net_offers(self, dataset: Dataset) -> dict[str, Any]:
        """What a network is told besides if it has an argument of that name; nothing if left out."""
        return {}

    def strata(self, split: Split) -> np.ndarray:
        """What draws of examples keep the proportions of, (N,) integers; all alike if left out."""
        return np.zeros(split.size, np.int32)

    def draw(self, split: Split, size: int, seed: int, by: str = 'examples') -> np.ndarray:
        """Sorted ids of a transfer set; of two draws with one seed the larger holds the smaller.

        Args:
          split: whose examples.
          size: how many.
          seed: of the draw.
          by: 'examples', or 'groups': all of a group (a speaker, a user) before the first of the next.

        Raises:
          UsageError: fewer than 1 example, more than there are, or groups of data that do not say them.
        """
        if by == 'examples':
            return stratified(self.strata(split), (size,), seed)[0]
        if GROUPS not in split.more:
            raise UsageError(f"data.draw must be 'examples' where the data have no column 'groups', got {by!r}")
        return group_by_group(np.asarray(split.more[GROUPS]), self.strata(split), size, seed)

    def corrupt(self, dataset: Dataset, share: float, seed: int) -> np.ndarray | None:
        """The labels of the training split, a `share` of them wrong on purpose.

        Raises:
          UsageError: the task does not know wrong labels.
        """
        if share:
            raise UsageError(f'data.label_noise must be 0 for {type(self).__name__}, got {share}')
        return dataset.splits['train'].labels

    def prepare(self, batch: Batch) -> Batch:
        """A batch (B, ...) as terms and metrics need it, on the device and after augmentation: masks, targets, ..."""
        tokens = batch['inputs']
        if not hasattr(tokens, 'dtype') or tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            return batch
        return {**batch, 'token_mask': (tokens > 0).astype(batch['mask'].dtype)}

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of a prepared batch, by metric, which are added over batches and then computed.

        Args:
          outputs: of the network.
          batch: prepared.
          teacher_logits: of the teacher, where the network is held against one.
        """
        raise NotImplementedError

    def predict(self, outputs: Outputs, batch: Batch) -> Tree:
        """What `measure` and `statistics` need of a batch: arrays (B, ...), or (B, N, ...) of a task per token."""
        raise NotImplementedError

    def informed(self, dataset: Dataset) -> 'Task':
        """The task as it measures what is predicted on a data set, of which it may have to know; itself if left out.

        That is what it calls its symbols by, for example, which no config could name.
        """
        return self

    def respond(self, net: Net | None, variables: Tree, outputs: Outputs, batch: Batch) -> Tree:
        """What `measure` and `statistics` need of a network that is asked for more than its outputs, as one that writes
        is; `predict` if left out."""
        return self.predict(outputs, batch)

    def answer(self, outputs: Outputs, batch: Batch) -> Array:
        """What is kept of a network's answers to a prepared batch: logits (B, ...), or less where they are too many."""
        return outputs.logits

    def reply(self, net: Net | None, variables: Tree, outputs: Outputs, batch: Batch) -> Tree:
        """The same of a network that is asked for more than its outputs, as one that writes; `answer` if left out."""
        return self.answer(outputs, batch)

    @property
    def answers_in_full(self) -> bool:
        """Whether that is the logits."""
        return type(self).answer is Task.answer

    def served(self, outputs: Outputs) -> Array:
        """What a network is used for, whose time is measured: its logits, unless more has to be done with them."""
        return outputs.logits

    def own_texts(
        self, student: Net, teacher: Net, split: Split
    ) -> Callable[[Tree, Tree], Mapping[str, np.ndarray]] | None:
        """What judges texts that networks write by themselves: a function from variables of cells C and of the teacher
        to further metrics, (C,) each; None where they are not asked for any."""
        return None

    @property
    def has_questions(self) -> bool:
        """Whether there are `questions`, whatever the data are: a cache then has their answers and no features."""
        return any(getattr(self, field) for field in self.ASKED_BY)

    def questions(self, dataset: Dataset) -> Mapping[str, Question]:
        """What is asked of a cached teacher in the place of its logits on every view of every training example.

        What `keep` makes of its replies is the column 'teacher/<name>' of a batch, which `prepare` then reads; whatever
        else terms read of that teacher it is asked in every step. {} where each example has an answer of its own.
        """
        return {}

    def keep(self, answer: Tree, split: Split) -> Kept:
        """What is kept of replies (R, ...) to a question of `split`; of arrays they themselves, if left out."""
        return Kept(np.asarray(answer))

    def carried(self, column: np.ndarray, theirs: Dataset, ours: Dataset) -> np.ndarray:
        """What is kept of replies (R, ...) of a teacher to `theirs`, as students of `ours` read it: the same examples,
        otherwise written down; itself where both are the same.

        Raises:
          UsageError: they are others, or of a task that does not know how.
        """
        raise UsageError(f'a teacher of {type(self).__name__} has the data of its students: leave its data_args empty')

    def beside(self, theirs: Dataset, ours: Dataset) -> Mapping[str, Tree]:
        """Columns of training examples for a teacher of other words: 'teacher_inputs', what it reads, and 'aligned'
        (N, W), at which of its tokens it says what is held against a student's, -1 for none.

        Raises:
          UsageError: as `carried`.
        """
        raise UsageError(f'a teacher of {type(self).__name__} has the words of its students: leave its data_args empty')

    def check_answer(self, name: str, answer: np.ndarray, dataset: Dataset) -> None:
        """Raises UsageError where answers (R, ...) to the question `name`, which come from a file, are none."""

    def decide(self, outputs: Outputs, batch: Batch) -> Tree:
        """What somebody who asks the network is told of a batch without labels; what is predicted, if left out."""
        return self.predict(outputs, batch)

    def measure(self, predictions: Tree, split: Split) -> dict[str, float]:
        """Metrics of the predictions (N, ...) on a whole split, on the host."""
        raise NotImplementedError

    def statistics(self, predictions: Tree, split: Split) -> np.ndarray:
        """What each example adds to the score, (N, S) numbers, kept for paired tests; `score_of` reads their sums."""
        raise NotImplementedError

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        """The score, of sums of `statistics` (..., S)."""
        raise NotImplementedError

    def balance(self, dataset: Dataset) -> dict[str, int]:
        """How many training examples, or tokens, there are of each class; {} where there are no classes."""
        return {}

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any] | None:
        """What the report shows of one validation example; its 'kind' says how.

        Args:
          dataset: all splits.
          outputs: the teacher's logits on the validation split, (N, ...).
        """
        return None

    def exhibit_together(self, dataset: Dataset, outputs: Mapping[str, np.ndarray]) -> Mapping[str, Any] | None:
        """What the report shows of one test example, of the teacher and of students, in the place of `exhibit`.

        Args:
          dataset: all splits.
          outputs: logits on the test split, (N, ...), of 'teacher' and of a student of every method, by its name.
        """
        return None

    @property
    def has_exhibit_together(self) -> bool:
        """Whether a report shows one with the answers of students."""
        return type(self).exhibit_together is not Task.exhibit_together

    @property
    def has_classes(self) -> bool:
        """Whether a report shows answers class by class."""
        return type(self).by_class is not Task.by_class

    def by_class(self, dataset: Dataset, outputs: Iterable[np.ndarray]) -> Mapping[str, Any]:
        """Answers to the test split class by class, of one network with several seeds together, as plain data.

        Args:
          dataset: all splits.
          outputs: of every seed, the logits on the test split, (N, ...).
        """
        raise NotImplementedError

    @property
    def has_statistics(self) -> bool:
        """Whether what each example adds to the score is kept."""
        return type(self).statistics is not Task.statistics

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        """What `costs` gives, in the order of columns; a report shows those that a network has."""
        return TOKEN_COSTS

    def costs(self, variables: Tree, latency_ms: Mapping[str, float], length: int | None) -> dict[str, float]:
        """Columns of cost beyond parameters, bytes, operations and latency.

        Args:
          variables: of the network.
          latency_ms: of a batch, by its size.
          length: tokens of the example that was measured; None where examples have none.
        """
        if length is None:
            return {}
        most = max(latency_ms, key=int)
        return {
            'params_without_embeddings': float(_without_embeddings(variables['params'])),
            'ms_per_example': latency_ms['1'],
            'tokens_per_second': int(most) * length / latency_ms[most] * 1e3,
        }

    def costs_in_use(
        self, net: Net, variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]
    ) -> dict[str, float]:
        """Further columns of cost, of what a task knows of its inputs.

        Args:
          net, variables: the network.
          example: one, as networks see it, without a batch axis.
          flops: floating-point operations of its forward pass.
          latency_ms: of a batch, by its size.
        """
        return {}


def _without_embeddings(params: Tree) -> int:
    """Numbers that are not rows of a table by token: in text these are most of a small network."""
    named = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in named if path[-1].key not in TABLES)
