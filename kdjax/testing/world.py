"""A tiny synthetic world in which every technique must obey the laws: what `Term.specimens` says that it has."""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from kdjax.errors import UsageError
from kdjax.resolve import modules, public, resolve
from kdjax.techniques.base import Term, is_technique
from kdjax.train.objective import Objective, term_key
from kdjax.types import Array, Outputs, TermInputs, TermOut, Tree

CLASSES = 10
TOKENS = 5
ANCHORS = 3
Shapes = Mapping[str, tuple[int, ...]]
SAME: Shapes = {
    'match': (24,),
    'map': (4, 4, 6),
    'attention1': (2, TOKENS, TOKENS),
    'attention2': (2, TOKENS, TOKENS),
    'strong': (CLASSES,),
    'rotated': (4, CLASSES),
    'tangents': (3, CLASSES),
    'jacobian': (CLASSES, 4, 4, 1),
    'edges': (ANCHORS, 4, 6),
}


def wide(channels: int, width: int) -> Shapes:
    """Taps of a network whose maps have `channels`, then twice as many, and whose tokens have `width`."""
    maps: Shapes = {'stage1': (4, 4, channels), 'stage2': (2, 2, 2 * channels), 'penult': (2 * channels,)}
    tokens = dict.fromkeys(('embedding', 'hidden1', 'hidden2', 'query', 'key', 'value'), (TOKENS, width))
    return {**maps, **tokens, 'rotated_penult': (4, width), **SAME}


STUDENT: Shapes = {**wide(8, 8), 'peers': (3, CLASSES)}
MEMBERS: Shapes = {f'member{k}/{tap}': (n,) for k in (0, 1) for tap, n in (('logits', 10), ('penult', 24))}
TEACHER: Shapes = {**wide(12, 12), **MEMBERS}
# Scores of a tagger that is a conditional random field.
SCORES: Shapes = {'emissions': (TOKENS, CLASSES), 'transitions': (CLASSES + 2, CLASSES)}
# Of a recommender: scores of items, and of users, that it is asked about; embeddings, of which the teacher's are wider.
GROUPS: Mapping[str, int] = {'positive': 1, 'negative': 2, 'first': 4, 'interesting': 4, 'uninteresting': 5,
          'interesting_users': 3, 'uninteresting_users': 4}  # fmt: skip


def recommender(width: int) -> Shapes:
    """Taps of a recommender whose embeddings have that width."""
    groups: Shapes = {name: (size,) for name, size in GROUPS.items()}
    return {**groups, 'user_vector': (width,), 'item_vectors': (2, width)}


# Uneven: over 4 devices the third has nothing real, over 2 the halves have 3 and 2.
MASK = (1, 1, 1, 0, 0, 0, 1, 1)
KEY = jax.random.key(1)


def inputs(seed: int, batch: int = 6, mask: Sequence[int] | None = None) -> TermInputs:
    """Random outputs of a student and a teacher on `batch` examples, of which `mask` are real (default: all)."""
    return jax.tree.map(jnp.asarray, drawn(seed, batch, mask))


def drawn(seed: int, batch: int = 6, mask: Sequence[int] | None = None) -> TermInputs:
    """The same in numpy: what laws do to inputs outside of compiled programs would take JAX seconds to compile."""
    rng = np.random.default_rng(seed)
    examples = {
        'inputs': np.zeros((batch, 2), np.float32),
        'labels': rng.integers(0, CLASSES, batch, np.int32),
        'mask': np.asarray(mask or [1] * batch, np.float32),
        'id': np.arange(100, 100 + batch, dtype=np.int32),
        'view': np.zeros(batch, np.int32),
        'token_mask': (np.arange(TOKENS) < rng.integers(2, TOKENS + 1, (batch, 1))).astype(np.float32),
        'boxes': np.sort(rng.uniform(size=(batch, 2, 2, 2)), axis=2).reshape(batch, 2, 4).astype(np.float32),
    }
    student, teacher = outputs(rng, STUDENT, batch), outputs(rng, TEACHER, batch)
    log_probs = np.log(rng.dirichlet(np.ones(CLASSES), batch)).astype(np.float32)
    ids = np.argsort(-log_probs, axis=1)[:, :4].astype(np.int32)
    top: Any = {'top_ids': ids, 'top_log_probs': np.take_along_axis(log_probs, ids, axis=1)}
    teacher = teacher._replace(features={**teacher.features, **top})
    own = np.random.default_rng([seed, 1])  # what came later leaves the other draws as they were
    tags = own.integers(0, CLASSES, (batch, TOKENS), np.int32)
    student, teacher = added(own, SCORES, student, teacher)
    own = np.random.default_rng([seed, 2])
    asked = {name: own.integers(0, 4, (batch, *shape), np.int32)
             for name, shape in (('user', ()), ('item', ()), ('items', (2,)))}  # fmt: skip
    (student,), (teacher,) = added(own, recommender(8), student), added(own, recommender(12), teacher)
    own = np.random.default_rng([seed, 3])
    student, teacher = added(own, {'frame_logits': (TOKENS, CLASSES)}, student, teacher)
    strings = np.stack([own.permutation(CLASSES - 1)[:2] for _ in range(batch)]).astype(np.int32)
    said = {'transcripts': strings, 'transcript_length': own.integers(1, 3, batch, np.int32)}
    own = np.random.default_rng([seed, 4])
    student, teacher = added(own, {'anchor_logits': (ANCHORS, CLASSES)}, student, teacher)
    found = anchors(own, batch)
    student, teacher = added(own, {'centre_sizes': (ANCHORS, 2)}, student, teacher)
    found |= {'written': strings[:, 0] + 1, 'teacher_share': np.full(batch, 0.2, np.float32)}
    return TermInputs(student, teacher, {**examples, 'tags': tags, **asked, **said, **found})


def anchors(rng: np.random.Generator, batch: int) -> dict[str, Any]:
    """What a detector's anchors should find, or have the centre of: one of three is background."""
    classes = np.where(np.arange(ANCHORS) == 1, -1, rng.integers(0, CLASSES, (batch, ANCHORS))).astype(np.int32)
    return {
        'anchor_class': classes,
        'anchor_edges': rng.uniform(0.3, 4, (batch, ANCHORS, 4)).astype(np.float32),
        'anchor_valuable': rng.uniform(0, 2, (batch, ANCHORS)).astype(np.float32),
        'centre_class': classes,
        'centre_heat': np.maximum(np.eye(CLASSES)[classes] * (classes[..., None] >= 0), 0.5).astype(np.float32),
        'centre_size': rng.uniform(0.5, 4, (batch, ANCHORS, 2)).astype(np.float32),
    }


def added(rng: np.random.Generator, shapes: Shapes, *sides: Outputs) -> list[Outputs]:
    """The outputs of both sides with further random taps of these shapes."""
    return [side._replace(features={**side.features, **outputs(rng, shapes, len(side.logits)).features})
            for side in sides]  # fmt: skip


def outputs(rng: np.random.Generator, shapes: Shapes, batch: int) -> Outputs:
    """Random logits, and a random feature per tap."""
    features: Any = {tap: rng.normal(size=(batch, *shape)).astype(np.float32) for tap, shape in shapes.items()}
    logits: Any = rng.normal(0, 2, (batch, CLASSES)).astype(np.float32)
    return Outputs(logits, features)


def cast(tree: Any, dtype: Any) -> Any:
    """`tree` with its floating leaves in `dtype`."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype), tree
    )


CHOSEN: dict[str, type[Term]] = {}  # where only some are asked for


def choose(names: Sequence[str]) -> None:
    """From now on only the terms of these names, such as 'my_package.terms:MyTerm', are asked for; () for all.

    Raises:
      UsageError: there is no such term.
    """
    CHOSEN.clear()
    for name in names:
        found = resolve('kdjax.techniques', name, 'term')
        if not is_technique(found):
            raise UsageError(f'{name!r} must be the class of a term, with its PAPER, got {found!r}')
        CHOSEN[name] = found
    specimens.cache_clear()


def techniques() -> dict[str, type[Term]]:
    """Every term class by name, found by walking kdjax.techniques, unless some were chosen."""
    return dict(CHOSEN) or {
        f'{module}.{name}': found
        for module in modules('kdjax.techniques')
        for name, found in public(f'kdjax.techniques.{module}').items()
        if is_technique(found)
    }


@functools.cache
def specimens() -> dict[str, Term]:
    """Every specimen by name, such as 'fitnets.Hint-paper-stage2'."""
    return {f'{name}{described(term)}': term for name, kind in techniques().items() for term in kind.specimens()}


def kind(specimen: str) -> str:
    """The technique that a specimen is of, by the specimen's name."""
    return specimen.partition('-')[0]


def described(term: Term) -> str:
    """What sets a specimen apart: its form, layers, and everything that is not the default."""
    words = []
    for field in sorted(dataclasses.fields(term), key=lambda field: field.name != 'form'):
        value = getattr(term, field.name)
        if field.name in ('form', 'layer', 'layers'):
            words.append('+'.join(value) if isinstance(value, tuple) else value)
        elif value != field.default:
            words.append(f'{field.name}={value}')
    return ''.join(f'-{word}' for word in words)


class Subject(NamedTuple):
    """An objective and all that it is asked with."""

    objective: Objective
    params: Any
    memory: Any
    inputs: TermInputs
    knobs: Any

    @property
    def name(self) -> str:
        return self.objective.terms[0][0]

    @property
    def term(self) -> Term:
        return self.objective.terms[0][1]

    def turned(self, **knobs: float) -> Self:
        """With other values of some knobs of the (only) term."""
        turned = {knob: jnp.float32(value) for knob, value in knobs.items()}
        return self._replace(knobs={self.name: {**self.knobs[self.name], **turned}})


def placed(terms: Mapping[str, Term], seen: TermInputs) -> Subject:
    """Terms by name, freshly initialised to read `seen`."""
    objective = Objective(tuple(terms.items()))
    knobs = jax.tree.map(jnp.float32, objective.knobs())
    # Operation by operation: other terms draw their parameters with the same ones.
    return Subject(objective, *objective.init(KEY, jax.tree.map(jnp.asarray, seen)), seen, knobs)


@functools.cache
def padded() -> TermInputs:
    """What the laws give to terms."""
    return drawn(0, len(MASK), MASK)


@functools.cache
def other_classes(count: int) -> TermInputs:
    """The same, of a teacher that tells so many classes apart."""
    seen = padded()
    axes = {'strong': 1, 'rotated': 2, 'tangents': 2, 'jacobian': 1, 'member0/logits': 1, 'member1/logits': 1,
            'emissions': 2, 'transitions': 2, 'frame_logits': 2, 'anchor_logits': 2}  # fmt: skip
    features: Any = {
        tap: np.take(leaf, np.arange(count) % leaf.shape[axes[tap]], axes[tap]) if tap in axes else leaf
        for tap, leaf in seen.teacher.features.items()
    }
    moves = features['transitions']
    features['transitions'] = np.take(moves, np.arange(count + 2) % moves.shape[1], 1)
    logits: Any = np.take(seen.teacher.logits, np.arange(count) % CLASSES, 1)
    return seen._replace(teacher=seen.teacher._replace(logits=logits, features=features))


@functools.cache
def subject(name: str) -> Subject:
    """The specimen called `name`, alone."""
    return placed({name: specimens()[name]}, padded())


class Answer(NamedTuple):
    """What an objective says of its inputs; gradients are of the loss, values by term and unreduced."""

    loss: Any
    memory: Any
    params: Any  # gradient
    student: Any  # gradient
    values: Any


TRACES: collections.Counter = collections.Counter()


def ask(
    objective: Objective, params: Tree, memory: Tree, inputs: TermInputs, knobs: Tree, axis: str | None = None
) -> Answer:
    """The objective's answer, on this device's part of the batch where `axis` is given."""
    TRACES[objective] += 1
    objective, heard = overheard(objective)

    def loss(params: Tree, student: Outputs) -> tuple[Array, tuple[Tree, Tree]]:
        seen = inputs._replace(student=student)
        shares = objective.shares(params, memory, seen, knobs, step=jnp.int32(0), key=KEY, axis=axis)
        return shares.loss, (shares.memory, dict(heard))

    (total, (after, values)), (own, student) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, inputs.student)
    if axis is not None:
        total, own = jax.lax.psum((total, own), axis)
        values = {}
    return Answer(total, after, own, student, values)


def overheard(objective: Objective) -> tuple[Objective, dict[str, Array]]:
    """The objective, and the values by term, which are there once it has been asked for its shares."""
    heard: dict[str, Array] = {}
    overheard: Any = tuple((name, Overheard(name, term, heard)) for name, term in objective.terms)
    return Objective(overheard), heard


class Overheard:
    """A term that writes down its values when it is asked for its loss: asking again would take as long to trace."""

    def __init__(self, name: str, term: Term, heard: dict[str, Array]) -> None:
        self.name, self.term, self.heard = name, term, heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.term, name)

    def __call__(self, *args: Any, **kwargs: Any) -> TermOut:
        out = self.term(*args, **kwargs)
        self.heard[self.name] = out.values
        return out


def values(objective: Objective, params: Tree, memory: Tree, inputs: TermInputs, knobs: Tree) -> dict[str, Array]:
    """Unreduced values by term."""
    return {
        name: term(params[name], memory[name], inputs, knobs[name], step=jnp.int32(0), key=term_key(KEY, name)).values
        for name, term in objective.terms
    }


compiled = jax.jit(ask, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 5))
def spread(objective: Objective, params: Tree, memory: Tree, inputs: TermInputs, knobs: Tree, devices: int) -> Answer:
    """The answer, without values, where the examples lie on several devices, or on one that stands for them all."""
    if len(jax.devices()) < devices:
        cut = jax.tree.map(lambda leaf: jnp.reshape(leaf, (devices, -1, *leaf.shape[1:])), inputs)
        each = jax.vmap(lambda part: ask(objective, params, memory, part, knobs, axis='data'), axis_name='data')(cut)
        student = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), each.student)
        return jax.tree.map(lambda leaf: leaf[0], each)._replace(student=student)
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ('data',))
    part = jax.shard_map(
        functools.partial(ask, objective, axis='data'),
        mesh=mesh,
        in_specs=(P(), P(), P('data'), P()),
        out_specs=Answer(P(), P(), P(), P('data'), P()),
        check_vma=False,
    )
    return part(params, memory, inputs, knobs)


def size(tree: Any) -> float:
    """Largest magnitude of any entry of `tree`; nan where one is nan."""
    return float(np.max([np.max(np.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)], initial=0))


def assert_close(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance` of the largest entry of `want`: single entries may cancel."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (got, want)]
    assert structures[0] == structures[1], f'{structures[0]} is not {structures[1]}'
    gap = size(jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b, np.float64), got, want))
    assert gap <= tolerance * max(size(want), 1e-6), f'differ by {gap:.3g} where the largest entry is {size(want):.3g}'


def assert_same_answer(got: Answer, want: Answer) -> None:
    """Each part by its own size; values, of which padding may have any, apart."""
    for part in ('loss', 'memory', 'params', 'student'):
        assert_close(getattr(got, part), getattr(want, part))
