"""What happens number by number becomes part of the operator before it: factors, biases, additions, ReLU."""

import collections
from collections.abc import Sequence

import numpy as np

from kdjax.export.c.kinds import ADD, AFFINE, MAXIMUM, PRODUCT, RELU, Operator


def joined(operators: Sequence[Operator], last: int) -> tuple[np.ndarray, np.ndarray, tuple[Operator, ...], int]:
    """Operators that are products, sums and maxima alone.

    Args:
      operators: as a network has them, in order; tensor 0 is the example.
      last: the tensor that is asked for.

    Returns:
      What the example is multiplied with and what is added to it first, (C,) or (1,); the operators; and the tensor
      that is then asked for.
    """
    return _Join(operators, last).result()


class _Join:
    def __init__(self, operators: Sequence[Operator], last: int) -> None:
        self.done: list[Operator] = []
        self.same: dict[int, int] = {}  # tensor -> the one that it is now
        self.scale, self.offset = np.ones(1), np.zeros(1)
        self.uses = collections.Counter([last])
        for operator in operators:
            self.uses.update([operator.reads, *([] if operator.adds is None else [operator.adds])])
        for operator in operators:
            if self.uses[operator.makes]:
                self._take(self._renamed(operator))
        self.last = self.same.get(last, last)

    def result(self) -> tuple[np.ndarray, np.ndarray, tuple[Operator, ...], int]:
        return self.scale, self.offset, tuple(self.done), self.last

    def _renamed(self, operator: Operator) -> Operator:
        adds = None if operator.adds is None else self.same.get(operator.adds, operator.adds)
        return operator._replace(reads=self.same.get(operator.reads, operator.reads), adds=adds)

    def _take(self, operator: Operator) -> None:
        before = self._before(operator.reads)
        if operator.kind == AFFINE:
            self._affine(operator, before)
        elif operator.kind == RELU:
            if before is None or before.kind == MAXIMUM:
                self._alone(operator, relu=True)
            else:
                self._replace(before, operator, before._replace(relu=True))
        elif operator.kind == ADD:
            self._add(operator)
        else:
            self.done.append(operator)

    def _before(self, tensor: int) -> Operator | None:
        """The operator that makes a tensor, if nothing but the next one reads it and it has no ReLU yet."""
        if self.uses[tensor] > 1:
            return None
        return next((one for one in self.done if one.makes == tensor and not one.relu), None)

    def _affine(self, operator: Operator, before: Operator | None) -> None:
        if operator.reads == 0 and self.uses[0] == 1:
            self.scale, self.offset = operator.kernel * self.scale, operator.kernel * self.offset + operator.bias
            self.same[operator.makes] = 0
            self.uses[0] = self.uses[operator.makes]
        elif before is not None and before.kind != MAXIMUM and before.adds is None:
            new = before._replace(kernel=before.kernel * operator.kernel,
                                  bias=before.bias * operator.kernel + operator.bias)  # fmt: skip
            self._replace(before, operator, new)
        else:
            self._alone(operator)

    def _add(self, operator: Operator) -> None:
        for own, other in ((operator.reads, operator.adds), (operator.adds, operator.reads)):
            assert own is not None
            before = self._before(own)
            if before is not None and before.kind == PRODUCT and before.adds is None:
                self._replace(before, operator, before._replace(adds=other))
                self.done.append(self.done.pop([one.makes for one in self.done].index(before.makes)))  # after the other
                return
        self._alone(operator)

    def _replace(self, before: Operator, operator: Operator, new: Operator) -> None:
        self.done[self.done.index(before)] = new
        self.same[operator.makes] = before.makes
        self.uses[before.makes] = self.uses[operator.makes]

    def _alone(self, operator: Operator, relu: bool = False) -> None:
        """A product of each channel with itself."""
        channels = operator.gives[2]
        kernel = np.broadcast_to(operator.kernel, channels).reshape(1, 1, 1, channels)
        bias = np.broadcast_to(operator.bias, channels)
        self.done.append(operator._replace(kind=PRODUCT, kernel=kernel, bias=bias, groups=channels, relu=relu))
