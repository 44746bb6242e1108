"""What n seeds can say: a mean, a paired difference and a share of a gap, each with its 95 % interval.

A value that is None or not finite belongs to a run that failed: it is left out and counted, never averaged. Where the
seeds cannot carry an interval or a test (fewer than two, or no spread between them) the answer is None, never NaN.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.05  # of the tests; the intervals cover 1 - LEVEL
POWER = 0.8  # with which a difference of the detectable size would be found
# Below this a spread is float32 rounding: it is less than one example in a test set of a million. Seeds that agree so
# closely would give an interval of width zero and p = 0, a certainty that a few counted answers do not have.
ROUNDING = 1e-6

HELPS = 'helps'
HURTS = 'hurts'
NO_DIFFERENCE = 'no significant difference'
UNTESTED = 'cannot be tested'
VERDICTS = (HELPS, HURTS, NO_DIFFERENCE, UNTESTED)
CONSISTENT = 'consistent'  # not told apart, which is not the same as equal: the interval says how far apart they may be
LOWER = 'lower'
HIGHER = 'higher'

BySeed = Mapping[int, float | None]


class Interval(NamedTuple):
    """The 95 % interval of an estimate, in the estimate's unit."""

    low: float
    high: float


class Summary(NamedTuple):
    """One quantity over seeds; `n` counted, `missing` left out."""

    mean: float | None
    sd: float | None  # of one seed, with n - 1 degrees of freedom
    n: int
    missing: int
    interval: Interval | None  # of the mean


class Paired(NamedTuple):
    """Treatment minus baseline over the seeds that have both; `missing` counts the seeds that lack either."""

    difference: float | None
    interval: Interval | None
    p: float | None  # two-sided, of no difference
    n: int
    missing: int


class Published(NamedTuple):
    """Our mean over seeds minus a number that somebody else reported."""

    difference: float | None
    interval: Interval | None
    p: float | None  # two-sided, of no difference
    n: int  # seeds of ours
    verdict: str  # CONSISTENT, LOWER (ours is), HIGHER or UNTESTED


class Gap(NamedTuple):
    """The share of the distance from baseline to teacher that a student covers; 1 is the teacher, 0 the baseline."""

    value: float
    interval: Interval | None
    n: int


def summary(values: Iterable[float | None]) -> Summary:
    """Mean and standard deviation over seeds, with the Student-t interval of the mean.

    Args:
      values: one per seed, any unit; None or not finite where the run failed.

    Returns:
      A `Summary` in the unit of `values`; mean None for n = 0, sd and interval None for n < 2.

    Reference: Student, The probable error of a mean, Biometrika 6(1), 1908.
    """
    everything = list(values)
    kept = _present(everything)
    mean = float(kept.mean()) if len(kept) else None
    sd = float(kept.std(ddof=1)) if len(kept) > 1 else None
    return Summary(mean, sd, len(kept), len(everything) - len(kept), _interval(kept))


def paired(values: BySeed, baseline: BySeed) -> Paired:
    """Difference of two methods that share their seeds, with the paired t test.

    Args:
      values: by seed, of the method in question.
      baseline: by seed, in the same unit, of the method that it is compared with.

    Returns:
      A `Paired` in the unit of `values`. Without spread between the seeds there is no interval, and p is 1 where the
      methods agree on every seed and None where they differ by a constant.

    Reference: Student, The probable error of a mean, Biometrika 6(1), 1908.
    """
    left, right = _common(values, baseline)
    differences = left - right
    mean = float(differences.mean()) if len(differences) else None
    missing = len(values.keys() | baseline.keys()) - len(differences)
    return Paired(mean, _interval(differences), _p_value(differences), len(differences), missing)


def verdict(comparison: Paired) -> str:
    """HELPS, HURTS or NO_DIFFERENCE at the 5 % level; UNTESTED where the seeds allow no test."""
    if comparison.p is None or comparison.difference is None:
        return UNTESTED
    if comparison.p >= LEVEL:
        return NO_DIFFERENCE
    return HELPS if comparison.difference > 0 else HURTS


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for being a family: reject those below LEVEL, and any error at all has probability LEVEL.

    Args:
      p_values: of the family's tests; None for one that could not be made. It still counts as a member, as p = 1 would:
        a family does not become smaller, and its other members more significant, by failed or unfinished runs.

    Returns:
      The adjusted p-values in the same order, None where there was None.

    Reference: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6(2), 1979.
    """
    ranked = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    scaled = (min((len(p_values) - rank) * p, 1.0) for rank, (p, _) in enumerate(ranked))
    steps = itertools.accumulate(scaled, max)  # no hypothesis may look surer than one that was rejected before it
    adjusted = dict(zip((place for _, place in ranked), steps, strict=True))
    return [adjusted.get(place) for place in range(len(p_values))]


def detectable(values: BySeed, baseline: BySeed) -> float | None:
    """The true difference that the paired t test at LEVEL would find with probability POWER, given the spread seen.

    Returns:
      d, in the unit of `values`, that solves P(T > t) = POWER for T noncentral t with n - 1 degrees of freedom and
      noncentrality d sqrt(n) / sd, sd that of the paired differences; None for fewer than two pairs or no spread.

    Reference: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed., 1988, chapter 2.
    """
    left, right = _common(values, baseline)
    if _silent(left - right):
        return None
    n = len(left)
    noncentrality = _special().nctdtrinc(n - 1, 1 - POWER, _quantile(n))  # the other tail adds less than 1e-6
    return float(noncentrality * (left - right).std(ddof=1) / math.sqrt(n))


def against(values: Iterable[float | None], mean: float, sd: float | None = None, n: int | None = None) -> Published:
    """Our seeds against a published mean: Welch's t test where its sd and n are known, else a one-sample t test.

    The latter takes the published mean as exact, and so finds differences where there may be none.

    Args:
      values: ours, one per seed; None or not finite where the run failed.
      mean: the published one, in the same unit.
      sd: of one run of theirs, same unit, with n - 1 degrees of freedom.
      n: how many runs of theirs.

    References: Student, The probable error of a mean, Biometrika 6(1), 1908; Welch, The generalization of 'Student's'
    problem when several different population variances are involved, Biometrika 34(1-2), 1947.
    """
    ours = _present(values)
    difference = float(ours.mean()) - mean if len(ours) else None
    if difference is None or _silent(ours):
        return Published(difference, None, None, len(ours), UNTESTED)
    parts = [(float(ours.var(ddof=1)) / len(ours), len(ours) - 1)]
    if sd is not None and n is not None and n > 1:
        parts.append((sd**2 / n, n - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    p = float(2 * _special().stdtr(freedom, -abs(difference) / error))
    half = float(_special().stdtrit(freedom, 1 - LEVEL / 2)) * error
    verdict = CONSISTENT if p >= LEVEL else HIGHER if difference > 0 else LOWER
    return Published(difference, Interval(difference - half, difference + half), p, len(ours), verdict)


def gap_recovered(student: BySeed, baseline: BySeed, teacher: float) -> Gap | None:
    """mean(student - baseline) / mean(teacher - baseline), with Fieller's interval for paired seeds.

    A ratio of means, not a mean of ratios: one seed whose baseline happens to meet the teacher would own the latter.

    Args:
      student: accuracy by seed.
      baseline: accuracy by seed.
      teacher: accuracy of the one teacher that all seeds share.

    Returns:
      The share (1 = all of the gap), or None where the teacher is not better than the baseline or no seed has both.
      Its interval is None also where the gap itself is not told from zero: Fieller's set is then unbounded.

    Reference: Fieller, Some problems in interval estimation, J. R. Stat. Soc. B 16(2), 1954.
    """
    left, right = _common(student, baseline)
    gains, gaps = left - right, teacher - right
    if not len(gaps) or gaps.mean() <= ROUNDING:
        return None
    return Gap(float(gains.mean() / gaps.mean()), _fieller(gains, gaps), len(gaps))


def _present(values: Iterable[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None and math.isfinite(value)], np.float64)


def _common(left: BySeed, right: BySeed) -> tuple[np.ndarray, np.ndarray]:
    seeds = [seed for seed in left if seed in right and len(_present([left[seed], right[seed]])) == 2]
    return _present(left[seed] for seed in seeds), _present(right[seed] for seed in seeds)


def _quantile(n: int) -> float:
    return float(_special().stdtrit(n - 1, 1 - LEVEL / 2))


def _silent(values: np.ndarray) -> bool:
    return len(values) < 2 or bool(np.ptp(values) <= ROUNDING)


def _interval(values: np.ndarray) -> Interval | None:
    if _silent(values):
        return None
    half = _quantile(len(values)) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half))


def _p_value(differences: np.ndarray) -> float | None:
    if _silent(differences):
        return 1.0 if len(differences) > 1 and abs(differences.mean()) <= ROUNDING else None
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences)))
    return float(2 * _special().stdtr(len(differences) - 1, -abs(t)))


def _fieller(gains: np.ndarray, gaps: np.ndarray) -> Interval | None:
    """The ratios r that a t test of mean(gains - r gaps) = 0 does not reject: a quadratic a r^2 - 2 b r + c <= 0."""
    ratio = gains.mean() / gaps.mean()
    if _silent(gains - ratio * gaps):
        return None
    t2 = _quantile(len(gaps)) ** 2
    (gain_variance, covariance), (_, gap_variance) = t2 * np.cov(gains, gaps) / len(gaps)
    a = gaps.mean() ** 2 - gap_variance
    b = gains.mean() * gaps.mean() - covariance
    c = gains.mean() ** 2 - gain_variance
    if a <= 0:
        return None
    half = math.sqrt(max(b * b - a * c, 0))  # the estimate itself solves the inequality: negative only by rounding
    return Interval(float((b - half) / a), float((b + half) / a))


def _special() -> Any:
    """SciPy's functions, loaded when a number is asked for: a run that is not over yet need not wait for them."""
    from scipy import special

    return special
