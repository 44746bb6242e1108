"""How numbers are shown: accuracies in percent, differences in points, what does not exist as a dash."""

from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]
NOTHING = '–'


def plural(count: int, thing: str) -> str:
    """'1 seed', '2 seeds'."""
    return f'{count} {thing}' + ('' if count == 1 else 's')


def or_nothing(show: Callable[[float], str], value: float | None) -> str:
    """`value` as `show` shows it, or a dash."""
    return NOTHING if value is None else show(value)


def number(value: float | None, digits: int = 3) -> str:
    """So many digits after the point, or a dash."""
    return NOTHING if value is None else f'{value:.{digits}f}'


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return number(None if share is None else 100 * share, 2)


def half(found: Row) -> str:
    """A mean in percent, with half its interval."""
    interval = found['ci95']
    reach = '' if interval is None else f' ± {percent((interval[1] - interval[0]) / 2)}'
    return percent(found['mean']) + reach


def estimate(found: Row, signed: bool = False, digits: int = 2) -> str:
    """A mean in percent, with both ends of its interval."""
    if found['mean'] is None:
        return NOTHING
    form = f'{"+" if signed else ""}.{digits}f'
    low_high = ', '.join(format(100 * end, form) for end in found['ci95'] or ())
    return format(100 * found['mean'], form) + (f' [{low_high}]' if low_high else '')


def spread(found: Row) -> str:
    """A mean in percent, with its standard deviation."""
    return percent(found['mean']) + ('' if found['sd'] is None else f' ± {percent(found["sd"])}')


def plainly(found: Row) -> str:
    """A mean in its own unit, signed, with both ends of its interval."""
    if found['mean'] is None:
        return NOTHING
    low_high = ', '.join(f'{end:+.3f}' for end in found['ci95'] or ())
    return f'{found["mean"]:+.3f}' + (f' [{low_high}]' if low_high else '')


def p(value: float | None) -> str:
    """A p-value."""
    return NOTHING if value is None else '< 0.001' if value < 0.001 else f'{value:.3f}'


def settings(chosen: Row) -> str:
    """'temperature = 4, weight = 0.5'."""
    return (
        ', '.join(
            f'{name} = {value:g}' if isinstance(value, float) else f'{name} = {value}' for name, value in chosen.items()
        )
        or 'nothing'
    )


def facts(found: Row) -> str:
    """'cores 2, devices 1 x cpu'; what is known of a part of it in brackets."""
    return ', '.join(
        f'{name} ({facts(said)})' if isinstance(said, Mapping) else f'{name} {said}' for name, said in found.items()
    )


def share(value: float) -> str:
    """A share in percent, with its unit."""
    return f'{100 * value:.2f} %'


def exactly(count: float) -> str:
    """A whole count."""
    return f'{count:,.0f}'


def thousands(count: float) -> str:
    """A count with a prefix."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if count >= size:
            return f'{count / size:.2f} {unit}'
    return f'{count:.0f}'


def mebibytes(count: float) -> str:
    """A size."""
    return f'{count / 2**20:.2f} MiB' if count >= 2**20 else f'{count / 2**10:.1f} KiB'


def milliseconds(value: float) -> str:
    """A time."""
    return f'{value:.3g} ms'


def ratio(teacher: float | None, student: float | None) -> str:
    """How many times as much the teacher costs."""
    if teacher is None or not student:
        return NOTHING
    return f'{teacher / student:,.{0 if teacher > 100 * student else 1}f}×'


def value(setting: object) -> str:
    """A setting's value: 4.0 as '4', text as it is."""
    return f'{setting:g}' if isinstance(setting, float) else str(setting)
