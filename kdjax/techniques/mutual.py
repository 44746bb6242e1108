"""Mutual learning: peers that start apart teach each other from the first step."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.techniques.base import Knobs, Paper, Taps, Term
from kdjax.techniques.distributions import divergence, label_loss
from kdjax.types import Array, TermInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class MutualLearning(Term):
    """sum_j [CE_j + 1/(M-1) sum_{k != j} KL(p_k || p_j)] of M peers (eq. 8). Values: (B,).

    A peer is a constant where it teaches. The tap 'peers' of the student has the logits of all, (B, M, K).

    | form       | value                                    | as in                                          |
    |------------|------------------------------------------|------------------------------------------------|
    | paper      | the above                                | the paper, all peers in one step               |
    | divergence | without the CE_j                         | the same, with labels as a term of their own   |
    | first      | the KL of the first peer, others fixed   | Knowledge-Distillation-Zoo, one peer at a time |

    Attributes:
      form: which of the above.
    """

    PAPER: ClassVar[Paper] = Paper('Zhang, Xiang, Hospedales, Lu', 'Deep Mutual Learning', 'CVPR', 2018, '1706.00384')
    FORMS: ClassVar[tuple[str, ...]] = ('paper', 'divergence', 'first')
    TEACHER: ClassVar[bool] = False
    TASKS: ClassVar[tuple[str, ...]] = ('classification',)

    form: str = 'paper'

    @property
    def reads_labels(self) -> bool:
        return self.form == 'paper'

    def taps(self) -> Taps:
        return Taps(student=('peers',))

    def values(self, inputs: TermInputs, knobs: Knobs) -> Array:
        logits_BMK = inputs.student.features['peers']
        if logits_BMK.ndim != 3 or logits_BMK.shape[1] < 2:
            raise UsageError(f"mutual learning needs logits (B, M, K) of 2 peers or more in 'peers', got "
                             f'{logits_BMK.shape}; set peers of the fit to 2 or more')  # fmt: skip
        peers = logits_BMK.shape[1]
        fixed_BMK = jax.lax.stop_gradient(logits_BMK)
        # Where a peer would teach itself, the divergence is 0 and so is its gradient.
        taught_BMM = divergence(fixed_BMK[:, None], logits_BMK[:, :, None])
        values_BM = jnp.sum(taught_BMM, axis=2) / (peers - 1)
        if self.form == 'first':
            return values_BM[:, 0]
        if self.form == 'paper':
            labels_BM = jnp.broadcast_to(inputs.batch['labels'][:, None], values_BM.shape)
            values_BM = values_BM + label_loss(logits_BMK, labels_BM)
        return jnp.sum(values_BM, axis=1)
