"""The words that every other module speaks (shapes: B batch, K classes)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Tree = Any  # a pytree of arrays
# 'inputs', 'labels', 'mask', 'id', 'view'; 'teacher/...' where the teacher is cached, 'teacher_inputs' where it sees
# other views; where examples are mixed, 'labels_mixed' and 'mix' instead of 'labels': two labels each and their shares.
Batch = Mapping[str, Array]


class Column(Protocol):
    """What the examples of a split have, by position: an array, or what is read only when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class Outputs(NamedTuple):
    """What a network shows of itself on a batch."""

    logits: Array  # (B, K) or (B, N, K)
    features: Mapping[str, Array]  # by tap name, leading axis B


class TermInputs(NamedTuple):
    """All that a distillation term may see."""

    student: Outputs
    teacher: Outputs
    batch: Batch


class State(NamedTuple):
    """Everything that a training step changes, and nothing that it does not.

    `params` has the groups 'student' and 'terms' (learned parts of terms, by term name); `stats` are the student's
    batch statistics; `memory` is what terms remember without learning it; `opt` is the optimiser's state.
    """

    step: Array  # () int32
    params: Mapping[str, Tree]
    stats: Tree
    memory: Mapping[str, Tree]
    opt: Tree


class TermOut(NamedTuple):
    """What a term answers: unreduced values, its next memory, and scalars worth logging."""

    values: Array  # (B,) or (B, N)
    memory: Tree
    logs: Mapping[str, Array]


class Apply(Protocol):
    """A network's forward function; `variables` has 'params' and 'stats'."""

    def __call__(self, variables: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]: ...


class Net(NamedTuple):
    """A network: two pure functions and the vocabulary of what may be read from it."""

    init: Callable[[Array, Array], Tree]  # (key, inputs) -> {'params', 'stats'}
    apply: Apply
    taps: tuple[str, ...]


Teacher = Callable[[Tree, Batch], Outputs]
