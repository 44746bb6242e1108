"""The networks of a study: what each is called, what it costs, and what those know that teach."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from kdjax.metrics import Metric
from kdjax.study.report import comparison, formatting, statistics, tables
from kdjax.study.report.document import Card, Fact, Table, TableCell
from kdjax.study.report.records import Arm, Cost, Summary, Teacher

SIZE = ('nonzeros', 'bits_per_weight', 'stored_bytes', 'deflated_bytes')  # of networks that were made smaller
STEP = ('step_ms', 'sampling_ms', 'teacher_ms', 'update_ms')  # of training, by arm
Column = tuple[str, Callable[[float], str], Callable[[Cost], float | None]]  # title, form, what it shows

COUNTS: list[Column] = [
    ('parameters', formatting.thousands, lambda cost: cost.params),
    ('size', formatting.mebibytes, lambda cost: cost.bytes),
    ('FLOPs', formatting.thousands, lambda cost: cost.flops),
]


def costs(summary: Summary) -> Table:
    """Every network once, teachers first: parameters, size, FLOPs, what the task counts beside, latency."""
    networks = [(teacher_name(key, summary), teacher.cost) for key, teacher in summary.teachers.items() if teacher.cost]
    networks += students(summary)
    known = [cost for _, cost in networks]
    more = [metric for metric in summary.cost_metrics
            if metric.name not in STEP and any(metric.name in cost.more for cost in known)]  # fmt: skip
    columns = [*COUNTS, *map(_counted, more), *_latencies(known, 'batch of {}')]
    titles = ''.join(f'{formatting.in_unit(metric.title, metric.unit)}, ' for metric in more)

    def cell(form: Callable[[float], str], value: float | None) -> TableCell:
        return TableCell(formatting.or_nothing(form, value), value)

    return Table(
        f'What each network costs: parameters, their size, FLOPs per example, {titles}latency (median) by size of the '
        'batch',
        'l' + 'r' * len(columns),
        ('network', *(title for title, _, _ in columns)),
        tuple(
            (TableCell(name, name), *(cell(form, read(cost)) for _, form, read in columns)) for name, cost in networks
        ),
    )


def steps(summary: Summary) -> list[Table]:
    """What every arm spends a step of training on, in its last fit; none where that was not timed."""
    timed = [metric for metric in summary.cost_metrics if metric.name in STEP]
    arms = [arm for arm in summary.rows if arm.cost and any(name in arm.cost.more for name in STEP)]
    if not (arms and timed):
        return []
    columns = [_counted(metric) for metric in timed]
    rows = tuple(
        (arm.name, *(formatting.or_nothing(form, read(arm.cost)) for _, form, read in columns))
        for arm in arms if arm.cost
    )  # fmt: skip
    says = (
        'What a step of training takes, for one network, in the last fit of a method: writing texts, asking the teacher'
    )
    return [
        Table(f'{says}, and the rest', 'l' + 'r' * len(columns), ('method', *(title for title, *_ in columns)), rows)
    ]


def _counted(metric: Metric) -> Column:
    form = partial(formatting.value, metric=metric)
    return formatting.in_unit(metric.head, metric.unit), form, lambda cost: cost.more.get(metric.name)


def _latencies(costs: Sequence[Cost], title: str) -> list[Column]:
    def of(batch: str) -> Column:
        return title.format(batch), '{:.3g} ms'.format, lambda cost: cost.latency_ms.get(batch)

    return [of(batch) for batch in dict.fromkeys(batch for cost in costs for batch in cost.latency_ms)]


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
    """What tells one network from another by its cost, which latency does not: it is never twice the same."""
    return cost.params, cost.bytes, cost.flops, *(cost.more.get(name) or 0 for name in SIZE)


def teacher_name(key: str, summary: Summary) -> str:
    """'teacher', or what tells the arms of this one from those of others."""
    if len(summary.teachers) == 1:
        return 'teacher'
    place = list(summary.teachers).index(key) + 1
    named = _network_name('teacher', [arm for arm in summary.rows if arm.teacher == key], summary.rows)
    return named or f'teacher {place} ({_size(summary.teachers[key])})'


def _size(teacher: Teacher) -> str:
    return f'{formatting.thousands(teacher.cost.params)} parameters' if teacher.cost else 'a table'


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
    measured = [teacher.metrics for teacher in summary.teachers.values()]
    known = [
        metric for metric in summary.metrics[: tables.LEADING] if any(metric.name in metrics for metrics in measured)
    ]
    rows = tuple(
        (teacher_name(key, summary), *(formatting.value(teacher.metrics.get(metric.name), metric) for metric in known))
        for key, teacher in summary.teachers.items()
    )
    titles = [formatting.in_unit(metric.head, metric.unit) for metric in known]
    return Table('Teachers, on the test split', 'l' + 'r' * len(known), ('teacher', *titles), rows)


def card(summary: Summary) -> list[Card]:
    """Teacher, baseline, best student, its gain and how much smaller it is; nothing before any run has ended."""
    metric = summary.judged
    ranked = comparison.ranked(summary.rows, metric.sign)
    students_ = [arm for arm in ranked if not arm.is_baseline]
    if not ranked:
        return []
    best = (students_ or ranked)[0]
    compared = best.difference.baseline if best.difference else None
    base = next((arm for arm in ranked if arm.is_baseline and compared in (None, arm.name)), None)
    teacher = summary.teachers.get(best.teacher or '')
    facts = []
    if teacher:
        known = formatting.with_unit(formatting.value(teacher.metrics.get(metric.name), metric), metric.unit)
        facts.append(Fact('teacher', known, _size(teacher)))
    if base:
        facts.append(_scored('baseline', base, metric, base.name))
    if students_:
        among = f'{best.name}, the {formatting.highest(metric)} of {len(students_)}' if students_[1:] else best.name
        facts.append(_scored('best student', best, metric, among))
    if best.difference:
        gain, _, ends = formatting.gain(best.difference, metric).partition(' ')
        gain = formatting.with_unit(gain, metric.difference)
        verdict, p = best.difference.verdict, formatting.p(best.difference.p_holm)
        meant = {statistics.HELPS: 'good', statistics.HURTS: 'bad'}.get(verdict, '')
        facts.append(Fact('gain' if metric.sign > 0 else 'difference', gain, f'{ends} {verdict}, p (Holm) {p}', meant))
    if teacher and teacher.cost and best.cost:
        size = formatting.ratio(teacher.cost.bytes, best.cost.bytes)
        sizes = ' → '.join(formatting.mebibytes(cost.bytes) for cost in (teacher.cost, best.cost))
        facts.append(Fact('teacher / student size', size, sizes))
    return [Card(tuple(facts))]


def _scored(label: str, arm: Arm, metric: Metric, name: str) -> Fact:
    mean, _, reach = formatting.half(arm.score, metric).partition(' ')
    return Fact(label, formatting.with_unit(mean, metric.unit), f'{reach} {name}'.strip())


def savings(summary: Summary) -> str:
    """How many times as much the teacher costs as the student, in a sentence; '' unless there is one of each."""
    networks = students(summary)
    if len(networks) != 1 or len(summary.teachers) != 1:
        return ''
    ((_, student),), (teacher,) = networks, [one.cost for one in summary.teachers.values()]
    if teacher is None:
        return ''
    columns = [*COUNTS, *_latencies([teacher], 'latency with a batch of {}')]
    ratios = [f'{formatting.ratio(read(teacher), read(student))} the {title}' for title, _, read in columns]
    return f'What the teacher costs, as a multiple of the student: {", ".join(ratios)}.'
