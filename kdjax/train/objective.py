"""The objective: a sum of terms. The one place that masks, averages, weighs and gathers.

Each device returns its share of the loss; the shares sum to the loss of the global batch. With `axis` the device axis:

  example scope:  share = sum(values * mask) / psum(sum(divisor))
  batch scope:    share = sum(values * mask) / sum(divisor) / axis_size    on the inputs gathered from all devices
  loss share    = sum_i weight_i * share_i

The divisor is the mask, and a share one of a mean, of all terms but those that count something else than examples.
"""

import contextlib
import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.techniques.base import Term
from kdjax.types import Array, Batch, Outputs, TermInputs, Tree

LABELS = ('labels', 'labels_mixed')  # columns that only terms see that say so
MEANING = {
    'id': 'the ids of the examples, int32 (B,), from 0 on where a term remembers each',
    'view': 'the numbers of their augmented views, int32 (B,), 0 where each has one',
    'written': 'the tokens that are written in a step, int32 (B, N), of a fit whose `texts` are',
    'teacher_share': "the teacher's share of what they are drawn from, float32 (B,), of such a fit",
    'mask': '1 for real examples and 0 for padding, float32 (B,) or, of tokens, (B, N)',
}


class Shares(NamedTuple):
    """This device's share of the loss, its parts by term (weighted, unweighted), the next memory, logs of terms."""

    loss: Array
    weighted: Mapping[str, Array]
    parts: Mapping[str, Array]
    memory: Mapping[str, Tree]
    logs: Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A named sum of terms, hashable, without numbers: those are in `knobs()`."""

    terms: tuple[tuple[str, Term], ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise UsageError('an objective needs at least one term')

    def knobs(self) -> dict[str, dict[str, float]]:
        """Knobs by term name."""
        return {name: term.knobs() for name, term in self.terms}

    def init(self, key: Array, inputs: TermInputs) -> tuple[dict[str, Tree], dict[str, Tree]]:
        """Learned parameters and memory of every term, by name.

        Raises:
          UsageError: a tap that a network does not have, a teacher of other classes, labels that the data do not have,
            shapes that do not fit, or an example-scope term with memory (each device would remember only its own
            examples).
        """
        params, memory = {}, {}
        for name, term in self.terms:
            check_taps(name, term, inputs)
            check_classes(name, term, inputs)
            seen = inputs._replace(batch=shown(name, term, inputs.batch))
            with named_errors(name, term):
                params[name], memory[name] = term.init(term_key(key, name), seen)
            if jax.tree.leaves(memory[name]) and term.scope != 'batch':
                raise UsageError(f"term {name!r} keeps memory, so its scope must be 'batch', not {term.scope!r}")
        return params, memory

    def adopt(self, params: Mapping[str, Tree], earlier: Mapping[str, Tree], teacher: Tree) -> dict[str, Tree]:
        """What terms take over from an earlier fit or from the teacher, in the place of what `init` made.

        Raises:
          UsageError: what a term cannot do without is not there.
        """
        adopted = {}
        for name, term in self.terms:
            with named_errors(name, term):
                adopted[name] = term.adopt(params[name], earlier, teacher)
        return adopted

    def shares(
        self,
        params: Mapping[str, Tree],
        memory: Mapping[str, Tree],
        inputs: TermInputs,
        knobs: Mapping[str, Mapping[str, Array]],
        *,
        step: Array,
        key: Array,
        axis: str | None = None,
        device_batch: Batch | None = None,
    ) -> Shares:
        """This device's share of the loss.

        Args:
          params, memory: of the terms, by name.
          inputs: student and teacher outputs on this device's part of the batch.
          knobs: values of the knobs, by term name.
          step: global step, () int32.
          key: random key of the step, the same on all devices.
          axis: name of the device axis; None where the batch is whole.
          device_batch: this device's batch where `inputs` are only a part of it (gradient accumulation): its examples
            are averaged over.
        """
        whole = gathered(inputs, axis) if any(term.scope == 'batch' for _, term in self.terms) else inputs
        size = 1 if axis is None else jax.lax.axis_size(axis)
        knobs = {name: term.scheduled(knobs[name], step) for name, term in self.terms}
        parts, next_memory, logs = {}, {}, {}
        for name, term in self.terms:
            seen = whole if term.scope == 'batch' else inputs
            seen = seen._replace(batch=shown(name, term, seen.batch))
            with named_errors(name, term):
                out = term(params[name], memory[name], seen, knobs[name], step=step, key=term_key(key, name))
            mask = seen.batch['mask']
            if term.scope == 'batch':
                parts[name] = _mean(out.values, mask, term.divisor(seen.batch), None) / size
            else:
                over = seen.batch if device_batch is None else shown(name, term, device_batch)
                parts[name] = _mean(out.values, mask, term.divisor(over), axis)
            next_memory[name] = out.memory
            # Terms see the same logs on every device (batch scope) or their own part (example scope): share both.
            logs.update({f'{name}/{what}': value / size for what, value in out.logs.items()})
        weighted = {name: _wide(knobs[name]['weight'], part) * part for name, part in parts.items()}
        summands = list(weighted.values())
        return Shares(sum(summands[1:], summands[0]), weighted, parts, next_memory, logs)


class MissingColumn(KeyError):
    """A term reads a column that the batch does not have."""


class _Columns(dict[str, Tree]):
    """The columns of a batch; what is not there is missed in a way that can be told from other missing keys."""

    def __missing__(self, column: str) -> Any:
        raise MissingColumn(column)


jax.tree_util.register_pytree_with_keys(
    _Columns,
    lambda columns: (
        [(jax.tree_util.DictKey(name), columns[name]) for name in sorted(columns)],
        tuple(sorted(columns)),
    ),
    lambda names, leaves: _Columns(zip(names, leaves, strict=True)),
)


def shown(name: str, term: Term, batch: Batch) -> Batch:
    """The batch as a term sees it: without labels, or, if it reads them, without what has none.

    There 'mask' is 0 where a label is not known, and has the axes of the labels if those are more; labels that are not
    known are 0. Of mixed examples both labels that have a share must be known.

    Raises:
      UsageError: the term reads labels, and there are none.
    """
    if not term.reads_labels:
        return _Columns({name: leaf for name, leaf in batch.items() if name not in LABELS})
    column = next((name for name in LABELS if name in batch), None)
    if column is None:
        raise UsageError(f'term {name!r} reads labels, and the data have none')
    labels = batch[column]
    known = term.known(labels)
    safe = jnp.where(_aligned(known, labels.ndim), labels, 0)
    if 'mix' in batch:
        known = jnp.all(known | (batch['mix'] == 0), axis=-1)
    mask = batch['mask']
    axes = max(mask.ndim, known.ndim)
    mask = _aligned(mask, axes) * _aligned(known, axes).astype(mask.dtype)
    return _Columns({**batch, column: safe, 'mask': mask})


def _aligned(x: Array, axes: int) -> Array:
    """`x` (B, ...) with axes of size 1 behind, to have as many as `axes`."""
    return x.reshape(x.shape + (1,) * (axes - x.ndim))


@contextlib.contextmanager
def named_errors(name: str, term: Term) -> Iterator[None]:
    """Errors of a term say which it is, and columns that it misses are errors."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f'term {name!r}: {error}') from error
    except KeyError as error:
        column = error.args[0] if error.args else None
        if isinstance(error, MissingColumn) and column not in LABELS:
            said = MEANING.get(str(column), 'which is a column of its own')
            raise UsageError(f'term {name!r} reads batch[{column!r}], {said}, and it is not given') from error
        if column not in LABELS:
            raise
        if term.reads_labels:
            raise UsageError(f'term {name!r} reads labels, and mixed examples have two; of terms, only task losses '
                             'know what to do with them') from error  # fmt: skip
        raise UsageError(f'term {name!r} reads labels and does not say so: set LABELS of {type(term).__name__} to '
                         'True') from error  # fmt: skip


def term_key(key: Array, name: str) -> Array:
    """The random key of a term: by its name, so that adding a term leaves the others' draws alone."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def gathered(inputs: TermInputs, axis: str | None) -> TermInputs:
    """The inputs of the whole batch; gradients flow back to the device that an example lies on."""
    if axis is None:
        return inputs
    return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, axis, tiled=True), inputs)


def check_taps(name: str, term: Term, inputs: TermInputs) -> None:
    """Raises UsageError where `term` reads a tap that a network does not give; lists taps with their shapes."""
    for side, wanted, outputs in zip(('student', 'teacher'), term.taps(), inputs[:2], strict=True):
        for tap in wanted:
            if tap not in outputs.features:
                raise unknown('tap', tap, described(outputs), f' of the {side}, read by term {name!r}')


def check_classes(name: str, term: Term, inputs: TermInputs) -> None:
    """Raises UsageError where the teacher answers with other classes than the student, and `term` cannot have that."""
    if inputs.teacher.logits is None or not term.TEACHER or term.OTHER_CLASSES:
        return
    student, teacher = (side.logits.shape[-1] for side in inputs[:2])
    if student != teacher:
        raise UsageError(f'term {name!r} compares the outputs of student and teacher, of which there are {student} '
                         f'and {teacher}; with such a teacher use terms of features, or uld and gold')  # fmt: skip


def described(outputs: Outputs) -> list[str]:
    """Taps with their shapes (without the batch axis), as shown in errors."""
    return [f'{name} {"x".join(map(str, leaf.shape[1:]))}' for name, leaf in outputs.features.items()]


def _mean(values: Array, mask: Array, divisor: Array, axis: str | None) -> Array:
    real = spread_mask(mask, values)
    total = jnp.sum(jnp.where(real > 0, values, 0) * real.astype(values.dtype))
    count = jnp.sum(spread_mask(divisor, values).astype(values.dtype))
    count = count if axis is None else jax.lax.psum(count, axis)
    # An entirely masked batch has loss 0, not nan.
    return total / jnp.maximum(count, 1)


def spread_mask(mask: Array, values: Array) -> Array:
    """`mask` with the trailing axes of `values`; an example counts where any of its tokens does."""
    if mask.ndim > values.ndim:
        mask = jnp.max(mask.reshape(*mask.shape[: values.ndim], -1), axis=-1)
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.broadcast_to(mask, (mask.shape[0], *values.shape[1:]))


def _wide(number: Any, like: Array) -> Array:
    return jnp.asarray(number).astype(like.dtype)
