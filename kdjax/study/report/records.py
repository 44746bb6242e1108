"""The records of a study: what it hands to its report, and the numbers that the report keeps.

A `Results` holds every run as it ended, a `Summary` what is computed of them and stored as summary.json. A run of a
recipe is a sweep of its methods: both hand over the same records.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from kdjax.errors import UsageError, unknown
from kdjax.metrics import Metric
from kdjax.tasks.classification import METRICS, Classification
from kdjax.train import ledger

Setting = float | int | str  # a value of an axis
Values = Mapping[str, float | None]  # a number by the name of its metric
Record = typing.TypeVar('Record')

CHECKPOINTS = ('last', 'best')  # after the last step; of the step that was best in validation
STATES = ('done', 'failed', 'running', 'missing')


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of inference with one network."""

    params: int
    bytes: int
    flops: int  # of one example
    latency_ms: Values  # of a whole batch, by its size
    more: Values = dataclasses.field(default_factory=dict)  # what the task counts beside, by the name of a cost metric


@dataclasses.dataclass(frozen=True)
class Failure:
    """Where a run stopped being finite."""

    step: int | None
    term: str | None


@dataclasses.dataclass(frozen=True)
class Validation:
    """Metrics on the validation split after so many steps."""

    step: int
    metrics: Values


@dataclasses.dataclass(frozen=True)
class GradientStats:
    """Norms of the gradients of terms, and cosines between those of pairs ('hard|soft'), after so many steps."""

    step: int
    norms: Values
    cosines: Values


@dataclasses.dataclass(frozen=True)
class Run:
    """One method with one seed, at one setting of the axes."""

    method: str
    seed: int
    transfer_size: int
    point: Mapping[str, Setting]  # value by axis, for the axes that concern it; without the seed
    status: str  # of STATES
    failure: Failure | None
    last: Values | None  # on the test split, for a run that is done
    best: Values | None
    best_step: int | None
    history: tuple[Validation, ...]
    gradients: tuple[GradientStats, ...]
    cost: Cost | None
    teacher: str | None  # key of the teacher that its answers are held against
    stages: tuple[str, ...]  # its fits
    chosen: Mapping[str, float]  # knobs that validation chose
    weights: str = ''  # where they lie: a folder of the workdir, and the cell

    @property
    def place(self) -> dict[str, Setting]:
        """All that was set, but the seed."""
        return {**self.point, 'method': self.method, 'transfer_size': self.transfer_size}


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Metrics on the test split, and cost, of a network that teaches; None where only its answers are here."""

    metrics: Values
    cost: Cost | None


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One demand on a run, and what it got."""

    name: str
    wanted: float
    got: float | None
    met: bool
    better: str = 'higher'


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What was changed, by name, and how far it met the criteria."""

    override: Mapping[str, float]
    criteria: tuple[Criterion, ...]
    met: bool


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Which method, with how many transfer examples, was held against criteria, and what was tried."""

    method: str
    transfer_size: int
    met: bool
    attempt: int  # the one that is reported, from 0
    attempts: tuple[Attempt, ...]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What leads to the same numbers again."""

    config_hash: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    git_commit: str | None
    data_checksum: str | None
    seconds: Mapping[str, float]
    command: str
    earlier: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)  # code and libraries, by stage


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric over seeds."""

    mean: float | None
    sd: float | None
    ci95: tuple[float, float] | None
    n: int
    values: tuple[float, ...] = ()  # of the seeds themselves, where there are so few that an interval says little


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a mean is from another one."""

    mean: float | None
    ci95: tuple[float, float] | None
    p: float | None  # of this comparison by itself


@dataclasses.dataclass(frozen=True)
class PublishedNumber:
    """A number that somebody else reports (see `published`), and beside it ours, once they are compared."""

    point: Mapping[str, Setting]
    metric: str
    value: float
    checkpoint: str
    certainty: str
    sd: float | None = None
    n: int | None = None
    note: str = ''
    arm: str | None = None
    ours: Estimate | None = None
    difference: Difference | None = None  # ours minus theirs
    verdict: str = ''


@dataclasses.dataclass(frozen=True)
class Published:
    """The numbers of one source."""

    source: str
    rows: tuple[PublishedNumber, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What results and their summary share; what was stored before there were tasks is of classification."""

    title: str
    baseline: str  # a method
    axes: tuple[str, ...]
    teachers: Mapping[str, Teacher]
    provenance: Provenance
    acceptance: Acceptance | None = None
    published: Published | None = None
    metrics: tuple[Metric, ...] = METRICS
    score: str = Classification().score  # the name of the metric that is judged
    cost_metrics: tuple[Metric, ...] = ()  # of what is in `Cost.more`

    @property
    def by_name(self) -> dict[str, Metric]:
        """Its metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    @property
    def judged(self) -> Metric:
        """The metric that is judged."""
        return self.by_name[self.score]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results(Study):
    """Everything that a report is made of."""

    runs: tuple[Run, ...]
    exhibits: Mapping[str, Mapping[str, Any]]  # what a teacher says of one example, by its key; see `exhibit`
    config: Mapping[str, Any]
    balance: Mapping[str, int] | None = None  # labels of each class in the training split
    by_class: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # see `exhibit`


@dataclasses.dataclass(frozen=True)
class PairedDifference(Difference):
    """How far an arm is from its baseline arm in the score, over the seeds that both have."""

    p_holm: float | None  # with Holm's correction over all arms that have a baseline arm
    n: int
    verdict: str  # by p_holm
    detectable: float | None
    baseline: str  # name of the arm
    values: tuple[float, ...] = ()  # as of an `Estimate`


@dataclasses.dataclass(frozen=True)
class GapRecovered:
    """The share of the distance from baseline to teacher that an arm covers."""

    value: float
    ci95: tuple[float, float] | None
    n: int


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many runs there are, and how many in each state."""

    runs: int
    done: int
    failed: int
    running: int
    missing: int


@dataclasses.dataclass(frozen=True)
class Arm:
    """Numbers of the runs that differ in their seed alone."""

    name: str
    method: str
    point: Mapping[str, Setting]  # value by axis, for the axes of the summary that concern it
    transfer_size: int
    is_baseline: bool
    n: int  # runs with a score
    counts: Counts
    score: Estimate  # what is judged: after the last step
    last: Mapping[str, Estimate]  # by metric
    best: Mapping[str, Estimate]
    best_step: float | None
    validation: Estimate  # the score on the validation split after the last step
    difference: PairedDifference | None
    gap_recovered: GapRecovered | None
    chosen: Mapping[str, float]
    stages: tuple[str, ...]
    cost: Cost | None
    teacher: str | None


@dataclasses.dataclass(frozen=True)
class FailedRun(Failure):
    """Where a run of an arm was lost."""

    arm: str
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary(Study):
    """What summary.json holds: the numbers of a study."""

    counts: Counts
    rows: tuple[Arm, ...]
    failures: tuple[FailedRun, ...]


def to_json(record: Any) -> dict[str, Any]:
    """A record as JSON: seven significant digits, None for what is not finite."""
    content = dataclasses.asdict(record)
    for name in {'metrics', 'cost_metrics'} & content.keys():
        content[name] = [metric._asdict() for metric in content[name]]
    return ledger.plain(content)


def from_json(kind: type[Record], content: Any) -> Record:
    """A record of `kind` from what JSON held.

    Raises:
      UsageError: a field that the record does not have, or lacks.
    """
    return _read(kind, content)


def _read(kind: Any, content: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, content)
    if kind is Metric:
        return content if isinstance(content, Metric) else Metric(**content)
    if content is None or origin is None:
        return content
    if origin is tuple:
        return tuple(_read(inner[0], entry) for entry in content)
    if origin is Mapping:
        return {name: _read(inner[1], value) for name, value in content.items()}
    return _read(inner[0], content)  # of X | None


def _read_record(kind: Any, content: Any) -> Any:
    types, needed = _fields(kind)
    if not isinstance(content, Mapping):
        raise UsageError(f'{kind.__name__} must be an object, not {content!r:.60}')
    if kind is Arm and Study.score in content.get('last', {}):
        content = {'score': content['last'][Study.score], **content}  # not stored before there were tasks
    for name in content:
        if name not in types:
            raise unknown('field', str(name), types, f' of {kind.__name__}')
    for name in needed:
        if name not in content:
            raise UsageError(f'{kind.__name__} lacks {name!r}; it has {", ".join(types)}')
    return kind(**{name: _read(types[name], value) for name, value in content.items()})


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """Types of the fields of a record, and those that must be given."""
    fields, types = dataclasses.fields(kind), typing.get_type_hints(kind)
    needed = [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]
    return {field.name: types[field.name] for field in fields}, needed
