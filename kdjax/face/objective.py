"""Terms in a training loop of one's own, in three calls."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import as_outputs
from kdjax.techniques.base import Term
from kdjax.train.objective import Objective, check_classes, check_taps
from kdjax.types import Array, Outputs, TermInputs, Tree

Answer = Any  # what a network says: logits, (logits, features by name), or Outputs; None of a teacher that is not there
Number = float | Array


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A weighted sum of terms as a function; see `objective`. Hashable, so that it may be static or closed over."""

    objective: Objective
    # Beside the terms, which are equal where they differ in numbers alone.
    numbers: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]

    @property
    def knobs(self) -> dict[str, dict[str, float]]:
        """Weight, temperature and so on of every term, by its name: what `knobs` of a call may replace."""
        return {name: dict(own) for name, own in self.numbers}

    def init(
        self,
        key: Array,
        student: Answer,
        teacher: Answer = None,
        *,
        teacher_variables: Tree = None,
        earlier: Mapping[str, Tree] | None = None,
        **columns: Tree,
    ) -> tuple[dict[str, Tree], dict[str, Tree]]:
        """What the terms learn, to be trained beside the student, and what they remember, both by name of the term.

        Args:
          key: a random key.
          student, teacher: what they say of a batch, as for a call.
          teacher_variables: {'params': ...} of the teacher, for terms that take over some of its weights.
          earlier: what terms learned in an earlier training, for those that go on from it.
          **columns: of the batch, as for a call.

        Raises:
          UsageError: a feature or column that a term reads is not there, or shapes do not fit.
        """
        inputs = _inputs(student, teacher, columns)
        params, memory = jax.jit(self.objective.init)(key, inputs)  # by itself each operation would be compiled alone
        return self.objective.adopt(params, earlier or {}, teacher_variables or {}), memory

    def __call__(
        self,
        params: Mapping[str, Tree],
        memory: Mapping[str, Tree],
        student: Answer,
        teacher: Answer = None,
        *,
        step: Array | int,
        key: Array | None = None,
        knobs: Mapping[str, Mapping[str, Number]] | None = None,
        axis: str | None = None,
        **columns: Tree,
    ) -> tuple[Array, tuple[dict[str, Tree], dict[str, Array]]]:
        """The loss of a batch, for `jax.value_and_grad(..., has_aux=True)`.

        Args:
          params, memory: of the terms, as `init` and the last call gave them.
          student, teacher: what they say of the batch: logits, (logits, features by name) or Outputs. No gradient
            reaches the teacher.
          step: the number of the training step, which schedules and draws depend on.
          key: a random key, the same on all devices; by default one of the step.
          knobs: other numbers than those of the terms, which may be traced: {'kd': {'temperature': t}}.
          axis: name of the device axis, under pmap or shard_map, where the batch is this device's part. Then the loss
            is its share: gradients have to be added up over the devices, by `jax.lax.psum`, not averaged.
          **columns: of the batch: `labels` (B,); `ids` of the examples, int32 (B,), from 0 on where a term remembers
            each; `views`, the numbers of their augmented views, by default 0; `mask`, 1 for real examples and 0 for
            padding, by default all 1, (B,) or, of tokens, (B, N); and whatever else a term reads by its name.

        Returns:
          The loss (), the next memory, and logs of the whole batch: 'loss', 'term/<name>' without its weight, and
          '<name>/<what>' that a term logs.

        Raises:
          UsageError: a feature, column, term or knob that is not there.
        """
        inputs = _inputs(student, teacher, columns)
        for name, term in self.objective.terms:
            check_taps(name, term, inputs)
            check_classes(name, term, inputs)
        key = jax.random.fold_in(jax.random.key(0), step) if key is None else key
        shares = self.objective.shares(
            params, memory, inputs, self._replaced(knobs or {}), step=jnp.asarray(step), key=key, axis=axis
        )
        logs = {'loss': shares.loss, **{f'term/{name}': part for name, part in shares.parts.items()}, **shares.logs}
        logs = jax.lax.stop_gradient(logs)
        return shares.loss, (dict(shares.memory), logs if axis is None else jax.lax.psum(logs, axis))

    def _replaced(self, knobs: Mapping[str, Mapping[str, Number]]) -> dict[str, dict[str, Any]]:
        known = self.knobs
        for name, own in knobs.items():
            if name not in known:
                raise unknown('term', name, known, ' in knobs')
            for knob in own:
                if knob not in known[name]:
                    raise unknown('knob', knob, known[name], f' of term {name!r}')
        return {name: {**own, **knobs.get(name, {})} for name, own in known.items()}


def objective(terms: Mapping[str, Term], weights: Mapping[str, float] | None = None) -> Distillation:
    """A weighted sum of terms, for a training loop of one's own.

        kd = objective({'kd': SoftTargets(), 'crd': ContrastiveRepresentation(layer='h', examples=50_000)})
        params, memory = kd.init(key, student, teacher, ids=ids, labels=labels)
        loss, (memory, logs) = kd(params, memory, student, teacher, ids=ids, labels=labels, step=step)

    What terms learn is in `params`, to be differentiated and updated beside the student's; it is {} of those that learn
    nothing. Terms are in `kdjax.terms`, or a `Term` of one's own.

    Args:
      terms: by a name for each.
      weights: of some or all of them, in the place of their own, which is 1 by default.

    Raises:
      UsageError: no terms, something that is no term, or a weight of another or that cannot be.
    """
    weights = weights or {}
    for name, term in terms.items():
        if not isinstance(term, Term):
            raise UsageError(f'term {name!r} must be a term, such as SoftTargets(), got {term!r}')
    for name in weights:
        if name not in terms:
            raise unknown('term', name, terms, ' in weights')
    weighted = {
        name: dataclasses.replace(term, weight=weights[name]) if name in weights else term
        for name, term in terms.items()
    }
    numbers = tuple((name, tuple(term.knobs().items())) for name, term in weighted.items())
    return Distillation(Objective(tuple(weighted.items())), numbers)


def _inputs(student: Answer, teacher: Answer, columns: Mapping[str, Tree]) -> TermInputs:
    """What terms see."""
    own = _outputs(student)
    size = len(next(x for x in (own.logits, *own.features.values()) if x is not None))
    names = {'ids': 'id', 'views': 'view'}
    given = {names.get(name, name): jax.tree.map(jnp.asarray, x) for name, x in columns.items() if x is not None}
    defaults = {'mask': jnp.ones(size, jnp.float32), 'view': jnp.zeros(size, jnp.int32)}
    batch = {**defaults, **given}
    batch['mask'] = batch['mask'].astype(jnp.float32)
    return TermInputs(own, jax.lax.stop_gradient(_outputs(teacher)), batch)


def _outputs(answer: Answer) -> Outputs:
    if answer is None:
        return Outputs(None, {})  # type: ignore[arg-type]
    if isinstance(answer, Outputs) and answer.logits is None:
        return answer
    return as_outputs(jax.tree.map(jnp.asarray, answer))
