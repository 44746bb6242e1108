"""What a distillation term is.

A term is a frozen dataclass. Its *knobs* (weight, temperature, ...) are numbers that flow through the compiled program,
so a sweep over them compiles once; its other fields are structure and choose the program. It answers unreduced values;
the objective alone masks, averages, weighs and gathers over devices.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from flax import linen as nn

from kdjax.names import UsageError, unknown
from kdjax.types import Array, TermOut, Tree, View

Scope = Literal['example', 'batch']
AtTeacher = Literal['zero', 'stationary', 'free']


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


def knob(default: float, *, minimum: float = -math.inf, above: float = -math.inf) -> Any:
    """A dataclass field whose value is traced, bounded below by `minimum` (allowed) or `above` (not allowed)."""
    return dataclasses.field(default=default, metadata={'knob': (minimum, above)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A summand of the objective.

    Attributes:
      weight: what the term's mean is multiplied with; knob, >= 0.
    """

    PAPER: ClassVar[Paper]
    FORMS: ClassVar[tuple[str, ...]] = ()
    TEACHER: ClassVar[bool] = True  # whether it needs a teacher

    weight: float = knob(1.0, minimum=0.0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if 'knob' in field.metadata:
                _check_knob(type(self).__name__, field.name, value, *field.metadata['knob'])
            if field.name == 'form' and value not in self.FORMS:
                raise unknown('form', value, self.FORMS, f' of {type(self).__name__}')

    @property
    def scope(self) -> Scope:
        """'batch' where an example's value depends on other examples: the objective then gathers all devices first."""
        return 'example'

    @property
    def at_teacher(self) -> AtTeacher:
        """What holds where the student equals the teacher: value and gradient 0, gradient 0, or nothing."""
        return 'free'

    def taps(self) -> Taps:
        """The features that the term reads."""
        return Taps()

    def knobs(self) -> dict[str, float]:
        """Knobs by name."""
        return {field.name: float(getattr(self, field.name)) for field in dataclasses.fields(self) if _is_knob(field)}

    def init(self, key: Array, view: View) -> tuple[Tree, Tree]:
        """Learned parameters and memory; most terms have neither."""
        del key, view
        return {}, {}

    def __call__(
        self, params: Tree, memory: Tree, view: View, knobs: Mapping[str, Array], *, step: Array, key: Array
    ) -> TermOut:
        """Values per example (B,) or per token (B, N), the next memory, and scalars to log."""
        raise NotImplementedError

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        """Instances for the laws that every technique must obey; one per form at least.

        They read the taps 'stage1' (a feature map, (B, H, W, C)), 'stage2' (a smaller one) and 'penult' (a vector,
        (B, D)), of which the teacher's have more channels, and 'match', a vector of one width on both sides.
        """
        return [cls(form=form) for form in cls.FORMS] if cls.FORMS else [cls()]  # type: ignore[call-arg]


def pairs(layers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Layer names as (student tap, teacher tap): 'stage1' reads one name on both sides, 'stage1:stage3' two.

    Raises:
      UsageError: no layer, or a name with more than one colon.
    """
    found = []
    for layer in layers:
        student, _, teacher = layer.partition(':')
        if not student or ':' in teacher:
            raise UsageError(f"layer {layer!r} is not 'tap' or 'student_tap:teacher_tap'")
        found.append((student, teacher or student))
    if not found:
        raise UsageError("no layers given; name at least one tap, as ('stage2',) or ('stage2:stage3',)")
    return tuple(found)


def paired(layers: Sequence[str]) -> Taps:
    """The taps that pairs of layers read."""
    students, teachers = zip(*pairs(layers), strict=True)
    return Taps(students, teachers)


def init_module(module: nn.Module, key: Array, *inputs: Any) -> Tree:
    """Parameters of a linen module that a term learns; running statistics are not kept, it never runs in inference."""
    return module.init(key, *inputs).get('params', {})


def apply_module(module: nn.Module, params: Tree, *inputs: Any) -> Array:
    """Runs a learned module in training mode."""
    return module.apply({'params': params}, *inputs, mutable=['batch_stats'])[0]


def _is_knob(field: dataclasses.Field) -> bool:
    return 'knob' in field.metadata


def _check_knob(term: str, name: str, value: Any, minimum: float, above: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f'{name} of {term} must be a number, got {value!r}')
    if not math.isfinite(value) or value < minimum or value <= above:
        wanted = f'> {above:g}' if above > -math.inf else f'>= {minimum:g}' if minimum > -math.inf else 'finite'
        raise UsageError(f'{name} of {term} must be {wanted}, got {value!r}')
