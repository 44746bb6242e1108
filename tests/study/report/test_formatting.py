"""Numbers are written in their unit, and what does not exist is a dash."""

import pytest

from kdjax.metrics import Metric
from kdjax.study.report import formatting
from kdjax.study.report.records import Difference, Estimate
from kdjax.tasks.classification import Classification

METRICS = Classification().by_name
ACCURACY = METRICS['accuracy']


def test_a_score_is_in_its_unit_and_a_likelihood_in_nats():
    assert formatting.value(0.98204, ACCURACY) == '98.20'
    assert formatting.value(0.12345, METRICS['nll']) == '0.123'
    assert formatting.value(None, ACCURACY) == '–'


def test_an_estimate_has_half_its_interval_or_its_spread():
    assert formatting.half(Estimate(0.9, 0.02, (0.88, 0.92), 5), ACCURACY) == '90.00 ± 2.00'
    assert formatting.half(Estimate(0.9, None, None, 1), ACCURACY) == '90.00'
    assert formatting.half(Estimate(None, None, None, 0), ACCURACY) == '–'
    assert formatting.spread(0.9, 0.02, ACCURACY) == '90.00 ± 2.00'
    assert formatting.spread(0.3, 0.02, METRICS['kl']) == '0.300 ± 0.020'


def test_a_gain_is_signed_with_both_ends():
    assert formatting.gain(Difference(0.0157, (-0.001, 0.03), 0.1), ACCURACY) == '+1.57 [-0.10, +3.00]'
    assert formatting.gain(Difference(-0.2, None, None), METRICS['nll']) == '-0.200'
    assert formatting.gain(None, ACCURACY) == formatting.gain(Difference(None, None, None), ACCURACY) == '–'


def test_words_follow_the_direction():
    error = Metric('wer', 'word error rate', '%', 'lower')
    assert (formatting.highest(ACCURACY), formatting.highest(error)) == ('highest', 'lowest')
    assert formatting.gain_over(ACCURACY, 'hard labels') == 'gain over hard labels'
    assert formatting.gain_over(error, 'hard labels') == 'difference to hard labels (lower is better)'
    assert (formatting.in_unit('F1', '%'), formatting.in_unit('correlation', '')) == ('F1 (%)', 'correlation')


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (formatting.p(0.00099), '< 0.001'),
        (formatting.p(0.015), '0.015'),
        (formatting.ratio(85_000, 1_210), '70.2×'),
        (formatting.ratio(1e6, 1), '1,000,000×'),
        (formatting.ratio(1, 0), '–'),
        (formatting.thousands(85_002), '85.00 k'),
        (formatting.mebibytes(340_008), '332.0 KiB'),
        (formatting.knobs({'a.b': 4.0, 'c': 0.5}), 'a.b = 4, c = 0.5'),
        (formatting.knobs({}), 'nothing'),
        (formatting.plural(1, 'seed'), '1 seed'),
        (formatting.setting(4.0), '4'),
    ],
)
def test_other_forms(text, expected):
    assert text == expected
