"""Item-side ranking regularisation: beside the items of a user, the users of an item keep the teacher's order."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from kdjax.techniques.base import Paper
from kdjax.techniques.candidates import RankedCandidates


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemSideRanking(RankedCandidates):
    """The relaxed ranking of DE-RRD, of users for the item of an interaction, beside that of items. Values: (B,).

    -sum_k (s_k - log(sum_{l >= k} exp s_l + sum_u exp s_u)), where s are scores of one item for users: those whom the
    teacher would show it first, in its order, and others. The authors take each item of a batch once (`once`).

    Attributes:
      interesting: the tap of the users whom the teacher ranks first for the item, best first.
      uninteresting: the tap of the others.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Kang, Hwang, Kweon, Yu',
        'Item-side Ranking Regularized Distillation for Recommender System',
        'Information Sciences',
        2021,
    )

    interesting: str = 'interesting_users'
    uninteresting: str = 'uninteresting_users'

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(), cls(once='item')]
