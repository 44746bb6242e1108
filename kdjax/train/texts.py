"""Who wrote the texts that a step reads: the data, or a network, inside of the step (on-policy distillation).

A text begins as one of the data does, its prompt, and goes on with what is drawn from the student as it is at this
step, from the teacher, or from the mean of both. No gradient comes through, and nothing is dropped while it is written.
It takes the place of the example: networks read it, terms count its tokens after the prompt up to its end, and it has
no labels, so task losses see the examples of the data alone. A batch gets two columns:

  'written' (B, N) int32        the token that was drawn after each, 0 where none was, and in examples of the data
  'teacher_share' (B,) float32  the teacher's share of what tokens were drawn from, 0 in examples of the data

Draws depend on seed, step, example and view, and so neither on the place in a batch nor on devices.

Reference: Agarwal et al., On-Policy Distillation of Language Models, ICLR 2024 (GKD), algorithm 1; Gu et al., MiniLLM,
ICLR 2024, sec. 2.2; Ko et al., DistiLLM, ICML 2024, sec. 3.2.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.data.feed import TEACHER_INPUTS
from kdjax.dataset import UNLABELLED
from kdjax.decoding.base import END, generator_of
from kdjax.decoding.mixed import mixed
from kdjax.decoding.sampling import sample
from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import shared
from kdjax.tasks.base import Task
from kdjax.tasks.next_token import NextToken
from kdjax.techniques.algebra import example_keys
from kdjax.train.objective import Objective
from kdjax.types import Array, Batch, Generator, Net, Outputs, State, TermInputs, Tree

STUDENT, TEACHER, MIXED, REPLAY = KINDS = ('student', 'teacher', 'mixed', 'replay')
EXAMPLES, BATCHES = BY = ('examples', 'batches')
MEMORY = 'texts'  # where a state keeps what was written, beside the memory of its terms
WRITTEN, SHARE = 'written', 'teacher_share'
NOTHING = Outputs(None, {})  # type: ignore[arg-type]
Knobs = Mapping[str, Array]  # 'on_policy' and 'temperature'
_mixed = shared(mixed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """Who writes, and how.

    Knobs are 'on_policy', the share of examples that are not of the data (lambda of GKD; of 'replay' the share that it
    begins with), and 'temperature', what logits are divided by where tokens are drawn.

    Attributes:
      kind: 'student'; 'teacher'; 'mixed', both, token by token (`decoding.mixed`); or 'replay', the student, whose
        texts are kept and read again (`Replay`).
      task: what texts are of.
      writer: the network, or both, that write.
      prompt: tokens that texts begin with as the data do.
      by: whether each example is of the data or not, or each batch as a whole, as in GKD's algorithm 1: then a step
        without such texts does not take the time to write them, unless many cells are one batched program.
      share: the teacher's, of 'mixed'.
    """

    kind: str
    task: NextToken
    writer: Generator
    prompt: int = 1
    by: str = EXAMPLES
    share: float = 0.2

    @property
    def teacher_share(self) -> float:
        """The teacher's share of what tokens are drawn from."""
        return {TEACHER: 1.0, MIXED: self.share}.get(self.kind, 0.0)

    def init(self, knobs: Knobs, batch: Batch) -> Tree:
        """What is remembered before the first step: nothing."""
        del knobs, batch
        return {}

    def __call__(
        self, state: State, teacher: Tree, batch: Batch, knobs: Knobs, *, key: Array, axis: str | None
    ) -> tuple[Batch, Tree]:
        """The batch with texts that were written in the place of some examples, and what is remembered next.

        Args:
          state: whose student writes.
          teacher: variables of the teacher.
          batch: prepared, this device's part, (B, ...).
          knobs: of this.
          key: of the step, the same on all devices.
          axis: name of the device axis; None where the batch is whole.
        """
        del axis
        own = self.drawn(batch, key) < knobs['on_policy']
        return self.placed(batch, own, self.written(state, teacher, batch, knobs, own, key)), {}

    def drawn(self, batch: Batch, key: Array) -> Array:
        """A number from 0 to 1 for each example, or one for all. (B,)"""
        key = jax.random.fold_in(key, 1)
        if self.by == BATCHES:
            return jnp.broadcast_to(jax.random.uniform(key), batch['id'].shape)
        return jax.vmap(jax.random.uniform)(keys(key, batch))

    def written(self, state: State, teacher: Tree, batch: Batch, knobs: Knobs, own: Array, key: Array) -> Array:
        """What follows each token of texts that begin as the examples do, their prompts included. (B, N) int32

        Noughts where no example of `own` (B,) asks for any: then none is written.
        """
        text = self.task.text(batch['inputs'])
        if self.prompt >= text.shape[1]:
            raise UsageError(
                f'prompt of texts must be below the {text.shape[1]} tokens of an example, got {self.prompt}'
            )
        student = {'params': state.params['student'], 'stats': state.stats}
        variables = {TEACHER: teacher, MIXED: (student, teacher)}.get(self.kind, student)

        def write() -> Array:
            limits = self.task.limits(text.shape[1])
            return sample(
                self.writer, variables, self.task.source(batch['inputs']), text[:, : self.prompt], limits,
                keys(jax.random.fold_in(key, 2), batch), temperature=knobs['temperature'],
            ).tokens  # fmt: skip

        return jax.lax.cond(jnp.any(own), write, lambda: jnp.zeros(text.shape, jnp.int32))

    def made_up(self, batch: Batch) -> Batch:
        """The batch as it might be, without a network: every other example was written, just as it is."""
        return self.placed(batch, jnp.arange(len(batch['id'])) % 2 > 0, jnp.maximum(batch['labels'], 0))

    def placed(self, batch: Batch, own: Array, tokens: Array) -> Batch:
        """The batch in which examples `own` (B,) are texts that go on with `tokens` (B, N)."""
        text = self.task.text(batch['inputs'])
        after = jnp.where(tokens == END, 0, tokens) if self.task.limits(1).end == END else tokens
        begun = jnp.concatenate([text[:, :1], after[:, :-1].astype(text.dtype)], axis=1)
        given = jnp.pad(text[:, 1 : self.prompt], [(0, 0), (0, text.shape[1] - self.prompt + 1)])
        return _read(batch, self.task, own, begun, jnp.where(given > 0, 0, tokens), self.teacher_share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay(Texts):
    """Texts of the student that are kept and read again, as it gets better at writing (DistiLLM, sec. 3.2, alg. 1).

    Of an example that draws r: r < phi (1 - t / T) at step t of T, or r < phi while less is kept than there is room
    for: it is written anew, and kept; else r < phi: one that is kept, at random; else it is of the data. What is kept
    is that of the last steps, the same on all devices, and part of the state, so of checkpoints. phi grows by `raised`
    at a validation whose nats of a token are at least `tolerance` above those of the first one, or of the one when it
    last grew (`observed`), as in the authors' code: `loss_eps` 0.1, a step of 0.1, and no texts of the student at
    first.

    Attributes:
      steps: T.
      capacity: texts that are kept, at least a batch.
      raised: what phi grows by.
      tolerance: nats.
    """

    steps: int
    capacity: int = 1000
    raised: float = 0.1
    tolerance: float = 0.1

    def init(self, knobs: Knobs, batch: Batch) -> Tree:
        if batch['id'].shape[0] > self.capacity:
            raise UsageError(f'capacity of texts must be at least a batch, {batch["id"].shape[0]}, got {self.capacity}')
        row = {'inputs': batch['inputs'], WRITTEN: jnp.zeros_like(batch['labels'])}
        return {
            'kept': jax.tree.map(lambda leaf: jnp.zeros((self.capacity, *leaf.shape[1:]), leaf.dtype), row),
            'count': jnp.zeros((), jnp.int32),
            'share': jnp.array(knobs['on_policy'], jnp.float32),  # a copy: states are donated
            'nll': jnp.full((), jnp.inf, jnp.float32),
        }

    def __call__(
        self, state: State, teacher: Tree, batch: Batch, knobs: Knobs, *, key: Array, axis: str | None
    ) -> tuple[Batch, Tree]:
        memory, r = state.memory[MEMORY], self.drawn(batch, key)
        anew = memory['share'] * (1 - state.step / self.steps)
        full = memory['count'] >= self.capacity
        fresh = (r < anew) | ((r < memory['share']) & ~full)
        again = (r < memory['share']) & ~fresh
        batch = self.placed(batch, fresh, self.written(state, teacher, batch, knobs, fresh, key))
        pick = jax.vmap(lambda one: jax.random.randint(one, (), 0, self.capacity))
        rows = pick(keys(jax.random.fold_in(key, 3), batch)) % jnp.maximum(memory['count'], 1)
        kept = jax.tree.map(lambda leaf: leaf[rows], memory['kept'])
        after = _read(batch, self.task, again, self.task.text(kept['inputs']), kept[WRITTEN], 0.0, kept['inputs'])
        new = {'inputs': batch['inputs'], WRITTEN: batch[WRITTEN].astype(kept[WRITTEN].dtype)}
        return after, {**memory, **self._pushed(memory, new, fresh, axis)}

    def _pushed(self, memory: Tree, new: Tree, fresh: Array, axis: str | None) -> Tree:
        """What is kept, with the rows of `new` that are fresh in the place of the oldest."""
        if axis is not None:
            new, fresh = jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, axis, tiled=True), (new, fresh))
        order = memory['count'] + jnp.cumsum(fresh, dtype=jnp.int32) - 1
        place = jnp.where(fresh, order % self.capacity, self.capacity)  # beyond the end, where nothing is put
        kept = jax.tree.map(lambda old, leaf: old.at[place].set(leaf, mode='drop'), memory['kept'], new)
        return {'kept': kept, 'count': memory['count'] + jnp.sum(fresh, dtype=jnp.int32)}

    def observed(self, state: State, nll: Array) -> State:
        """The state of cells after a validation that found `nll` (C,), nats of a token."""
        memory = state.memory[MEMORY]
        first = jnp.isinf(memory['nll'])
        grows = ~first & (nll >= memory['nll'] + self.tolerance)
        share = jnp.where(grows, jnp.minimum(memory['share'] + self.raised, 1), memory['share'])
        seen = {**memory, 'share': share, 'nll': jnp.where(first | grows, nll, memory['nll']).astype(jnp.float32)}
        return state._replace(memory={**state.memory, MEMORY: seen})


def build(spec: Mapping[str, Any], task: Task, student: Net, teacher: Net | None, steps: int) -> Texts:
    """Who writes the texts of a fit, as a config says it.

    Args:
      spec: 'kind' and attributes of `Texts` and `Replay`.
      task: of the fit.
      student: the network that is trained.
      teacher: the network that teaches; None where there is none.
      steps: of the fit.

    Raises:
      UsageError: a task of which nothing is written, networks that do not write, or what a kind does not have.
    """
    fields = dict(spec)
    kind = fields.pop('kind')
    if not isinstance(task, NextToken):
        raise UsageError('texts are written where the next token is foreseen, by language_model.LanguageModel or '
                         f'translation.Translation, and this is {type(task).__name__}: set texts={{}}')  # fmt: skip
    if teacher is None:
        raise UsageError(f'texts of kind {kind!r} are judged by a teacher, and no term of the fit reads one: give it '
                         'one that does, or set texts={}')  # fmt: skip
    cls = Replay if kind == REPLAY else Texts
    allowed = {field.name for field in dataclasses.fields(cls)} - {'kind', 'task', 'writer', 'steps'}
    allowed -= set() if kind == MIXED else {'share'}
    for name in fields:
        if name not in allowed:
            raise unknown('field', name, sorted(allowed), f' of texts of kind {kind!r}')
    if kind == MIXED and not 0 < fields.get('share', Texts.share) < 1:
        raise UsageError(f'share of texts must be in (0, 1), got {fields["share"]}; 0 and 1 are the kinds '
                         f'{STUDENT!r} and {TEACHER!r}')  # fmt: skip
    more: dict[str, Any] = {'steps': steps} if kind == REPLAY else {}
    return cls(kind=kind, task=task, writer=_writer(kind, student, teacher, fields), **fields, **more)


def check_batches(spec: Mapping[str, Any], cached: str, widths: Sequence[int]) -> None:
    """Raises UsageError where texts cannot take the place of examples.

    Args:
      spec: as for `build`.
      cached: name of a teacher whose answers are looked up; '' where one is asked.
      widths: of buckets.
    """
    if cached:
        raise UsageError(f'texts of kind {spec["kind"]!r} are new in every step, so what {cached!r} says of them '
                         f"cannot be looked up: set {cached}.mode='online'")  # fmt: skip
    if spec['kind'] == REPLAY and widths:
        raise UsageError(f"texts of kind 'replay' are kept at one width: set data.buckets=(), got {tuple(widths)}")


def check_terms(objective: Objective, texts: Texts, shares: Sequence[float], temperatures: Sequence[float]) -> None:
    """Raises UsageError where a term would learn nothing, or something wrong, from texts that are so written.

    Args:
      objective: of the fit.
      texts: who writes.
      shares, temperatures: all that are tried.
    """
    for name, term in objective.terms:
        if term.reads_labels and texts.kind != REPLAY and max(shares) == 1:
            raise UsageError(f'term {name!r} reads labels, and with on_policy=1 no example has any: lower on_policy, '
                             'or take the term out')  # fmt: skip
        if term.WRITTEN and texts.kind == REPLAY:
            raise UsageError(f"term {name!r} weighs tokens by how likely they were to be drawn, which texts of kind "
                             "'replay' do not know: use 'student', 'mixed' or 'teacher'")  # fmt: skip
        if term.WRITTEN and set(temperatures) != {1.0}:
            raise UsageError(f'term {name!r} weighs tokens by how likely they were to be drawn at temperature 1: set '
                             f'sampling_temperature=1, got {tuple(temperatures)}')  # fmt: skip


def _writer(kind: str, student: Net, teacher: Net, fields: Mapping[str, Any]) -> Generator:
    if kind == TEACHER:
        return generator_of(teacher)
    if kind == MIXED:
        return _mixed(generator_of(student), generator_of(teacher), fields.get('share', Texts.share))
    return generator_of(student)


def keys(key: Array, batch: Batch) -> Array:
    """A random key for each example. (B,)"""
    return example_keys(key, TermInputs(NOTHING, NOTHING, batch))


def key_of(step_key: Array) -> Array:
    """The key that texts of a step are drawn with, apart from those of its networks and terms."""
    return jax.random.fold_in(step_key, zlib.crc32(MEMORY.encode()))


def _read(
    batch: Batch, task: NextToken, own: Array, text: Array, written: Array, share: float, inputs: Tree = None
) -> Batch:
    """The batch in which examples `own` (B,) are `text` (B, N), after whose tokens `written` (B, N) were drawn."""
    if TEACHER_INPUTS in batch:
        raise UsageError('the teacher reads inputs of its own, and what the student writes has none: set texts={}, '
                         "teacher.inputs='inputs' and data.consistent=True")  # fmt: skip
    here = own[:, None]
    inputs = task.retold(batch['inputs'], text) if inputs is None else inputs
    real = jnp.max(batch['mask'], axis=1, keepdims=True)
    counted = (written > 0) & (text > 0)
    nothing = jnp.zeros(written.shape, jnp.int32)
    return {
        **batch,
        'inputs': jax.tree.map(lambda old, new: jnp.where(_like(own, old), new, old), batch['inputs'], inputs),
        'labels': jnp.where(here, jnp.asarray(UNLABELLED, batch['labels'].dtype), batch['labels']),
        'mask': jnp.where(here, real * counted.astype(real.dtype), batch['mask']),
        'token_mask': jnp.where(here, (text > 0).astype(batch['token_mask'].dtype), batch['token_mask']),
        WRITTEN: jnp.where(here, jnp.where(counted, written, 0).astype(jnp.int32), batch.get(WRITTEN, nothing)),
        SHARE: jnp.where(own, share, batch.get(SHARE, jnp.zeros(own.shape, jnp.float32))),
    }


def _like(own: Array, leaf: Array) -> Array:
    return own.reshape(-1, *[1] * (leaf.ndim - 1))
