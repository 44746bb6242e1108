"""What each stage reads: all that it is given, and all that its address hashes.

A stage gets an object of one of these classes and nothing else of the config. Every field is part of its address, but
for the inputs of stages that it needs, which are known there by their keys. So no address can forget a field.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Union

from ml_collections import ConfigDict

from kdjax.study.recipe import contents
from kdjax.study.recipe.recipe import (
    UNLESS_DEFAULT,
    UNLESS_EMPTY,
    BucketSpec,
    DataSource,
    Fit,
    NetSpec,
    Recipe,
    TaskSpec,
    Views,
)
from kdjax.train.cache import SPARSE

# What fields say of themselves.
BY_KEY = {'by_key': True}  # the address knows it by the key of a stage that is needed
MERGED = {'merged': True}  # its own fields stand in its place
# Fields whose older name stays in addresses, so that what was trained under it is still found.
ADDRESSED = {'gradient_every': 'anatomy_every'}


class Addressed:
    """What every stage reads."""

    def reads(self) -> dict[str, Any]:
        """What the address hashes, JSON-able: the fields, and the code of objects of the user's own that they name."""
        fields = _fields(self)
        code = contents.of_code(fields)
        return {**fields, 'code': code} if code else fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs(Addressed):
    """What every stage that trains reads: the data, the seed of what is shared, the precision of activations."""

    data: DataSource
    seed: int
    precision: str
    task: TaskSpec = field(default=TaskSpec(), metadata=UNLESS_DEFAULT)
    column: str = field(default='inputs', metadata=UNLESS_DEFAULT)  # that its network reads
    buckets: BucketSpec = field(default=BucketSpec(), metadata=UNLESS_DEFAULT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedTeacher(Inputs):
    """A network that teaches, to be trained on all training examples."""

    name: str
    network: NetSpec = field(metadata=MERGED)
    members: int
    augment: Any
    views: int
    fit: Fit = field(metadata=MERGED)
    validate_every: int
    teaching: str = field(default='', metadata=UNLESS_DEFAULT)  # precision in which its own teacher teaches
    pretrained: str = field(default='', metadata=UNLESS_DEFAULT)  # hash of the file of weights that it starts from
    path: str = field(default='', metadata=BY_KEY)  # of that file
    new: tuple[str, ...] = field(default=(), metadata=UNLESS_DEFAULT)  # modules that are not as of `parent`
    parent: 'Teacher | None' = field(default=None, metadata=BY_KEY)  # the network that it starts as
    source: 'Teacher | None' = field(default=None, metadata=BY_KEY)  # who teaches it

    @property
    def presented(self) -> Views:
        """What it sees of an example."""
        return Views(self.augment, self.views)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldedTeacher(Addressed):
    """Networks like one that teaches, each to be trained on all training examples but those of a fold."""

    folds: int
    teacher: TrainedTeacher = field(metadata=MERGED)

    @property
    def data(self) -> DataSource:
        """Whose training examples are divided."""
        return self.teacher.data


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedTeacher(Inputs):
    """A network that teaches, whose weights are there already."""

    name: str
    network: NetSpec = field(metadata=MERGED)
    members: int = 1
    weights: str  # hash of their file
    fit: Mapping[str, int] = field(default_factory=lambda: {'steps': 0})  # none is trained
    path: str = field(metadata=BY_KEY)  # of the file, which the hash is of


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenTeacher(Inputs):
    """A teacher that is a table of answers."""

    name: str
    outputs: str  # hash of its file
    path: str = field(metadata=BY_KEY)  # of the file, which the hash is of


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherTeam(Inputs):
    """Networks that teach together, each of its own kind."""

    name: str
    team: 'tuple[TeachingNetwork, ...]' = field(metadata=BY_KEY)

    @property
    def members(self) -> int:
        """How many they are."""
        return len(self.team)

    @property
    def network(self) -> NetSpec:
        """What it is called; the networks are those of the team."""
        return NetSpec('team.ensemble', {one.name: {'net': one.network.net, **one.network.args} for one in self.team})


OneTeacher = TrainedTeacher | ImportedTeacher
TeachingNetwork = OneTeacher | TeacherTeam
Teacher = Union[TrainedTeacher, ImportedTeacher, TeacherTeam, GivenTeacher]  # noqa: UP007  (named before it is defined)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CachedTeacher(Addressed):
    """What a network that teaches says of every view of every training example, to be computed once."""

    name: str
    augment: Any
    views: int
    taps: tuple[str, ...]  # features that are kept beside the logits
    precision: str = field(default='', metadata=UNLESS_DEFAULT)  # while it teaches
    keep: int = field(default=0, metadata=UNLESS_DEFAULT)  # classes that are kept; 0 for all
    bound: float = field(default=0.0, metadata=UNLESS_DEFAULT)  # nats that choose how many; 0 for no bound
    teacher: Teacher = field(metadata=BY_KEY)
    folded: FoldedTeacher | None = field(default=None, metadata=BY_KEY)  # who says it in its place

    @property
    def data(self) -> DataSource:
        """Whose examples it is asked about."""
        return self.teacher.data

    @property
    def probes(self) -> tuple[str, ...]:
        """What the network itself is asked for: not what stands for logits of which classes are left out."""
        return tuple(tap for tap in self.taps if not (self.sparse and tap in SPARSE))

    @property
    def sparse(self) -> bool:
        """Whether some classes are left out."""
        return bool(self.keep or self.bound)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedStudents(Inputs):
    """The last fit of a chain: a grid of students."""

    views: Views = field(metadata=MERGED)
    fit: Fit = field(metadata=MERGED)
    validate_every: int
    teaching: str = field(default='', metadata=UNLESS_DEFAULT)  # precision in which their teacher teaches
    chain: tuple[str, ...]
    student: NetSpec
    seeds: int
    transfer_sizes: tuple[int, ...]
    draw: str = field(default='examples', metadata=UNLESS_DEFAULT)
    order: str = field(default='own', metadata=UNLESS_DEFAULT)
    classes: tuple[int, ...] = field(default=(), metadata=UNLESS_DEFAULT)
    label_noise: float = field(default=0.0, metadata=UNLESS_DEFAULT)
    gradient_every: int = field(default=0, metadata=UNLESS_DEFAULT)
    keep: int = field(default=0, metadata=UNLESS_DEFAULT)  # classes that are kept of what a teacher says; 0 for all
    bound: float = field(default=0.0, metadata=UNLESS_DEFAULT)
    pretrained: str = field(default='', metadata=UNLESS_DEFAULT)  # hash of the weights that the first fit starts from
    path: str = field(default='', metadata=BY_KEY)  # of them
    start: Mapping[str, str] = field(default_factory=dict, metadata=UNLESS_EMPTY)  # modules, as those of the teacher
    new: tuple[str, ...] = field(default=(), metadata=UNLESS_DEFAULT)  # those that begin anew after what was upstream
    source: Teacher | CachedTeacher | None = field(default=None, metadata=BY_KEY)  # who teaches them
    before: 'TrainedStudents | None' = field(default=None, metadata=BY_KEY)  # the fit that they start from
    parent: Teacher | None = field(default=None, metadata=BY_KEY)  # who `start` takes modules of; or all, without it

    @property
    def network(self) -> NetSpec:
        """The network that is trained."""
        return self.student

    @property
    def presented(self) -> Views:
        """What they see of an example; without a teacher there is nobody to see another view."""
        return self.views if self.fit.teacher else dataclasses.replace(self.views, consistent=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated(Addressed):
    """Methods, held against each other on the test split."""

    methods: Mapping[str, tuple[str, ...]]
    baseline: str
    teacher: Teacher = field(metadata=BY_KEY)
    ends: Mapping[str, TrainedStudents] = field(metadata=BY_KEY)  # last fit by method
    version: int = 2  # of what is looked at: the last step, and since 2 the best one

    @property
    def data(self) -> DataSource:
        """Whose test split is looked at."""
        return self.teacher.data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examined(Addressed):
    """A teacher, looked at as students are."""

    teacher: str  # its key
    inputs: Teacher = field(metadata=BY_KEY)

    @property
    def data(self) -> DataSource:
        """Whose test split is looked at."""
        return self.inputs.data


def teacher_of(source: Teacher | CachedTeacher) -> Teacher:
    """The network that teaches, looked up or asked."""
    return source.teacher if isinstance(source, CachedTeacher) else source


def new_modules(recipe: Recipe, fit: Fit, start: Teacher | TrainedStudents | None) -> tuple[str, ...]:
    """The modules that begin anew in a fit that starts as a network was left: those of another task."""
    left = getattr(start, 'fit', None)
    other = isinstance(left, Fit) and left.upstream and not fit.upstream
    return recipe.upstream.new if other and recipe.upstream else ()


def plain(value: Any) -> Any:
    """Specs and parts of a config as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, DataSource) and not value.content:  # what is the same everywhere has the address that it had
        value = value[:-1]
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _fields(inputs: Any) -> dict[str, Any]:
    """The fields that an address hashes, by the name that they have there."""
    if isinstance(inputs, Fit):  # what else a fit has is made of these
        return {'fit': plain(inputs.spec), 'terms': plain(inputs.terms)}
    result: dict[str, Any] = {}
    for each in dataclasses.fields(inputs):
        value = getattr(inputs, each.name)
        if 'by_key' in each.metadata or ('unless_default' in each.metadata and value == each.default):
            continue
        if 'unless_empty' in each.metadata and not value:
            continue
        result |= _fields(value) if 'merged' in each.metadata else {ADDRESSED.get(each.name, each.name): plain(value)}
    return result
