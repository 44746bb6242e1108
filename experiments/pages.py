"""What the pages of experiments have in common: their marked part, and how numbers are written."""

from collections.abc import Mapping

from kdjax.study.report import formatting, statistics

END = '<!-- end of results -->'


def filled(text: str, begin: str, content: str, end: str = END) -> str:
    """`text` with `content` between the marks `begin` and `end`."""
    before, _, rest = text.partition(begin)
    return f'{before}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}'


def percent(values: Mapping[int, float | None]) -> str:
    """A mean and half its interval."""
    one = statistics.estimate(values.values())
    if one.mean is None or one.ci95 is None:
        return formatting.NOTHING
    return f'{one.mean:.2f} ± {(one.ci95[1] - one.ci95[0]) / 2:.2f}'


def difference(test: statistics.Test) -> str:
    """A paired difference and its interval."""
    if test.mean is None or test.ci95 is None:
        return formatting.NOTHING
    return f'{test.mean:+.2f} [{test.ci95[0]:+.2f}, {test.ci95[1]:+.2f}]'
