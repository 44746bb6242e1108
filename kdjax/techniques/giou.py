"""Generalized IoU: a loss of boxes that has a gradient where they do not overlap."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from kdjax.boxes import giou
from kdjax.techniques.anchors import BoxTerm
from kdjax.techniques.base import Paper
from kdjax.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralizedIoU(BoxTerm):
    """1 - GIoU of student's and true boxes (algorithm 1), over positive anchors. Values: (B,), sums."""

    PAPER: ClassVar[Paper] = Paper(
        'Rezatofighi, Tsoi, Gwak, Sadeghian, Reid, Savarese',
        'Generalized Intersection over Union: A Metric and A Loss for Bounding Box Regression',
        'CVPR',
        2019,
        '1902.09630',
    )

    def likeness(self, student: Array, true: Array) -> Array:
        return giou(student, true)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(logits='anchor_logits'), cls(weighted=False)]
