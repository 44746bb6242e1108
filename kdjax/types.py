"""The words that every other module speaks (shapes: B batch, K classes)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Tree = Any  # a pytree of arrays
# 'inputs' (an array, or a tree of them), 'labels', 'mask', 'id', 'view', and whatever other columns the data have;
# 'teacher/...' where the teacher is cached, 'teacher_inputs' where it sees something else; where examples are mixed,
# 'labels_mixed' and 'mix' instead of 'labels': two labels each and their shares. What a task prepares comes with it:
# 'mask' is per token where the task is, 'token_mask' says which tokens of an example's features are real.
Batch = Mapping[str, Tree]


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
    # Of taps, and of 'logits', that have padding of their own: one mask for each of their axes of tokens, in order:
    # (mask (B, N),) of states (B, N, D), (mask (B, N), mask (B, M)) of attention (B, heads, N, M).
    masks: Mapping[str, tuple[Array, ...]] = {}


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
    """A network's forward function; `variables` has 'params' and 'stats', `key` is the same on all devices."""

    def __call__(self, variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]: ...


class Names(NamedTuple):
    """How files of published weights call the variables of a network; see `nets.torch_weights`."""

    published: Callable[[str], str]  # what files call the leaf at a path such as 'params/head/kernel'
    plain: Callable[[str], str]  # a name in a file, as `published` gives it
    spare: tuple[str, ...] = ()  # beginnings of plain names that need no place here
    fresh: tuple[str, ...] = ()  # beginnings of paths that a network which starts from a file may have beyond it


class Cache(NamedTuple):
    """What a generator keeps of what it has read and written."""

    own: Tree  # of every text, leading axis B; where a text goes on from another it is that one's
    rest: Tree  # all else, which stays where it is: of sources, and of what all texts of one have written


class Generator(NamedTuple):
    """How a network writes: a token at a time, reading what it has written and, where it translates, a source.

    `start(variables, source, length, width=1)` -> cache, for texts of at most `length` tokens: `width` of each row of
    `source`, one after the other, which a language model does not read. `extend(variables, cache, token, t)` ->
    (logits (B, K) float32, cache): what follows `token` (B,), which is number t, from 0 on, of every text. Neither is
    for training.
    """

    start: Callable[..., Cache]
    extend: Callable[[Tree, Cache, Array, Array | int], tuple[Array, Cache]]


class Net(NamedTuple):
    """A network: two pure functions and the vocabulary of what may be read from it."""

    init: Callable[[Array, Tree], Tree]  # (key, inputs) -> {'params', 'stats'}
    apply: Apply
    taps: tuple[str, ...]
    names: Names | None = None  # of published weights, where they are not its own with '.' for '_' and '/'
    generator: Generator | None = None  # of a network that writes
    # Pairs of its taps and of its teacher's in whose place it reads the latter while it trains, under 'fed' beside
    # 'params' and 'stats'; None of a network that cannot
    fed: tuple[tuple[str, str], ...] | None = None


Teacher = Callable[[Tree, Batch], Outputs]
