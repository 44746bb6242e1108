"""What a distillation term is.

A term is a frozen dataclass. Its *knobs* (weight, temperature, ...) are numbers that flow through the compiled program,
so a sweep over them compiles once; its other fields are structure and choose the program. It answers unreduced values;
the objective alone masks, averages, weighs and gathers over devices.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, shown, unknown
from kdjax.types import Array, Batch, Outputs, TermInputs, TermOut, Tree

Scope = Literal['example', 'batch']
AtTeacher = Literal['zero', 'stationary', 'free']
Knobs = Mapping[str, Array]  # values of a term's knobs, by name
# Modules of kdjax/tasks. Features mean the same in all of them; what logits and labels are is the task's.
# Tasks whose logits are those of classes, of an example or of each of its parts.
OF_CLASSES = ('classification', 'tagging', 'segmentation', 'language_model', 'translation', 'embedding', 'pitch')
TASKS = (*OF_CLASSES, 'multilabel', 'regression', 'recommendation', 'transcription', 'detection')


class Paper(NamedTuple):
    """A citation."""

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str = ''


class Taps(NamedTuple):
    """Names of the features that a term reads, on each side."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()


class Range(NamedTuple):
    """What a number may be: at least `minimum` and above `above`, at most `maximum` and below `below`."""

    minimum: float = -math.inf
    above: float = -math.inf
    maximum: float = math.inf
    below: float = math.inf

    def __contains__(self, value: Any) -> bool:
        return math.isfinite(value) and self.minimum <= value <= self.maximum and self.above < value < self.below

    def __str__(self) -> str:
        low, high = max(self.minimum, self.above), min(self.maximum, self.below)
        if high < math.inf:
            return f'in {"(" if low == self.above else "["}{low:g}, {high:g}{")" if high == self.below else "]"}'
        return 'finite' if low == -math.inf else f'{">" if low == self.above else ">="} {low:g}'


def knob(default: float, **bounds: float) -> Any:
    """A dataclass field whose value is traced, within bounds as `Range` has them.

    Terms that differ in knobs alone are equal: they are the same program.
    """
    return dataclasses.field(default=default, compare=False, metadata={'range': Range(**bounds), 'knob': True})


def number(default: float, **bounds: float) -> Any:
    """A dataclass field with a number that chooses the program, within bounds; an integer where its default is one."""
    return dataclasses.field(default=default, metadata={'range': Range(**bounds), 'whole': isinstance(default, int)})


class Schedule(NamedTuple):
    """What multiplies a knob during training: `start` at first, `end` from step `steps` on, in between by `shape`.

    A warm-up of the weight is ('weight', 0, 1, steps); a temperature annealed from T to 1 is ('temperature', 1, 1 / T,
    steps).
    """

    knob: str
    start: float
    end: float
    steps: int
    shape: str = 'linear'

    def factor(self, step: Array) -> Array:
        """The factor at a step. ()"""
        done = jnp.clip(step / self.steps, 0, 1)
        return self.start + (self.end - self.start) * SHAPES[self.shape](done)


SHAPES: Mapping[str, Callable[[Array], Array]] = {
    'linear': lambda done: done,
    'cosine': lambda done: (1 - jnp.cos(jnp.pi * done)) / 2,
    'jump': jnp.floor,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A summand of the objective.

    Attributes:
      weight: what the term's mean is multiplied with; knob, >= 0.
      schedules: how knobs move during training, at most one per knob.
    """

    PAPER: ClassVar[Paper]
    FORMS: ClassVar[tuple[str, ...]] = ()
    TEACHER: ClassVar[bool] = True  # whether it needs a teacher
    STUDENT: ClassVar[bool] = True  # whether it reads the student; what does not prepares itself for a later fit
    LABELS: ClassVar[bool] = False  # whether it reads labels: then it is shown none of the examples without
    OTHER_CLASSES: ClassVar[bool] = False  # whether the teacher's logits may be of another number of classes
    WRITTEN: ClassVar[bool] = False  # whether it reads what is written in a step, of a fit with `texts`
    DRAWS: ClassVar[bool] = False  # whether it draws at random
    COUNTS: ClassVar[bool] = False  # whether it counts training steps, other than by its schedules
    # Fields of those that are functions of arrays alone, of terms that may learn, or read the same in two ways.
    PLAIN: ClassVar[Mapping[str, Any] | None] = None
    COLUMNS: ClassVar[tuple[str, ...]] = ()  # fields that name columns of the batch
    TASKS: ClassVar[tuple[str, ...]] = OF_CLASSES  # of `TASKS`, those whose logits it understands

    weight: float = knob(1.0, minimum=0.0)
    schedules: tuple[Schedule, ...] = ()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if 'values' in vars(cls) and cls.__call__ is not Term.__call__:
            raise UsageError(f'{cls.__name__} defines values, but its __call__ hides them; define one of the two')

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if 'range' in field.metadata:
                _check_number(type(self).__name__, field, value)
            if field.name == 'form' and value not in self.FORMS:
                raise unknown('form', value, self.FORMS, f' of {type(self).__name__}')
        # A config has plain tuples.
        object.__setattr__(self, 'schedules', checked_schedules(type(self).__name__, self.schedules, self.knobs()))
        for field in dataclasses.fields(self):
            for schedule in self.schedules:
                if schedule.knob == field.name:
                    _check_schedule(type(self).__name__, field, getattr(self, field.name), schedule)

    @property
    def scope(self) -> Scope:
        """'batch' where an example's value depends on other examples: the objective then gathers all devices first."""
        return 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        """What holds where the student equals the teacher: value and gradient 0, gradient 0, or nothing."""
        return 'free'

    @property
    def minimum(self) -> float:
        """A bound below every value: 0, or -inf for the likelihood of a density."""
        return 0.0

    @property
    def reads_labels(self) -> bool:
        """Whether it reads batch['labels'], where that depends on its form; else `LABELS` says it."""
        return self.LABELS

    @property
    def reads_logits(self) -> tuple[bool, bool]:
        """Whether it reads logits of the student, and of the teacher: by default where it reads no features of them."""
        student, teacher = self.taps()
        return self.STUDENT and not student, self.TEACHER and not teacher

    @property
    def adopts(self) -> bool:
        """Whether `adopt` takes something over, which is not trained and must not decay either."""
        return False

    @property
    def weighing(self) -> tuple[str, ...]:
        """Those of the student's taps that only weigh or choose, behind a stop-gradient: nothing is learned there."""
        return ()

    def taps(self) -> Taps:
        """The features that the term reads."""
        return Taps()

    def knobs(self) -> dict[str, float]:
        """Knobs by name."""
        return {field.name: float(getattr(self, field.name)) for field in dataclasses.fields(self) if _is_knob(field)}

    def known(self, labels: Array) -> Array:
        """Which labels (B, ...) there are: one that is not is negative, or nan where labels are no whole numbers."""
        return ~jnp.isnan(labels) if jnp.issubdtype(labels.dtype, jnp.floating) else labels >= 0

    def divisor(self, batch: Batch) -> Array:
        """What the sum of the values is divided by, example by example: added up over the batch, on all devices.

        (B,) or (B, N), 0 where there is padding: the mask, which makes it a mean, or what else an example counts, such
        as how many objects it has. It is of the batch alone, so that it can be known before parts of it are seen.
        """
        return batch['mask']

    def init(self, key: Array, inputs: TermInputs) -> tuple[Tree, Tree]:
        """Learned parameters and memory; most terms have neither."""
        del key, inputs
        return {}, {}

    def adopt(self, params: Tree, earlier: Mapping[str, Tree], teacher: Tree) -> Tree:
        """What is taken over rather than learned afresh; most terms take over nothing.

        Args:
          params: as `init` made them.
          earlier: what terms had learned, by name, at the end of the fit before in a method; empty in the first.
          teacher: variables of the teacher, cached or not; empty where there is none.

        Raises:
          UsageError: what the term cannot do without is not there.
        """
        del earlier, teacher
        return params

    def answer(self, params: Tree, memory: Tree, student: Outputs) -> Array:
        """The logits that a trained student is asked for in the place of its own, by a term whose paper says so. (B, K)

        Args:
          params, memory: what the term learned and remembers.
          student: what the student says, its logits and the term's taps.

        Raises:
          UsageError: the term has no such answer.
        """
        del params, memory, student
        raise UsageError(f'{type(self).__name__} has no answer of its own: leave `answer` of its fit empty')

    def scheduled(self, knobs: Knobs, step: Array) -> Knobs:
        """The knobs as they stand at a step."""
        factors = {schedule.knob: schedule.factor(step) for schedule in self.schedules}
        return {name: value * factors[name] if name in factors else value for name, value in knobs.items()}

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        """Values per example (B,) or per token (B, N), of a term that needs nothing but these: most define this alone.

        Raises:
          UsageError: the term defines neither this nor `__call__`.
        """
        del inputs, knobs
        raise UsageError(f'{type(self).__name__} must define either values(inputs, knobs) or __call__')

    def __call__(
        self, params: Tree, memory: Tree, inputs: TermInputs, knobs: Knobs, *, step: Array, key: Array
    ) -> TermOut:
        """Values, the next memory and scalars to log, of a term that learns, remembers, draws, logs or counts steps."""
        del params, step, key
        return TermOut(self.values(inputs, knobs), memory, {})

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        """Instances for the laws that every technique must obey; one per form at least.

        They read what the laws' world has. Maps 'stage1' (B, H, W, C) and 'stage2' (half the map) and the vector
        'penult' (B, D), of which the teacher's have more channels; 'match', a vector of one width on both sides, and
        'map', a map of one. Of a transformer with N tokens, of which batch['token_mask'] (B, N) are real: 'embedding',
        'hidden1', 'hidden2', 'query', 'key', 'value' (B, N, D), the teacher's wider, and 'attention1', 'attention2'
        (B, heads, N, N), scores before the softmax. Logits of other views: 'strong' (B, K), 'rotated' (B, 4, K) and
        their embeddings 'rotated_penult' (B, 4, D). Derivatives of the logits: 'tangents' (B, M, K), 'jacobian'
        (B, K, H, W, C). Of the teacher, its most probable classes: 'top_ids', 'top_log_probs' (B, 4). Of a detector:
        'edges' (B, M, 4, bins), 'anchor_logits' (B, M, K), and batch['boxes'] (B, 2, 4), batch['anchor_class'] (B, M),
        batch['anchor_edges'] (B, M, 4), batch['anchor_valuable'] (B, M); of one of points 'centre_sizes' (B, M, 2),
        batch['centre_class'] (B, M), batch['centre_heat'] (B, M, K), batch['centre_size'] (B, M, 2). Of a tagger of N
        tokens that is a CRF:
        'emissions' (B, N, K), 'transitions' (B, K + 2, K), and batch['tags'] (B, N). Of what is spoken: 'frame_logits'
        (B, N, K), batch['transcripts'] (B, 2), batch['transcript_length'] (B,). Members of a teacher: 'member0/logits',
        'member1/logits', 'member0/penult', ...; of a student: 'peers' (B, 3, K). Of a recommender scores of groups of
        items (B, M) and of users, 'positive', 'negative', 'first', 'interesting', 'uninteresting', 'interesting_users',
        'uninteresting_users', and embeddings 'user_vector' (B, D) and 'item_vectors' (B, 2, D), the teacher's wider;
        batch['user'], batch['item'] (B,) and batch['items'] (B, 2). Of texts that were written
        batch['written'], ids from 1 on, and batch['teacher_share'] (B,).
        """
        return [cls(form=form) for form in cls.FORMS] if cls.FORMS else [cls()]  # type: ignore[call-arg]

    @classmethod
    def readings(cls) -> Sequence[Self]:
        """Instances that read, between them, all that any instance may read; those of the laws where they do."""
        return cls.specimens()


def is_technique(kind: Any) -> bool:
    """Whether something is the class of a term, with its paper, rather than a base of several."""
    return isinstance(kind, type) and issubclass(kind, Term) and hasattr(kind, 'PAPER')


def init_module(module: nn.Module, key: Array, *arguments: Any) -> Tree:
    """Parameters of a linen module that a term learns; running statistics are not kept."""
    return module.init(key, *arguments).get('params', {})


def apply_module(module: nn.Module, params: Tree, *arguments: Any) -> Array:
    """Runs a learned module in training mode."""
    return module.apply({'params': params}, *arguments, mutable=['batch_stats'])[0]


def _is_knob(field: dataclasses.Field) -> bool:
    return 'knob' in field.metadata


def _check_number(term: str, field: dataclasses.Field, value: Any) -> None:
    allowed, whole = field.metadata['range'], field.metadata.get('whole', False)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise UsageError(f'{field.name} of {term} must be {"an integer" if whole else "a number"}, got {value!r}')
    if value not in allowed:
        raise UsageError(f'{field.name} of {term} must be {allowed}, got {value!r}')


def _check_schedule(term: str, field: dataclasses.Field, value: float, schedule: Schedule) -> None:
    """A knob stays within its bounds from the start of a schedule to its end."""
    for factor in (schedule.start, schedule.end):
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise UsageError(f'start and end of a schedule of {term} must be numbers, got {shown(factor)}')
        if value * factor not in field.metadata['range']:
            raise UsageError(
                f'{field.name} of {term} must be {field.metadata["range"]} throughout, '
                f'and its schedule multiplies it by {factor:g}'
            )


def checked_schedules(term: str, given: Sequence[Sequence[Any]], knobs: Mapping[str, float]) -> tuple[Schedule, ...]:
    """Schedules of some of the knobs of a term, as a config gives them; raises UsageError for what is none."""
    for one in given if isinstance(given, tuple | list) else (given,):
        if not isinstance(one, tuple | list) or not 4 <= len(one) <= 5:
            raise UsageError(f'a schedule of {term} is (knob, start, end, steps[, shape]), got {shown(one)}')
    schedules = tuple(Schedule(*one) for one in given)
    for schedule in schedules:
        if schedule.knob not in knobs:
            raise unknown('knob', schedule.knob, knobs, f' in the schedules of {term}')
        if schedule.shape not in SHAPES:
            raise unknown('shape', schedule.shape, SHAPES, f' of a schedule of {term}')
        if isinstance(schedule.steps, bool) or not isinstance(schedule.steps, int) or schedule.steps < 1:
            raise UsageError(f'a schedule of {term} must last at least 1 step, got {shown(schedule.steps)}')
    if len({schedule.knob for schedule in schedules}) < len(schedules):
        raise UsageError(f'{term} has two schedules for one knob: {[schedule.knob for schedule in schedules]}')
    return schedules
