"""The training loop: one `fit` for teachers, students, fine-tuning; a single run is a grid of one cell."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import trees
from kdjax.data.feed import Feed
from kdjax.errors import Interrupted, UsageError
from kdjax.metrics import Metric
from kdjax.train import distributed, optim, parallel
from kdjax.train.checkpoint import ADVICE, Checkpoints
from kdjax.train.grid import Step
from kdjax.train.ledger import Logger, plain
from kdjax.train.pace import Pace
from kdjax.train.stop import StopSignals
from kdjax.types import Array, State, Tree

Validate = Callable[[Tree], Mapping[str, np.ndarray]]  # student variables of all cells -> metrics, each (C,)
Progress = Callable[[int, float, str], None]  # steps done, loss, the last validation in words


class Fitted(NamedTuple):
    """What training a grid of C cells gave."""

    variables: Tree  # of the students after the last step, leading axis C
    best: Tree  # of the students where each cell's score was best in validation
    terms: Tree  # what terms learned, by name: the head that corrects a student, regressors
    history: list[dict[str, Any]]  # validation: {'step', metric: [C values]}
    anatomy: list[dict[str, Any]]  # {'step', 'norm/<term>', 'cosine/<a>|<b>': [C values]}, where it was asked for
    failures: dict[int, dict[str, Any]]  # cell -> {'step', 'term', 'checkpoint'}
    seconds: float = 0.0  # that a step of all cells took, the shortest of those that were sent together
    parts: Mapping[str, float] = {}  # of a step of one network, in ms, where they were timed
    unreached: Sequence[str] = ()  # terms by which nothing can be learned, as far as the first batches say


class Best(NamedTuple):
    """The best variables so far, by cell; saved with the state."""

    score: Array | np.ndarray  # (C,); the higher the better
    variables: Tree


def fit(
    run: Step,
    state: State,
    teacher_vars: Tree,
    knobs: Any,
    feed: Feed,
    validate: Validate,
    *,
    score: Metric,
    steps: int,
    chunk: int,
    first: int | None = None,
    validate_every: int,
    save_every: int,
    folder: Path,
    identity: str,
    ledger: Logger,
    progress: Progress,
    stop: StopSignals,
    student_of: Callable[[State], Tree] | None = None,
    tolerant: bool = False,
    best: Best | None = None,
    observed: Callable[[State, Array], State] | None = None,
    anatomy: Step | None = None,
    anatomy_every: int = 0,
) -> Fitted:
    """Trains a grid, resuming from what `folder` holds.

    The order of one round, fixed here: send off a chunk of steps; write down the logs of the chunk before it and note
    cells that diverged; where something is due, wait for this one's too, then validate, look at the gradients of terms,
    save; obey a stop request. Logs are read one chunk late, so that the device never waits for the host. Saving comes
    after validation, so a checkpoint always knows the best so far, and all that was measured: the ledger may be lost. A
    state in which every cell diverged is never saved; a stop comes last, so it loses nothing.

    Args:
      run: compiled `(state, teacher_vars, batches, knobs) -> (state, logs)` over batches of several steps.
      state, knobs: with a leading cell axis C; `state` is where a fresh run starts, at the step that it says.
      teacher_vars: variables of the teacher.
      feed: gives the batches of a range of steps, of one shape.
      validate: metrics of student variables.
      score: the one that decides which are best.
      steps: length of the run.
      chunk: steps per dispatch, of slow ones fewer (`Pace`);
        `validate_every`, `save_every` and `anatomy_every` are rounded up to multiples of it.
      first: steps of the first dispatch, at most, where they are known to be slow; `chunk` if left out.
      validate_every, save_every: steps.
      folder: of the checkpoints; `identity` names the run they belong to.
      ledger, progress, stop: where to write, whom to tell, whom to obey.
      student_of: the variables of the student, of all that is trained; `student` if left out.
      best: the best so far of a state that has been trained before.
      tolerant: whether a run of which every cell diverged ends where it is, with its failures, instead of raising.
      observed: the state after a validation that found so many nats of a token (C,), where training depends on that.
      anatomy: compiled like `run`, but over the batch of one step: gives the state back as it is, and numbers (C,) that
        are written down. It is shown the batch of the step to come, whose gradients they describe. None for never.
      anatomy_every: steps.

    Raises:
      UsageError: every cell diverged and this is not tolerated, or a checkpoint cannot be used.
      Interrupted: a stop was asked for; the state is saved.
    """
    validate_every, save_every, look_every = (
        -(-every // chunk) * chunk for every in (validate_every, save_every, anatomy_every if anatomy else save_every)
    )
    cells = int(knobs['seed'].shape[0])
    student_of = student_of or student
    # Copies: the state's own buffers are donated to the first step.
    best = best or unscored(trees.detached(student_of(state)), cells)
    with Checkpoints(folder, identity) as checkpoints:
        saved = checkpoints.latest_step()
        done = saved or int(np.ravel(state.step)[0])
        log: Mapping[str, Any] = {'validation': [], 'anatomy': [], 'diverged': []}
        if saved:
            restored, log = checkpoints.restore({'state': state, 'best': best})
            restored = jax.device_put(restored)
            state, best = State(*restored['state']), Best(*restored['best'])
            if (held := int(np.max(state.step))) != saved:
                raise UsageError(f'checkpoint {folder / "latest" / str(saved)} holds step {held}: {ADVICE}')
        distributed.by_first(lambda: ledger.rewind(done))
        history, looks, diverged = (list(log[kind]) for kind in ('validation', 'anatomy', 'diverged'))
        failures = {line['cell']: line for line in diverged}
        pace, validated = Pace(first or chunk), _told(history, score)
        sent = _Sent(ledger, checkpoints, failures, [], pace)
        if not steps and not history:  # nothing to train: it is looked at as it is
            metrics = dict(validate(student_of(state)))
            history.append({'step': 0, **metrics})
            best = _better(best, score.sign * metrics[score.name], student_of(state))
        while done < steps:
            count = feed.reach(done, min((done // chunk + 1) * chunk, done + pace.agreed(), steps)) - done
            pace.sending(count)
            state, logs = run(state, teacher_vars, feed(done, done + count), knobs)
            pace.sent()
            sent.logs.append((done, logs))
            done += count
            due = done == steps or not all(done % every for every in (validate_every, save_every, look_every))
            for told in sent.settle(left=0 if due else 1):
                progress(*told, validated)
            asked = stop.agreed()  # once: a signal between saving and leaving must not leave without saving
            if asked:
                sent.settle(left=0)
            if len(failures) == cells:
                if tolerant:
                    ledger.flush()
                    break
                raise _all_diverged(failures)
            if done % validate_every == 0 or done == steps:
                metrics = dict(validate(student_of(state)))
                ledger.scalars('validation', done, metrics)
                history.append({'step': done, **metrics})
                validated = _told(history, score)
                best = _better(best, score.sign * metrics[score.name], student_of(state))
                state = observed(state, jnp.asarray(metrics['nll'])) if observed else state
            if anatomy and (done % look_every == 0 or done == steps):
                state, seen = anatomy(state, teacher_vars, trees.take(feed(done, done + 1), 0), knobs)
                seen = jax.device_get(seen)
                ledger.scalars('anatomy', done, seen)
                looks.append({'step': done, **seen})
            ledger.flush()
            if done % save_every == 0 or done == steps or asked:
                lost = [{'cell': cell, **failure} for cell, failure in failures.items()]
                log = plain({'validation': history, 'anatomy': looks, 'diverged': lost})
                checkpoints.save(done, {'state': parallel.local(state), 'best': best}, log)
                checkpoints.save_best(done, best.variables)
            if asked and done < steps:
                checkpoints.wait()
                raise Interrupted(f'stopped by {asked.name} after step {done} of {steps}, which is saved')
        checkpoints.wait()
    terms = parallel.local(optim.averaged(state.params, state.opt)['terms'])
    # On the host: what takes cells apart there needs no program for it.
    variables, best_variables, terms = jax.device_get((student_of(state), best.variables, terms))
    return Fitted(variables, best_variables, terms, history, looks, failures, pace.fastest)


class _Sent(NamedTuple):
    """Chunks that were sent off, whose logs are not written down yet."""

    ledger: Logger
    checkpoints: Checkpoints
    failures: dict[int, dict[str, Any]]  # cell -> where it went wrong, of the chunks that are written down
    logs: list[tuple[int, Mapping[str, jax.Array]]]  # the step before the chunk, and its logs
    pace: Pace

    def settle(self, left: int) -> list[tuple[int, float]]:
        """Writes down all but the last `left` chunks; returns the last step of each and its loss."""
        told = []
        while len(self.logs) > left:
            start, sent = self.logs.pop(0)
            logs = jax.device_get(sent)
            self.pace.done()
            for cell, failure in _record(self.ledger, start, logs).items():
                if cell not in self.failures:
                    self.failures[cell] = {**failure, 'checkpoint': self.checkpoints.latest_step()}
                    self.ledger.write('diverged', cell=cell, **self.failures[cell])
            told.append((start + len(logs['loss']), float(_mean(logs['loss'][-1]))))
        return told


def _told(history: list[dict[str, Any]], score: Metric) -> str:
    """The last validation in words: 'accuracy 93.20 %'."""
    if not history:
        return ''
    value = score.factor * _mean(np.asarray(history[-1][score.name], np.float64))
    return f'{score.title} {value:.{score.digits}f} {score.unit}'.strip()


def _mean(values: np.ndarray) -> Any:
    """Over the cells that did not diverge; nan where all did."""
    return np.mean(values[np.isfinite(values)]) if np.isfinite(values).any() else np.nan


def unscored(variables: Tree, cells: int) -> Best:
    """What the best is before anything was validated."""
    return Best(np.full(cells, -np.inf, np.float32), variables)


def student(state: State) -> Tree:
    """The variables of the student alone, as they are used: averaged, where the optimiser keeps an average."""
    return parallel.local({'params': optim.averaged(state.params, state.opt)['student'], 'stats': state.stats})


def answering(state: State, term: str) -> Tree:
    """The variables of the student and of the term that answers in its place, as `nets.team.answered` reads them."""
    params = optim.averaged(state.params, state.opt)
    return parallel.local({
        'params': {'student': params['student'], 'head': params['terms'][term]},
        'stats': {'student': state.stats, 'head': state.memory[term]},
    })  # fmt: skip


def _record(ledger: Logger, start: int, logs: Mapping[str, np.ndarray]) -> dict[int, dict[str, Any]]:
    """Writes the logs of a chunk, (steps, C) each; returns the cells that went wrong and the first step where."""
    count, cells = logs['loss'].shape
    for k in range(count):
        ledger.scalars('train', start + k + 1, {name: _shown(values[k]) for name, values in logs.items()})
    failures = {}
    for cell in range(cells):
        wrong = {name: np.flatnonzero(~np.isfinite(values[:, cell])) for name, values in logs.items()}
        steps = [positions[0] for positions in wrong.values() if positions.size]
        if steps:
            first = min(steps)
            names = [name.removeprefix('term/') for name, positions in wrong.items()
                     if name.startswith('term/') and positions.size and positions[0] == first]  # fmt: skip
            failures[cell] = {'step': start + int(first) + 1, 'term': ', '.join(names) or 'gradient'}
    return failures


def _shown(values: np.ndarray) -> Any:
    """Every cell of a small grid; of a large one the mean, as the cells' own curves are kept by validation."""
    return values if len(values) <= 8 else _mean(values)


def _all_diverged(failures: Mapping[int, Mapping[str, Any]]) -> UsageError:
    first = min(failures.values(), key=lambda failure: failure['step'])
    saved = f'the last good checkpoint is step {first["checkpoint"]}' if first['checkpoint'] else 'no checkpoint yet'
    return UsageError(
        f'training diverged: {first["term"]} is not finite at step {first["step"]} ({saved}); '
        'lower the learning rate or the weight of that term'
    )


@jax.jit  # one program instead of one for every leaf
def _better(best: Best, score: Array, variables: Tree) -> Best:
    improved = score > best.score

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return Best(jnp.where(improved, score, best.score), jax.tree.map(pick, variables, best.variables))
