"""What a config means, typed and frozen: networks, fits, methods, data. `resolve.resolve` makes it, and checks it.

Knobs are tuples here, of one number or of all its candidates; what a stage reads of them is therefore the same however
they were given.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdjax.study.config.schema import EXAMPLES
from kdjax.study.config.search import combinations
from kdjax.techniques.base import Term
from kdjax.train.objective import Objective

CLASSIFICATION = 'classification.Classification'  # the task where a config names none
AVERAGE = 'average'  # as a fit's teacher: the student's own moving average
BEFORE = 'before'  # likewise: the student as the fit before left it
DENSE = 'dense'  # likewise: the student with the weights that are gone put back, and nothing rounded
OWN = (AVERAGE, BEFORE, DENSE)


# What students see: their transfer set; or the others too, unlabelled; or all of another data set.
TRANSFER, EVERY, UPSTREAM = EXAMPLES
ALL = 0  # as the transfer-set size of a fit upstream
# Of a field: left out of an address where it is its default, so that what it adds is worth another run.
UNLESS_DEFAULT = {'unless_default': True}
UNLESS_EMPTY = {'unless_empty': True}  # likewise, of a mapping


class DataSource(NamedTuple):
    """Where examples come from, and how networks see them."""

    source: str
    args: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    content: str = ''  # hash of what the source reads; '' of what is the same everywhere


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """A task by name, and its arguments."""

    kind: str = CLASSIFICATION
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Upstream(NamedTuple):
    """Another data set that networks learn from first, what for, and which of their modules then begin anew."""

    data: DataSource
    task: TaskSpec
    new: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BucketSpec:
    """The widths that batches of padded examples are cut to, and how many steps in a row have one."""

    widths: tuple[int, ...] = ()  # one width for all if empty
    run: int = 10


class GridCell(NamedTuple):
    """One run of a grid: which examples, which randomness, which of the candidate knobs ('soft.temperature': 4.0)."""

    transfer_size: int
    seed: int
    candidate: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class NetSpec:
    """A network by name, and its arguments."""

    net: str
    args: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FitSpec:
    """A fit as the config says it, with all candidates of its knobs."""

    weights: Mapping[str, tuple[float, ...]]
    steps: int
    batch_size: int
    accumulate: int
    learning_rate: tuple[float, ...]
    weight_decay: tuple[float, ...]
    terms_learning_rate: tuple[float, ...]
    terms_weight_decay: tuple[float, ...]
    optim: Mapping[str, Any]
    teacher: str
    peers: int
    examples: str = dataclasses.field(default=TRANSFER, metadata=UNLESS_DEFAULT)  # of EXAMPLES
    # What is done to the student first, by 'kind' and its arguments (see changes.py).
    change: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata=UNLESS_EMPTY)
    sparsity: tuple[float, ...] = dataclasses.field(default=(0.0,), metadata=UNLESS_DEFAULT)
    bits: tuple[float, ...] = dataclasses.field(default=(8.0,), metadata=UNLESS_DEFAULT)
    input_bits: tuple[float, ...] = dataclasses.field(default=(8.0,), metadata=UNLESS_DEFAULT)
    rank: tuple[float, ...] = dataclasses.field(default=(0.0,), metadata=UNLESS_DEFAULT)
    texts: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata=UNLESS_EMPTY)  # who writes them
    on_policy: tuple[float, ...] = dataclasses.field(default=(0.5,), metadata=UNLESS_DEFAULT)
    sampling_temperature: tuple[float, ...] = dataclasses.field(default=(1.0,), metadata=UNLESS_DEFAULT)
    answer: str = dataclasses.field(default='', metadata=UNLESS_DEFAULT)  # term that answers in the student's place
    trains: tuple[str, ...] = dataclasses.field(default=(), metadata=UNLESS_DEFAULT)  # modules; all of them if empty
    # Taps of the student behind which it goes on from a tap of its teacher while it trains.
    blockwise: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata=UNLESS_EMPTY)
    # Attributes of the task that are its own, of what its batches are made of.
    task: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata=UNLESS_EMPTY)


@dataclasses.dataclass(frozen=True)
class Fit:
    """One training run of each cell of a grid.

    Attributes:
      name: of the fit; that of the network for one that teaches.
      spec: as the config says it.
      terms: specs of its terms, by name, with all candidates of their knobs.
      objective: the terms themselves.
      knobs: all numbers of every knob that is given, by dotted name: 'learning_rate', 'soft.weight', ...
      teacher: who teaches: a network, one of OWN, or '' where no term reads a teacher.
    """

    name: str
    spec: FitSpec
    terms: Mapping[str, Mapping[str, Any]]
    objective: Objective
    knobs: Mapping[str, tuple[float, ...]]
    teacher: str

    @property
    def steps(self) -> int:
        """Updates."""
        return self.spec.steps

    @property
    def batch_size(self) -> int:
        """Examples per update."""
        return self.spec.batch_size

    @property
    def upstream(self) -> bool:
        """Whether it learns from another data set than that of the run."""
        return self.spec.examples == UPSTREAM

    @property
    def writes(self) -> bool:
        """Whether texts are written in its steps."""
        return bool(self.spec.texts)

    @property
    def asks(self) -> bool:
        """Whether terms or blocks read what a teacher says; if not, its task may still read answers looked up."""
        return bool(self.spec.blockwise) or any(term.TEACHER for _, term in self.objective.terms)

    @property
    def own_average(self) -> bool:
        """Whether the student's moving average teaches."""
        return self.teacher == AVERAGE

    @property
    def own_start(self) -> bool:
        """Whether the student as the fit before left it teaches."""
        return self.teacher == BEFORE

    @property
    def own_dense(self) -> bool:
        """Whether the student with the weights that are gone teaches."""
        return self.teacher == DENSE

    @property
    def answering(self) -> Term | None:
        """The term that answers in the student's place once it is trained, if one does."""
        return dict(self.objective.terms)[self.spec.answer] if self.spec.answer else None

    @property
    def head(self) -> dict[str, Any]:
        """What that term is: its kind, and what it is built of beside its knobs; {} where none answers."""
        term = self.answering
        return {} if term is None else {
            name: value for name, value in self.terms[self.spec.answer].items() if name not in term.knobs()
        }  # fmt: skip

    @property
    def candidates(self) -> list[dict[str, float]]:
        """Every combination of the knobs that have several values, by dotted name; [{}] where none has."""
        return combinations(self.knobs)

    @property
    def settings(self) -> dict[str, float]:
        """The value of every knob, by dotted name: the first where it has several, its default where none."""
        defaults = {
            f'{name}.{knob}': value for name, knobs in self.objective.knobs().items() for knob, value in knobs.items()
        }
        return {**defaults, **{name: values[0] for name, values in self.knobs.items()}}

    def taps(self) -> tuple[str, ...]:
        """The features of the teacher that its terms and its blocks read."""
        of_terms = (tap for _, term in self.objective.terms for tap in term.taps().teacher)
        return tuple(dict.fromkeys((*of_terms, *self.spec.blockwise.values())))

    def cells(self, transfer_sizes: tuple[int, ...], seeds: int) -> list[GridCell]:
        """Its grid: transfer-set sizes x candidates x seeds."""
        return [
            GridCell(size, seed, candidate)
            for size in transfer_sizes
            for candidate in self.candidates
            for seed in range(seeds)
        ]


@dataclasses.dataclass(frozen=True)
class TeacherSpec:
    """A network that teaches."""

    name: str
    network: NetSpec
    weights: str  # file of its weights, where it is not trained
    pretrained: str  # file of weights that its training starts from, or the name of another
    outputs: str  # file of its answers, where it is a table
    team: tuple[str, ...]  # names of those that teach together in its place
    members: int
    augment: Any
    views: int
    fit: Fit
    mode: str
    precision: str  # while it teaches; '' for the run's
    column: str  # that it reads
    preprocess: Mapping[str, Any]  # of what it reads; that of the data if empty
    folds: int  # networks of this kind that each label what they were not trained on; 0 for none
    keep: int  # classes that are kept of what it says; 0 for all
    bound: float  # nats by which what is kept may be off, which then chooses how many are; 0 for no bound
    data_args: Mapping[str, Any]  # arguments of the source of data that are its own


@dataclasses.dataclass(frozen=True)
class Views:
    """What students see of an example."""

    augment: Any = dataclasses.field(default_factory=lambda: {'kind': 'augment.identity'})
    views: int = 1
    mix: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    consistent: bool = True


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a recipe is executed: what changes nothing but rounding."""

    runner: str
    layout: str
    cells: int
    memory: float
    chunk: int
    save_every: int
    profile: int
    stream: bool
    tflops: float
    tensorboard: bool
    wandb: bool
    # All fields, for what shows them beside curves.
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def rounded(self, steps: int) -> int:
        """Steps between things that happen between dispatches."""
        return -(-steps // self.chunk) * self.chunk


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A config, resolved.

    Attributes:
      config: where it came from, locked.
      title, seed, seeds, baseline, precision: as there.
      task: what the data are used for.
      data: the source.
      upstream: the one that fits upstream learn from.
      buckets: widths of padded examples.
      views: what students see.
      transfer_sizes, draw, order, classes, label_noise: of students' transfer sets.
      teachers: networks that teach by name, each after the one that teaches it.
      student: the network of students.
      column: the one that they read.
      pretrained: weights that students start from, or the name of the network; '' for none.
      start: modules of the student that start as modules of the teacher, by name.
      fits: of students, by name, those that a method uses.
      methods: names of fits by method, the baseline first.
      validate_every, gradient_every: steps, as they are: multiples of a dispatch; 0 for never.
      execution: how it is executed.
    """

    config: ConfigDict
    title: str
    seed: int
    seeds: int
    task: TaskSpec
    data: DataSource
    upstream: Upstream | None
    buckets: BucketSpec
    views: Views
    transfer_sizes: tuple[int, ...]
    draw: str
    order: str
    classes: tuple[int, ...]
    label_noise: float
    teachers: Mapping[str, TeacherSpec]
    student: NetSpec
    column: str
    pretrained: str
    start: Mapping[str, str]
    fits: Mapping[str, Fit]
    methods: Mapping[str, tuple[str, ...]]
    baseline: str
    precision: str
    validate_every: int
    gradient_every: int
    execution: Execution

    def chains(self, method: str) -> list[tuple[str, ...]]:
        """The prefixes of a method's fits: ('distill',), ('distill', 'finetune')."""
        fits = self.methods[method]
        return [fits[: length + 1] for length in range(len(fits))]

    def all_fits(self) -> dict[str, Fit]:
        """Every fit that runs, by name; teacher fits are keyed by the teacher's name."""
        return {**{name: spec.fit for name, spec in self.teachers.items()}, **self.fits}

    def taught_by(self, teacher: str) -> list[Fit]:
        """The students' fits that a network teaches."""
        return [fit for fit in self.fits.values() if fit.teacher == teacher]

    def teacher_taps(self, teacher: str) -> tuple[str, ...]:
        """Features of a teacher that a fit of students reads, to be cached beside its logits."""
        fits = sorted(self.taught_by(teacher), key=lambda fit: fit.name)
        return tuple(dict.fromkeys(tap for fit in fits for tap in fit.taps()))
