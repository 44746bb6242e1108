"""Every number against scipy, or against the definition of the interval that it claims to be."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdjax.study.report import statistics

ACCURACIES = [0.71, 0.74, 0.69, 0.75, 0.72]
BASELINE = [0.68, 0.70, 0.69, 0.71, 0.66]


def by_seed(values):
    return dict(enumerate(values))


def verdict(test, sign=1):
    return statistics.verdict(test.mean, test.p, sign)


def beside_a_paper(test):
    return statistics.verdict(test.mean, test.p, words=statistics.BESIDE_A_PAPER)


def test_summary_is_scipys():
    result = statistics.estimate(ACCURACIES)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(ACCURACIES), scale=stats.sem(ACCURACIES))
    assert result.mean == pytest.approx(np.mean(ACCURACIES))
    assert result.sd == pytest.approx(np.std(ACCURACIES, ddof=1))
    assert result.ci95 == pytest.approx((low, high))
    assert result.n == 5


def test_summary_by_hand():
    result = statistics.estimate([1.0, 2.0, 3.0])  # sd 1, and t(0.975, 2) = 4.302653 from a printed table
    assert result.ci95 == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)


def test_failed_seeds_are_left_out():
    result = statistics.estimate([0.7, None, 0.8, math.nan, math.inf])
    assert (result.mean, result.n) == (pytest.approx(0.75), 2)


@pytest.mark.parametrize(('values', 'mean', 'n'), [([], None, 0), ([None, None], None, 0), ([0.5], 0.5, 1)])
def test_summary_of_too_little_is_none_not_nan(values, mean, n):
    result = statistics.estimate(values)
    assert (result.mean, result.sd, result.n, result.ci95) == (mean, None, n, None)


def test_seeds_without_spread_claim_no_certainty():
    result = statistics.estimate([0.9, 0.9 + 3e-8, 0.9])  # float32's rounding of one and the same count
    assert result.ci95 is None
    assert result.sd == pytest.approx(0, abs=1e-7)


def test_paired_is_scipys():
    result = statistics.paired(by_seed(ACCURACIES), by_seed(BASELINE))
    expected = stats.ttest_rel(ACCURACIES, BASELINE)
    assert result.mean == pytest.approx(np.mean(ACCURACIES) - np.mean(BASELINE))
    assert result.p == pytest.approx(expected.pvalue)
    assert result.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert result.n == 5


def test_pairs_are_by_seed_not_by_position():
    shuffled = {seed: BASELINE[seed] for seed in (3, 0, 4, 1, 2)}
    result = statistics.paired(by_seed(ACCURACIES), shuffled)
    assert result == statistics.paired(by_seed(ACCURACIES), by_seed(BASELINE))


def test_paired_keeps_only_seeds_that_both_have():
    values = {0: 0.7, 1: None, 2: 0.8, 3: 0.9, 5: 0.75}
    baseline = {0: 0.6, 1: 0.6, 2: math.nan, 3: 0.7, 4: 0.65, 5: 0.7}
    result = statistics.paired(values, baseline)
    expected = stats.ttest_rel([0.7, 0.9, 0.75], [0.6, 0.7, 0.7])
    assert result.n == 3
    assert result.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(('values', 'difference', 'n'), [({0: 0.7}, 0.1, 1), ({0: None}, None, 0), ({}, None, 0)])
def test_paired_of_too_little_is_none_not_nan(values, difference, n):
    result = statistics.paired(values, {0: 0.6, 1: 0.6})
    assert result.mean == (None if difference is None else pytest.approx(difference))
    assert (result.ci95, result.p, result.n) == (None, None, n)
    assert verdict(result) == statistics.UNTESTED


def test_the_same_results_are_no_difference():
    result = statistics.paired(by_seed(BASELINE), by_seed(BASELINE))
    assert (result.mean, result.p, result.ci95) == (0, 1, None)
    assert verdict(result) == 'no significant difference'


def test_a_constant_difference_cannot_be_tested():
    result = statistics.paired({0: 0.7, 1: 0.8}, {0: 0.6, 1: 0.7})
    assert result.mean == pytest.approx(0.1)
    assert (result.p, result.ci95) == (None, None)
    assert verdict(result) == statistics.UNTESTED


@pytest.mark.parametrize(
    ('shift', 'expected'), [(0.05, 'helps'), (-0.05, 'hurts'), (0.001, 'no significant difference')]
)
def test_verdict(shift, expected):
    noise = [0.004, -0.006, 0.002, 0.003, -0.003]
    values = by_seed([value + shift + wobble for value, wobble in zip(BASELINE, noise, strict=True)])
    assert verdict(statistics.paired(values, by_seed(BASELINE))) == expected


def test_what_is_lower_helps_where_the_lower_is_better():
    test = statistics.paired(by_seed(BASELINE), by_seed(ACCURACIES))
    assert (test.mean < 0, test.p < 0.05) == (True, True)
    assert (verdict(test), verdict(test, -1)) == ('hurts', 'helps')


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
def test_verdict_and_interval_agree(pairs):
    values, baseline = (by_seed(column) for column in zip(*pairs, strict=True))
    result = statistics.paired(values, baseline)
    if result.ci95 is not None and abs(result.p - 0.05) > 1e-9:
        excludes_zero = result.ci95[0] > 0 or result.ci95[1] < 0
        assert excludes_zero == (verdict(result) in (statistics.HELPS, statistics.HURTS))


def test_gap_recovered_is_a_ratio_of_means():
    result = statistics.gap_recovered(by_seed(ACCURACIES), by_seed(BASELINE), 0.9)
    gain, gap = np.mean(ACCURACIES) - np.mean(BASELINE), 0.9 - np.mean(BASELINE)
    assert result.value == pytest.approx(gain / gap)
    assert result.n == 5


def test_the_gap_to_a_teacher_with_a_lower_error_is_that_of_its_accuracy():
    ours, theirs = ({seed: 1 - value for seed, value in enumerate(values)} for values in (ACCURACIES, BASELINE))
    of_errors = statistics.gap_recovered(ours, theirs, 0.1, sign=-1)
    of_accuracies = statistics.gap_recovered(by_seed(ACCURACIES), by_seed(BASELINE), 0.9)
    assert of_errors.value == pytest.approx(of_accuracies.value)
    assert of_errors.ci95 == pytest.approx(of_accuracies.ci95)
    assert statistics.gap_recovered(ours, theirs, 0.1) is None  # a teacher that is worse, were the higher better


def test_gap_interval_ends_where_the_t_test_starts_to_reject():
    result = statistics.gap_recovered(by_seed(ACCURACIES), by_seed(BASELINE), 0.9)
    gains, gaps = np.subtract(ACCURACIES, BASELINE), 0.9 - np.array(BASELINE)
    for ratio in result.ci95:
        assert stats.ttest_1samp(gains - ratio * gaps, 0).pvalue == pytest.approx(0.05)
    assert result.ci95[0] < result.value < result.ci95[1]


def test_gap_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        base = 0.7 + 0.02 * rng.standard_normal(5)
        student = base + 0.5 * (0.9 - base) + 0.02 * rng.standard_normal(5)
        low, high = statistics.gap_recovered(by_seed(student), by_seed(base), 0.9).ci95
        hits.append(low <= 0.5 <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize('teacher', [0.5, float(np.mean(BASELINE))])
def test_no_gap_nothing_recovered(teacher):
    assert statistics.gap_recovered(by_seed(ACCURACIES), by_seed(BASELINE), teacher) is None


def test_no_common_seed_nothing_recovered():
    assert statistics.gap_recovered({0: 0.8}, {1: 0.7}, 0.9) is None
    assert statistics.gap_recovered({0: None}, {0: 0.7}, 0.9) is None


def test_a_gap_not_told_from_zero_has_no_interval():
    baseline = {0: 0.60, 1: 0.80, 2: 0.70}
    result = statistics.gap_recovered({0: 0.65, 1: 0.79, 2: 0.74}, baseline, 0.72)
    assert result.value == pytest.approx((0.08 / 3) / 0.02)
    assert result.ci95 is None


@pytest.mark.parametrize('seeds', [[0], [0, 1, 2]])
def test_a_student_that_equals_its_teacher_has_no_interval(seeds):
    result = statistics.gap_recovered(dict.fromkeys(seeds, 0.9), {seed: BASELINE[seed] for seed in seeds}, 0.9)
    assert (result.value, result.ci95, result.n) == (pytest.approx(1), None, len(seeds))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_is_the_test_itself_and_no_p_exceeds_one():
    assert statistics.holm([0.04]) == [0.04]
    assert statistics.holm([0.6, 0.5]) == [1, 1]
    assert statistics.holm([]) == []


def test_a_test_that_could_not_be_made_still_counts_as_a_member_of_the_family():
    adjusted = statistics.holm([None, 0.01, 0.02, None])
    assert adjusted == [None, pytest.approx(0.04), pytest.approx(0.06), None]
    assert adjusted[1:3] == pytest.approx(statistics.holm([1, 0.01, 0.02, 1])[1:3])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_rejects_what_the_step_down_procedure_rejects(values):
    """Holm's own words: go up from the smallest p and stop at the first above LEVEL / (hypotheses left)."""
    left, rejected = sorted(values), []
    while left and left[0] <= 0.05 / len(left):
        rejected.append(left.pop(0))
    edge = any(abs(p * m - 0.05) < 1e-12 for p in values for m in range(1, 11))
    assert edge or sorted(values)[: len(rejected)] == sorted(
        p for p, adjusted in zip(values, statistics.holm(values), strict=True) if adjusted <= 0.05
    )


def test_holm_keeps_the_errors_of_a_family_at_the_level():
    rng = np.random.default_rng(0)
    wrong = [min(statistics.holm(rng.uniform(size=16).tolist())) < 0.05 for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.012)


def spread(n, sd=1.0):
    """n values whose standard deviation is sd."""
    values = np.arange(n) - (n - 1) / 2
    return by_seed(sd * values / values.std(ddof=1))


def zeros(n):
    return dict.fromkeys(range(n), 0.0)


def test_detectable_effect_is_cohens():
    """Half a standard deviation of the differences takes 34 pairs (power 0.808) at 5 %, two-sided, power 0.8."""
    assert statistics.detectable(spread(33), zeros(33)) > 0.5
    assert statistics.detectable(spread(34), zeros(34)) < 0.5


@pytest.mark.parametrize('n', [2, 3, 5, 10, 20, 100])
def test_detectable_effect_is_found_with_power_08(n):
    effect = statistics.detectable(spread(n, 0.3), zeros(n)) / 0.3
    t = stats.t.ppf(0.975, n - 1)
    assert stats.nct.sf(t, n - 1, effect * math.sqrt(n)) == pytest.approx(0.8, abs=1e-4)


def test_detectable_effect_is_found_as_often_as_it_says():
    rng, n = np.random.default_rng(1), 6
    effect = statistics.detectable(spread(n), zeros(n))
    pairs = rng.standard_normal((20_000, n)) + effect
    found = stats.ttest_1samp(pairs, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize('values', [{}, {0: 0.7}, {0: 0.7, 1: 0.8}, {0: None, 1: 0.7}])
def test_without_spread_nothing_is_said_of_what_could_be_detected(values):
    assert statistics.detectable(values, {0: 0.6, 1: 0.7}) is None


def test_a_published_mean_alone_is_taken_as_exact():
    result = statistics.against(ACCURACIES, 0.70)
    expected = stats.ttest_1samp(ACCURACIES, 0.70)
    assert result.mean == pytest.approx(np.mean(ACCURACIES) - 0.70)
    assert result.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert result.ci95 == pytest.approx((low - 0.70, high - 0.70))
    assert (result.n, beside_a_paper(result)) == (5, 'consistent')


def test_a_published_mean_with_its_spread_is_welchs():
    result = statistics.against(ACCURACIES, np.mean(BASELINE), np.std(BASELINE, ddof=1), 5)
    expected = stats.ttest_ind(ACCURACIES, BASELINE, equal_var=False)
    assert result.p == pytest.approx(expected.pvalue)
    assert result.ci95 == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize(('sd', 'n'), [(None, 5), (0.02, None), (0.02, 1)])
def test_half_known_spread_of_the_paper_is_unknown(sd, n):
    assert statistics.against(ACCURACIES, 0.70, sd, n) == statistics.against(ACCURACIES, 0.70)


@pytest.mark.parametrize(('mean', 'expected'), [(0.60, 'higher'), (0.72, 'consistent'), (0.85, 'lower')])
def test_verdict_on_a_published_mean_is_about_ours(mean, expected):
    assert beside_a_paper(statistics.against(ACCURACIES, mean)) == expected


@pytest.mark.parametrize(('values', 'n'), [([], 0), ([None], 0), ([0.7], 1), ([0.7, math.nan], 1), ([0.7, 0.7], 2)])
def test_too_few_seeds_cannot_be_held_against_a_paper(values, n):
    result = statistics.against(values, 0.6)
    assert result.mean == (pytest.approx(0.1) if n else None)
    assert (result.ci95, result.p, result.n, beside_a_paper(result)) == (None, None, n, 'cannot be tested')
