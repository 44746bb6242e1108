"""McNemar's test against SciPy's binomial test, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.hinton2015_mnist.mcnemar import mcnemar


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_exact_binomial_test_of_the_cases_that_differ(pairs):
    ours, theirs = np.array(pairs).T
    found = mcnemar(ours, theirs)
    left = sum(one and not other for one, other in pairs)
    right = sum(other and not one for one, other in pairs)
    assert (found.only_ours, found.only_theirs) == (left, right)
    wanted = stats.binomtest(left, left + right, 0.5).pvalue if left + right else 1.0
    assert found.p == pytest.approx(wanted, abs=1e-12)


def test_mcnemar_by_hand():
    """Of 6 cases that differ all are theirs: p = 2 / 2^6."""
    theirs = np.arange(100) < 6
    assert mcnemar(np.zeros(100, bool), theirs).p == pytest.approx(2 / 64)
