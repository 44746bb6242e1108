"""The networks of a study: what each is called, what it costs, and what those know that teach."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from kdjax.study.report import comparison, formatting
from kdjax.study.report.document import Table, TableCell
from kdjax.study.report.records import METRICS, Arm, Cost, Summary

COUNTS: dict[str, tuple[str, Callable[[float], str]]] = {
    'params': ('parameters', formatting.thousands),
    'bytes': ('size', formatting.mebibytes),
    'flops': ('FLOPs', formatting.thousands),
}


def costs(summary: Summary) -> Table:
    """Every network once, teachers first: parameters, size, FLOPs, latency."""
    networks = [(teacher_name(key, summary), teacher.cost) for key, teacher in summary.teachers.items()]
    networks += students(summary)
    batches = list(dict.fromkeys(batch for _, cost in networks for batch in cost.latency_ms))

    def cells(name: str, cost: Cost) -> tuple[TableCell, ...]:
        counts = ((form, getattr(cost, field)) for field, (_, form) in COUNTS.items())
        times = ((formatting.milliseconds, cost.latency_ms.get(batch)) for batch in batches)
        numbers = (TableCell(formatting.or_nothing(form, value), value) for form, value in (*counts, *times))
        return TableCell(name, name), *numbers

    return Table(
        'What each network costs: parameters, their size, FLOPs per example, latency (median) by size of the batch',
        'l' + 'r' * (len(COUNTS) + len(batches)),
        ('network', *(title for title, _ in COUNTS.values()), *(f'batch of {batch}' for batch in batches)),
        tuple(cells(name, cost) for name, cost in networks),
    )


def students(summary: Summary) -> list[tuple[str, Cost]]:
    """Each student network that was trained, named by what its arms share, with its cost."""
    groups: dict[tuple[float, ...], list[Arm]] = defaultdict(list)
    for arm in summary.rows:
        if arm.cost:
            groups[network(arm.cost)].append(arm)
    trained = [arm for arms in groups.values() for arm in arms]
    return [
        (_network_name('student', arms, trained), comparison.cost([arm.cost for arm in arms if arm.cost]))
        for arms in groups.values()
    ]


def network(cost: Cost) -> tuple[float, ...]:
    """What tells one network from another by its cost: parameters, bytes, FLOPs; latency is never twice the same."""
    return tuple(getattr(cost, field) for field in COUNTS)


def teacher_name(key: str, summary: Summary) -> str:
    """'teacher', or what tells the arms of this one from those of others."""
    if len(summary.teachers) == 1:
        return 'teacher'
    return (
        _network_name('teacher', [arm for arm in summary.rows if arm.teacher == key], summary.rows) or f'teacher {key}'
    )


def _network_name(what: str, group: Sequence[Arm], arms: Sequence[Arm]) -> str:
    """What a network is called by the settings that its arms share, and others do not; '' without arms."""
    if len(group) == len(arms):
        return what
    common = {
        axis: setting for axis, setting in (group[0].point.items() if group else ())
        if all(arm.point.get(axis) == setting for arm in group)
        and not all(arm.point.get(axis) == setting for arm in arms)
    }  # fmt: skip
    if common:
        return f'{what}, {", ".join(comparison.setting_labels(common, list(common)))}'
    more = f' and {len(group) - 1} more' if len(group) > 1 else ''
    return f'{what} of {group[0].name}{more}' if group else ''


def teachers(summary: Summary) -> Table:
    """What the teachers know: the metrics that ask for no teacher."""
    known = [name for name in METRICS if any(name in teacher.metrics for teacher in summary.teachers.values())]
    rows = tuple(
        (teacher_name(key, summary), *(formatting.value(teacher.metrics.get(name), METRICS[name]) for name in known))
        for key, teacher in summary.teachers.items()
    )
    titles = [f'{METRICS[name].head} ({METRICS[name].unit})' for name in known]
    return Table('Teachers, on the test split', 'l' + 'r' * len(known), ('teacher', *titles), rows)


def savings(summary: Summary) -> str:
    """How many times as much the teacher costs as the student, in a sentence; '' unless there is one of each."""
    networks = students(summary)
    if len(networks) != 1 or len(summary.teachers) != 1:
        return ''
    ((_, student),), (teacher,) = networks, summary.teachers.values()
    pairs = [(title, getattr(teacher.cost, field), getattr(student, field)) for field, (title, _) in COUNTS.items()]
    pairs += [(f'latency with a batch of {batch}', time, student.latency_ms.get(batch))
              for batch, time in teacher.cost.latency_ms.items()]  # fmt: skip
    ratios = [f'{formatting.ratio(big, small)} the {title}' for title, big, small in pairs]
    return f'What the teacher costs, as a multiple of the student: {", ".join(ratios)}.'
