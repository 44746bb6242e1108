"""What arrays a term reads, as arguments of a function: its student's, then its teacher's."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.base import Taps, Term
from kdjax.types import Array, Outputs

SIDES = ('student', 'teacher')
MEMBERS = 'members'  # the field of a term that says how many teachers there are
COLUMN = 'labels'  # the field of a term, and the argument, that labels come by


class Slot(NamedTuple):
    """An argument that has logits, a feature, or several features of one side."""

    argument: str  # 'student_logits'
    side: str
    taps: tuple[str, ...] = ()  # whose features it has; () for logits
    field: str = ''  # of the term, that names those taps; '' where their names are fixed
    many: bool = False  # whether it is a sequence of arrays
    needed: bool = True  # or only sometimes read

    @property
    def role(self) -> str:
        """Its name but for the side."""
        return self.argument.removeprefix(f'{self.side}_')


def is_plain(kind: type[Term]) -> bool:
    """Whether there are terms of a class that learn and remember nothing."""
    return kind.init is Term.init or kind.PLAIN is not None


def plain_fields(kind: type[Term]) -> dict[str, Any]:
    """The fields of such terms that differ from those of others."""
    return dict(kind.PLAIN or {})


def readings(kind: type[Term]) -> list[Term]:
    """Plain terms that read, between them, all that one may read, the default among them."""
    fields = {**plain_fields(kind), **{name: field_of(kind, name).default for name in kind.COLUMNS}}
    return [kind(**fields), *(dataclasses.replace(term, **fields) for term in kind.readings())]


def slots(kind: type[Term]) -> tuple[Slot, ...]:
    """All that plain terms of a class may read."""
    each = [{slot.argument: slot for slot in read_by(term)} for term in readings(kind)]
    found = {argument: slot for side in SIDES for one in each for argument, slot in one.items() if slot.side == side}
    return tuple(
        slot._replace(needed=all(argument in one for one in each)) for argument, slot in found.items()
    )  # fmt: skip


def read_by(term: Term) -> Iterator[Slot]:
    """What a term reads."""
    for side, taps, reads_logits in zip(SIDES, term.taps(), term.reads_logits, strict=True):
        if _members(taps):
            yield Slot(f'{side}_logits', side, taps, MEMBERS, many=True)
            continue
        if reads_logits:
            yield Slot(f'{side}_logits', side)
        named = dict(_named(term, side, taps))
        for field, own in named.items():
            yield Slot(f'{side}_{_role(field)}', side, own, field, isinstance(getattr(term, field), tuple))
        known = {tap for own in named.values() for tap in own}
        yield from (Slot(f'{side}_{tap}', side, (tap,)) for tap in taps if tap not in known)


def own_fields(kind: type[Term]) -> tuple[str, ...]:
    """Fields of a class that are arguments of its function: not those that its arrays say, nor those of plain terms."""
    said = {slot.field for slot in slots(kind)} | set(plain_fields(kind)) | {'weight', 'schedules', *kind.COLUMNS}
    return tuple(name for name in _names(kind) if name not in said)


def columns(kind: type[Term], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Of the arrays given for fields that name columns, those fields and the columns."""
    fields: dict[str, Any] = {}
    found: dict[str, Array] = {}
    for name in set(kind.COLUMNS) & set(given) - {COLUMN}:
        several = isinstance(field_of(kind, name).default, tuple)
        arrays = [jnp.asarray(x) for x in (given[name] if several else [given[name]])]
        names = tuple(f'{name}{index}' for index in range(len(arrays)))
        fields[name] = names if several else names[0]
        found.update(zip(names, arrays, strict=True))
    return fields, found


def field_of(kind: type[Term], name: str) -> dataclasses.Field:
    """The field of a class."""
    return next(field for field in dataclasses.fields(kind) if field.name == name)


def filled(kind: type[Term], given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Outputs, Outputs]]:
    """What the arrays that were given say of a term's fields, and the outputs of student and teacher that they are.

    Raises:
      UsageError: of layers there are not as many on both sides.
    """
    fields: dict[str, Any] = {}
    logits: dict[str, Array | None] = dict.fromkeys(SIDES)
    features: dict[str, dict[str, Array]] = {side: {} for side in SIDES}
    for slot in slots(kind):
        value = given.get(slot.argument)
        if value is None:
            if slot.field and not slot.many and not slot.needed:
                fields.setdefault(slot.field, '')
            continue
        arrays = [jnp.asarray(x) for x in (value if slot.many and isinstance(value, Sequence) else [value])]
        if not slot.taps:
            logits[slot.side] = arrays[0]
            continue
        names, said = _filled(slot, len(arrays))
        if slot.field and fields.get(slot.field, said) != said and slot.many:
            raise UsageError(f'{slot.argument} has {len(arrays)} arrays, that of the student '
                             f'{len(fields[slot.field])}; there must be as many layers')  # fmt: skip
        fields.update({slot.field: said} if slot.field else {})
        features[slot.side].update(zip(names, arrays, strict=True))
    student, teacher = (Outputs(logits[side], features[side]) for side in SIDES)  # type: ignore[arg-type]
    return fields, (student, teacher)


def check_given(term: Term, given: Iterable[str], kind: type[Term]) -> None:
    """Raises UsageError where a term reads an array that was not given, or would not read one that was."""
    wanted = {slot.argument for slot in read_by(term)} | ({COLUMN} if term.reads_labels else set())
    possible, given = {*(slot.argument for slot in slots(kind)), COLUMN}, set(given)
    for what, arguments in (('reads', wanted - given), ('does not read', (given & possible) - wanted)):
        if arguments:
            fields = [f'{name}={getattr(term, name)!r}' for name in own_fields(kind)]
            raise UsageError(f'with {", ".join(fields) or "these arguments"} it {what} {", ".join(sorted(arguments))}')


def _filled(slot: Slot, count: int) -> tuple[Sequence[str], Any]:
    """The taps of that many arrays, and what the field that names them is."""
    if slot.field == MEMBERS:
        return [f'member{index}/logits' for index in range(count)], count
    if slot.many:
        names = tuple(f'{slot.role}{index}' for index in range(count))
        return names, names
    return (slot.role if slot.field else slot.taps[0],), slot.role


def _members(taps: Sequence[str]) -> bool:
    return any(tap.startswith('member0/') for tap in taps)


def _named(term: Term, side: str, taps: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Fields of a term that name some of the taps of a side, and which they name."""
    for name in _names(type(term)):
        value = getattr(term, name)
        layers = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        if not layers or not all(isinstance(layer, str) and layer for layer in layers):
            continue
        own = Taps(*zip(*[(layer.partition(':')[0], layer.rpartition(':')[2]) for layer in layers], strict=True))
        read = getattr(own, side)
        if all(tap in taps for tap in read):
            yield name, read


def _role(field: str) -> str:
    return 'features' if field in ('layer', 'layers', 'tap') else field


def _names(kind: type[Term]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
