"""What n seeds can say: a mean, a paired difference and a share of a gap, each with its 95 % interval.

A value that is None or not finite belongs to a run that failed: it is left out and counted, never averaged. Where the
seeds cannot carry an interval or a test (fewer than two, or no spread between them) the answer is None, never NaN.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdjax.study.report.records import Estimate, GapRecovered

LEVEL = 0.05  # of the tests; the intervals cover 1 - LEVEL
FEW = 5  # seeds; an interval of fewer reaches so far that the runs themselves say more
POWER = 0.8  # with which a difference of the detectable size would be found
# Below this a spread is float32 rounding: it is less than one example in a test set of a million. Seeds that agree so
# closely would give an interval of width zero and p = 0, a certainty that a few counted answers do not have.
ROUNDING = 1e-6

HELPS, HURTS, NO_DIFFERENCE = JUDGED = ('helps', 'hurts', 'no significant difference')
# Consistent is not told apart, which is not the same as equal: the interval says how far apart they may be.
HIGHER, LOWER, CONSISTENT = BESIDE_A_PAPER = ('higher', 'lower', 'consistent')
UNTESTED = 'cannot be tested'
VERDICTS = (*JUDGED, UNTESTED)

BySeed = Mapping[int, float | None]
Interval = tuple[float, float]  # the low and the high end, in the unit of the estimate


class Test(NamedTuple):
    """A difference, with its 95 % interval and its two-sided p-value of no difference; over `n` seeds."""

    mean: float | None
    ci95: Interval | None
    p: float | None
    n: int
    values: tuple[float, ...] = ()  # the differences themselves, where they are fewer than FEW


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean and standard deviation over seeds, with the Student-t interval of the mean.

    Args:
      values: one per seed, any unit; None or not finite where the run failed.

    Returns:
      In their unit and over the n that counted: mean, sd of one seed (with n - 1 degrees of freedom) and interval of
      the mean; mean None for n = 0, sd and interval None for n < 2.

    Reference: Student, The probable error of a mean, Biometrika 6(1), 1908.
    """
    kept = _present(values)
    sd = float(kept.std(ddof=1)) if len(kept) > 1 else None
    return Estimate(_mean(kept), sd, _interval(kept), len(kept), _few(kept))


def paired(values: BySeed, baseline: BySeed) -> Test:
    """Difference of two methods over the seeds that both have, with the paired t test.

    Args:
      values, baseline: by seed and in one unit, of the method in question and of the one that it is compared with.

    Returns:
      Values minus baseline, in their unit. Without spread between the seeds there is no interval, and p is 1 where the
      methods agree on every seed and None where they differ by a constant.

    Reference: Student, The probable error of a mean, Biometrika 6(1), 1908.
    """
    left, right = _common(values, baseline)
    differences = left - right
    spread = _interval(differences), _p_value(differences)
    return Test(_mean(differences), *spread, len(differences), _few(differences))


def _few(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist()) if 1 < len(values) < FEW else ()


def verdict(difference: float | None, p: float | None, sign: int = 1, words: tuple[str, str, str] = JUDGED) -> str:
    """What a test says at the 5 % level; UNTESTED where the seeds allow none.

    Args:
      difference, p: of the test.
      sign: 1 where the higher value is better, -1 where the lower one is.
      words: of a better value, a worse one, and neither.
    """
    if difference is None or p is None:
        return UNTESTED
    better, worse, neither = words
    return neither if p >= LEVEL else better if sign * difference > 0 else worse


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


def against(values: Iterable[float | None], mean: float, sd: float | None = None, n: int | None = None) -> Test:
    """Our seeds minus a published mean: Welch's t test where its sd and n are known, else a one-sample t test.

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
        return Test(difference, None, None, len(ours))
    parts = [(float(ours.var(ddof=1)) / len(ours), len(ours) - 1)]
    if sd is not None and n is not None and n > 1:
        parts.append((sd**2 / n, n - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    p = float(2 * _special().stdtr(freedom, -abs(difference) / error))
    half = float(_special().stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Test(difference, (difference - half, difference + half), p, len(ours))


def gap_recovered(student: BySeed, baseline: BySeed, teacher: float, sign: int = 1) -> GapRecovered | None:
    """mean(student - baseline) / mean(teacher - baseline), with Fieller's interval for paired seeds.

    A ratio of means, not a mean of ratios: one seed whose baseline happens to meet the teacher would own the latter.

    Args:
      student, baseline: scores by seed.
      teacher: score of the one teacher that all seeds share.
      sign: 1 where the higher score is better, -1 where the lower one is.

    Returns:
      The share (1 = all of the gap), or None where the teacher is not better than the baseline or no seed has both.
      Its interval is None also where the gap itself is not told from zero: Fieller's set is then unbounded.

    Reference: Fieller, Some problems in interval estimation, J. R. Stat. Soc. B 16(2), 1954.
    """
    left, right = _common(student, baseline)
    gains, gaps = sign * (left - right), sign * (teacher - right)
    if not len(gaps) or gaps.mean() <= ROUNDING:
        return None
    return GapRecovered(float(gains.mean() / gaps.mean()), _fieller(gains, gaps), len(gaps))


def _present(values: Iterable[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None and math.isfinite(value)], np.float64)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


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
    return float(values.mean() - half), float(values.mean() + half)


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
    return float((b - half) / a), float((b + half) / a)


def _special() -> Any:
    """SciPy's functions, loaded when a number is asked for: a run that is not over yet need not wait for them."""
    from scipy import special

    return special
