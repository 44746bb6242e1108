"""Language modelling: what follows each token of a text; what decides is how many nats that costs."""

import dataclasses

from kdjax.metrics import Metric
from kdjax.tasks.next_token import ACCURACY, AGREEMENT, BITS, KL, NLL, PERPLEXITY, NextToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(NextToken):
    """Inputs (B, N) are texts, labels (B, N) the tokens that follow each of theirs: logits (B, N, K).

    'nll' is the mean over all tokens of a split, in nats, 'bits' the same in bits, and 'perplexity' its exponential.
    With characters as tokens they are nats and bits of a character.
    """

    score: str = 'nll'

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (NLL, BITS, PERPLEXITY, ACCURACY, AGREEMENT, KL)
