"""Wrong configurations, drawn afresh, are answered in one line before anything trains.

These families of mistakes are answered throughout; how many of the others are, `bad_configs.py` counts.
"""

import bad_configs
import pytest

MET = ('types on the command line', 'odd text', 'unknown fields', 'config files')


def missed(family, seed, count):
    """What was not answered with one line."""
    answers = [(case, bad_configs.answer(case)) for case in bad_configs.draw(seed, count, family)]
    return [(case, answer.verdict) for case, answer in answers if answer.verdict != 'one line']


@pytest.mark.parametrize('family', MET)
def test_a_mistake_is_one_line(family):
    assert missed(family, seed=0, count=3) == []


@pytest.mark.slow
@pytest.mark.parametrize('family', MET)
def test_many_mistakes_are_one_line_each(family):
    assert missed(family, seed=1, count=100) == []
