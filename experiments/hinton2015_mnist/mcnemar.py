"""Whether one of two classifiers errs more often on the same test cases."""

from typing import NamedTuple

import numpy as np
from scipy import special


class Discordant(NamedTuple):
    """Cases on which two classifiers differ, and what McNemar's test says of them."""

    only_ours: int  # cases that ours has wrong and theirs right
    only_theirs: int
    p: float  # two-sided, exact


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> Discordant:
    """McNemar's exact test on paired errors of one test set.

    Given how many cases only one of the two has wrong, each of them is as likely ours as theirs if neither is better.

    Args:
      ours, theirs: (N,) bool, whether a case is wrong.

    Reference: McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12(2), 1947.
    """
    left, right = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    p = 2 * special.bdtr(min(left, right), left + right, 0.5) if left + right else 1.0
    return Discordant(left, right, float(min(p, 1.0)))
