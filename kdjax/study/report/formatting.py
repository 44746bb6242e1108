"""How numbers are written: metrics in their unit, differences signed, what does not exist as a dash."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kdjax.metrics import Metric
from kdjax.study.report.records import Estimate

NOTHING = '–'
Interval = tuple[float, float] | None


class Mean(Protocol):
    """Whatever has a mean and its interval."""

    @property
    def mean(self) -> float | None: ...

    @property
    def ci95(self) -> Interval: ...


def plural(count: int, thing: str) -> str:
    """'1 seed', '2 seeds'."""
    return f'{count} {thing}' + ('' if count == 1 else 's')


def in_unit(title: str, unit: str) -> str:
    """'accuracy (%)'."""
    return f'{title} ({unit})' if unit else title


def with_unit(number: str, unit: str) -> str:
    """'90.00 %'."""
    return f'{number} {unit}' if unit else number


def highest(metric: Metric) -> str:
    """What the best value of a metric is: the highest or the lowest."""
    return 'highest' if metric.sign > 0 else 'lowest'


def gain_over(metric: Metric, baseline: str) -> str:
    """'gain over hard labels'."""
    return f'gain over {baseline}' if metric.sign > 0 else f'difference to {baseline} (lower is better)'


def or_nothing(form: Callable[[float], str], value: float | None) -> str:
    """`value` in a form, or a dash."""
    return NOTHING if value is None else form(value)


def value(value: float | None, metric: Metric) -> str:
    """A value of a metric in the metric's unit, or a dash."""
    return NOTHING if value is None else f'{metric.factor * value:.{metric.digits}f}'


def half(estimate: Estimate, metric: Metric) -> str:
    """A mean with half its interval; of few seeds with the lowest and the highest run instead."""
    if estimate.values:
        low, high = (value(end, metric) for end in (min(estimate.values), max(estimate.values)))
        return f'{value(estimate.mean, metric)} ({low}–{high})'
    reach = '' if estimate.ci95 is None else f' ± {value((estimate.ci95[1] - estimate.ci95[0]) / 2, metric)}'
    return value(estimate.mean, metric) + reach


def interval(mean: float | None, ends: Interval, form: str, factor: int = 100) -> str:
    """A number with both ends of its interval, each times a factor, all in one form ('+.2f')."""
    if mean is None:
        return NOTHING
    low_high = f' [{", ".join(format(factor * end, form) for end in ends)}]' if ends else ''
    return format(factor * mean, form) + low_high


def gain(difference: Mean | None, metric: Metric) -> str:
    """A difference in a metric, signed, with both ends of its interval."""
    if difference is None:
        return NOTHING
    return interval(difference.mean, difference.ci95, f'+.{metric.digits}f', metric.factor)


def spread(mean: float | None, sd: float | None, metric: Metric) -> str:
    """A mean with its standard deviation."""
    return value(mean, metric) + ('' if sd is None else f' ± {value(sd, metric)}')


def p(value: float | None) -> str:
    """A p-value."""
    return NOTHING if value is None else '< 0.001' if value < 0.001 else f'{value:.3f}'


def knobs(values: Mapping[str, float]) -> str:
    """'temperature = 4, weight = 0.5'."""
    return ', '.join(f'{name} = {setting(value)}' for name, value in values.items()) or 'nothing'


def facts(known: Mapping[str, Any]) -> str:
    """'cores 2, devices 1 x cpu'; what is known of a part of it in brackets."""
    return ', '.join(
        f'{name} ({facts(fact)})' if isinstance(fact, Mapping) else f'{name} {fact}' for name, fact in known.items()
    )


def thousands(count: float) -> str:
    """A count with a prefix."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if count >= size:
            return f'{count / size:.2f} {unit}'
    return f'{count:.0f}'


def mebibytes(count: float) -> str:
    """A size."""
    return f'{count / 2**20:.2f} MiB' if count >= 2**20 else f'{count / 2**10:.1f} KiB'


def ratio(teacher: float | None, student: float | None) -> str:
    """How many times as much the teacher costs."""
    if teacher is None or not student:
        return NOTHING
    return f'{teacher / student:,.{0 if teacher > 100 * student else 1}f}×'


def setting(value: object) -> str:
    """A setting's value: 4.0 as '4', text as it is."""
    return f'{value:g}' if isinstance(value, float) else str(value)


def words(axis: str) -> str:
    """The name of an axis in a sentence."""
    return axis.replace('_', ' ')
