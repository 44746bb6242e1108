"""Distance-IoU and complete IoU: losses of boxes that see how far apart centres are, and how sides are shaped."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from kdjax.boxes import ciou, diou
from kdjax.techniques.anchors import BoxTerm
from kdjax.techniques.base import Paper
from kdjax.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceIoU(BoxTerm):
    """1 - DIoU (eq. 7) or 1 - CIoU (eqs. 8 to 11) of boxes, over positive anchors. Values: (B,), sums.

    Attributes:
      form: 'diou' or 'ciou', the two losses of the paper.
    """

    PAPER: ClassVar[Paper] = Paper(
        'Zheng, Wang, Liu, Li, Ye, Ren',
        'Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression',
        'AAAI',
        2020,
        '1911.08287',
    )
    FORMS: ClassVar[tuple[str, ...]] = ('diou', 'ciou')

    form: str = 'diou'

    def likeness(self, student: Array, true: Array) -> Array:
        return {'diou': diou, 'ciou': ciou}[self.form](student, true)

    @classmethod
    def specimens(cls) -> Sequence[Self]:
        return [cls(form=form, logits='anchor_logits') for form in cls.FORMS]
