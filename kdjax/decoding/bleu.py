"""BLEU and chrF, as sacrebleu measures them, and what of BLEU adds up over sentences.

Reference: Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002; Post, A Call for
Clarity in Reporting BLEU Scores, WMT 2018; Popović, chrF: Character n-gram F-score for Automatic MT Evaluation, WMT
2015.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdjax.errors import UsageError

# Of what sacrebleu measures, without its version
SIGNATURES = {
    'bleu': 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp',
    'bleu_lower': 'nrefs:1|case:lc|eff:no|tok:13a|smooth:exp',
    'chrf': 'nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no',
}
ORDERS = 4  # of n-grams


def counts(ours: Sequence[str], theirs: Sequence[str], lower: bool = False) -> np.ndarray:
    """What sacrebleu counts of each sentence: right n-grams and n-grams of 1 to 4, its tokens, and the reference's.

    They add up: BLEU of a corpus is `bleu` of their sum. (N, 10)
    """
    measure = _metrics().BLEU(lowercase=lower, effective_order=False)
    rows = []
    for one, other in zip(ours, theirs, strict=True):
        found = measure.corpus_score([one], [[other]])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.asarray(rows, np.float64)


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU, in 0 to 100, of sums of `counts` (..., 10), smoothed as sacrebleu does where an order has none right."""
    sums = np.asarray(sums, np.float64)
    right, total, ours, theirs = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS], sums[..., -2], sums[..., -1]
    none = (right == 0) & (total > 0)
    halved = 0.5 ** np.cumsum(none, axis=-1)  # the first such order counts for half an n-gram, the next for a quarter
    with np.errstate(divide='ignore', invalid='ignore'):
        precision = np.where(none, halved, right) / total
        brevity = np.where(ours < theirs, np.exp(1 - theirs / ours), 1)
        found = 100 * brevity * np.exp(np.mean(np.log(precision), axis=-1))
    # Where there is no n-gram of an order at all, sacrebleu says 0.
    return np.where(np.all(total > 0, axis=-1) & np.any(right > 0, axis=-1), found, 0)


def chrf(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """chrF of a corpus, in 0 to 100."""
    return float(_metrics().CHRF().corpus_score(list(ours), [list(theirs)]).score)


def sentence(ours: str, theirs: str) -> float:
    """BLEU of one sentence, in 0 to 100: of the orders that it has n-grams of, smoothed."""
    return float(_metrics().BLEU(effective_order=True).sentence_score(ours, [theirs]).score)


def _metrics() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise UsageError('BLEU needs the package sacrebleu: pip install "kdjax[translation]"') from error
    return metrics
