"""Language modelling: what follows each token of a text; what decides is how many nats that costs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Split
from kdjax.decoding.base import ENDLESS, PADDING, UNKNOWN, Limits
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks.next_token import ACCURACY, AGREEMENT, BITS, KL, NLL, PERPLEXITY, NextToken
from kdjax.tasks.own_text import OWN, judge
from kdjax.types import Array, Net, Tree

ACCEPTANCE = Metric('acceptance', 'tokens of a drafter that the teacher accepts', '%', short='drafts')


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(NextToken):
    """Inputs (B, N) are texts, labels (B, N) the tokens that follow each of theirs: logits (B, N, K).

    'nll' is the mean over all tokens of a split, in nats, 'bits' the same in bits, and 'perplexity' its exponential.
    With characters as tokens they are nats and bits of a character. Where the network is held against a teacher,
    'acceptance' is the mean of 1 - TVD of both after the texts of the split: the tokens of a drafter that speculative
    decoding accepts (Leviathan et al., ICML 2023). With `own` texts the network also writes by itself, in the end, and
    is judged by its teacher as `own_text.judge` says; a network without a generator is not.

    Attributes:
      own: texts that it writes, which begin as those of the split; 0 for none.
      prompt: tokens of each that are given.
      end: the id that ends a text; -1 where none does.
    """

    own: int = 0
    prompt: int = 16
    end: int = ENDLESS
    score: str = 'nll'

    def __post_init__(self) -> None:
        if self.own < 0 or self.prompt < 1 or self.end < ENDLESS:
            raise UsageError(f'LanguageModel needs own >= 0, prompt >= 1 and end >= {ENDLESS}, got {self.own}, '
                             f'{self.prompt} and {self.end}')  # fmt: skip
        super().__post_init__()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        own = OWN if self.own else ()
        return (NLL, BITS, *own, KL, ACCEPTANCE, PERPLEXITY, ACCURACY, AGREEMENT)

    def limits(self, length: int) -> Limits:
        return Limits(length, self.end, (PADDING, UNKNOWN))

    def own_texts(
        self, student: Net, teacher: Net, split: Split
    ) -> Callable[[Tree, Tree], Mapping[str, np.ndarray]] | None:
        return judge(self, student, teacher, split, self.own, self.prompt) if self.own and student.generator else None

    def _likeness(self, logs: Array, teacher_logits: Array, mask: Array) -> dict[str, Any]:
        found = super()._likeness(logs, teacher_logits, mask)
        if not found:
            return {}
        teacher = jax.nn.softmax(teacher_logits.astype(jnp.float32), axis=-1)
        return {**found, 'acceptance': mean(jnp.sum(jnp.minimum(jnp.exp(logs), teacher), axis=-1), mask)}
