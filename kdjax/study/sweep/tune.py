"""Tuning: optuna proposes settings, batches of them train as one grid, and of each batch the worst stop early.

A config says what may vary: `config.search` by candidates, a function `space(arg)` of its file by `rows.Range`. Trials
are kept in the workdir from when they are proposed; what is killed goes on with the same trials, from their
checkpoints. Validation alone decides.

Reference: Akiba et al., Optuna, KDD 2019. Jamieson, Talwalkar, Non-stochastic Best Arm Identification and
Hyperparameter Optimization, AISTATS 2016 (successive halving: of each batch the best part goes on).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kdjax.errors import UsageError, shown
from kdjax.metrics import Metric
from kdjax.study.config import search
from kdjax.study.recipe import acceptance, build, execute, students
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.resolve import resolve, task_of, term_class
from kdjax.study.recipe.stages import Rung
from kdjax.study.sweep import collect, expand, grids, journal, rows, worker
from kdjax.study.sweep.expand import FitTask, Sweep
from kdjax.study.sweep.rows import Range, Row
from kdjax.train import storage
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

MEASURED = 'measured.json'  # of a trial's file
Space = Mapping[str, Range | tuple[float, ...]]  # field -> a range, or candidates


class Trial(NamedTuple):
    """One setting: its number in optuna's study, and the cells that try it, one per seed."""

    number: int
    cells: tuple[FitTask, ...]


@dataclasses.dataclass
class TrialGroup:
    """Trials of one structure, which train as one grid."""

    trials: list[Trial]
    rung: Rung | None = None  # the part that was trained last
    order: tuple[str, ...] = ()  # keys of the cells in it
    scores: Mapping[int, float | None] = dataclasses.field(default_factory=dict)  # after it, by trial

    def cells(self) -> list[FitTask]:
        return [cell for trial in self.trials for cell in trial.cells]


def run(config: ConfigDict, space: Space | None, workdir: Path, command: str) -> bool:
    """Tunes `accept.method`, and reports the best setting beside the baseline; returns whether the bars were met.

    Args:
      config: the base; its `tune` part says how much is tried, its `accept` part for which method and which bars.
      space: field -> range. With it goes what `config.search` says of the method; without both, `usual_space`.
      workdir: where everything is kept.
      command: how the user called.

    Raises:
      UsageError: an empty or wrong space, or no trial that could be trained.
      Interrupted: a stop was asked for; the same command goes on.
    """
    if space is not None and not isinstance(space, Mapping):
        raise UsageError(
            f'space(arg) must return a mapping from fields to rows.Range or candidates, got {shown(space)}'
        )
    searched = expand.searched(config, config.accept.method)
    space = usual_space(config) if space is None and not searched else {**searched, **(space or {})}
    datasets = Datasets()
    _check(config, space, datasets)
    with execute.locked(workdir), StopSignals() as stop, Screen() as screen:
        execute.prepare_process(screen)
        recipe = resolve(config, datasets)
        screen.note(execute.about(workdir, recipe.execution, recipe.all_fits().values()))
        tuner = Tuner(config, space, workdir, screen, stop, datasets)
        best, met = tuner.tuned()
        screen.show('the best setting: ' + ' '.join(f'--config.{field}={value:g}' for field, value in best.items()))
    tuned = rows.choice('method', {f'{config.accept.method}, tuned': {'method': config.accept.method, **best}})
    here = rows.applied(config, {'launch.where': 'here'})  # tuning is one process; its two arms are trained already
    baseline = rows.choice('method', {config.baseline: {'method': config.baseline, **tuner.baseline}})
    worker.run(here, rows.chained(baseline, tuned), workdir, command)
    return met


def usual_space(config: ConfigDict) -> dict[str, Range]:
    """Temperatures from 1 to 20; weights of what the teacher says and learning rates within a factor of 10."""
    space: dict[str, Range] = {}
    for name in config.methods[config.accept.method]:
        fit = config.fits[name]
        for term in fit.weights:
            if term_class(config.terms[term].kind).TEACHER:
                space[f'fits.{name}.weights.{term}'] = _around(fit.weights[term], f'weight of {term}')
                if 'temperature' in config.terms[term]:
                    space[f'terms.{term}.temperature'] = Range(1.0, 20.0, log=True)
        space[f'fits.{name}.learning_rate'] = _around(fit.learning_rate, 'learning_rate')
    return space


class Tuner:
    """An optuna study at work in a workdir."""

    def __init__(
        self,
        config: ConfigDict,
        space: Space,
        workdir: Path,
        screen: Screen,
        stop: StopSignals,
        datasets: Datasets | None = None,
    ) -> None:
        self._config, self._space, self._workdir = config, space, workdir
        self._screen, self._stop = screen, stop
        self._metric = build.task(task_of(config)).judged
        self._study, self._datasets = journal.opened(workdir, self._metric), datasets or Datasets()
        self.baseline: dict[str, Any] = {}  # the candidates of the baseline that are best on validation, by field

    def tuned(self) -> tuple[dict[str, float], bool]:
        """The best setting, after enough trials or as soon as the bars are met, and whether they are.

        Raises:
          UsageError: no trial could be trained.
        """
        wanted = self._config.tune.trials
        judge = self._judge()
        self._screen.whole('trials', wanted)
        while True:
            done = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]
            self._screen.so_far(len(done))
            complete = [trial for trial in done if trial.state.name == 'COMPLETE']
            best = max(complete, key=lambda trial: self._merit(trial.value), default=None)
            bars = judge(best.value, self._shipped(best)) if best else []
            if best and ((bars and all(bar.met for bar in bars)) or len(done) >= wanted):
                return dict(best.params), all(bar.met for bar in bars)
            if len(done) >= wanted:
                raise UsageError(f'none of {len(done)} trials could be trained; narrow the space')
            self._race(self._proposed())

    def _judge(self) -> Any:
        """A function from a score in validation to the bars; trains the baseline that they may need."""
        planned = expand.expand(self._config, rows.axis('method', self._config.baseline), self._datasets)
        worker = self._worker(planned)
        worker.work()
        arms: dict[tuple[tuple[str, Any], ...], list[Mapping[str, Any]]] = {}
        for run in planned.runs:
            chosen = tuple((field, value) for field, value in run.point.items() if field != 'method')
            arms.setdefault(chosen, []).append(worker.index.places[run.cells[-1].key].record)
        scores = {chosen: _score(records, self._metric) for chosen, records in arms.items()}
        best = max(scores, key=lambda chosen: self._merit(scores[chosen]))
        self.baseline, score = dict(best), scores[best]
        judged = rows.axis('method', self._config.accept.method)
        taught = expand.expand(self._config, judged, self._datasets).runs[0].cells[-1]
        teacher = self._worker(planned).context(taught).done.get('teacher')
        taught_score = teacher.result['validation'][self._metric.name] if teacher else None
        params = worker.index.places[planned.runs[0].cells[-1].key].grid['cost']['params']
        return lambda student, shipped: acceptance.criteria(
            self._config.accept, self._metric, student, score, taught_score, params, shipped
        )

    def _shipped(self, best: Any) -> Mapping[str, Any]:
        """What the file of a trial takes, by its student that is best in validation; {} where no file is judged."""
        accept, folder = self._config.accept, self._workdir / 'files' / str(best.number)
        if not accept.file:
            return {}
        if (folder / MEASURED).is_file():
            return storage.read_json(folder / MEASURED, 'delete it, to have it measured again', kilobytes=(int, float))
        changes = {str(best.number): {'method': accept.method, **best.params}}
        planned = expand.expand(self._config, rows.choice('trial', changes), self._datasets)
        worker = self._worker(planned)
        worker.work()  # all is there
        places = [worker.index.places[run.cells[-1].key] for run in planned.runs]
        scores = [place.record['history'][-1][self._metric.name] for place in places]
        at = max(range(len(places)), key=lambda place: self._merit(scores[place]))
        student = students.of_grid(places[at].folder, places[at].position)
        dataset = self._datasets(planned.runs[at].cells[-1].inputs.data)
        found = acceptance.weighed(student, scores[at], folder, accept.file, dataset)
        storage.write_json(folder / MEASURED, found, indent=1)
        return found

    def _merit(self, score: float | None) -> float:
        """The higher the better; of what diverged the lowest."""
        return -math.inf if score is None else self._metric.sign * score

    def _proposed(self) -> dict[int, dict[str, float]]:
        """Settings of the next batch by trial; of one that was stopped also those that had ended already."""
        import optuna

        size, trials = self._config.tune.batch, self._study.get_trials(deepcopy=False)
        unfinished = [trial.number for trial in trials if not trial.state.is_finished()]
        start = min(unfinished, default=len(trials)) // size * size
        for number in range(len(trials), min(start + size, self._config.tune.trials)):
            # A sampler of the trial's own: a study that was stopped proposes what an unbroken one would.
            self._study.sampler = optuna.samplers.TPESampler(seed=self._config.seed + number, constant_liar=True)
            self._study.ask(_distributions(self._space))
        journal.seal(self._workdir)
        return {trial.number: dict(trial.params) for trial in self._study.get_trials(deepcopy=False)[start:]}

    def _race(self, settings: Mapping[int, Mapping[str, float]]) -> None:
        """Trains a batch: fits before the last one whole, the last in parts, after each of which the worst stop."""
        changes = {
            str(number): {'method': self._config.accept.method, **setting} for number, setting in settings.items()
        }
        planned = expand.expand(self._config, rows.choice('trial', changes), self._datasets)
        trials = [
            Trial(number, tuple(run.cells[-1] for run in planned.runs if run.point['trial'] == str(number)))
            for number in settings
        ]
        last = {cell.key for trial in trials for cell in trial.cells}
        before = {key: cell for key, cell in planned.cells.items() if key not in last}
        self._worker(planned._replace(cells=before)).work()
        worker, groups = self._worker(planned), _groups(trials)
        expand.check_shapes(planned, worker.datasets)
        for part in self._parts(groups):
            scores: dict[int, float | None] = {}
            for group in groups:
                scores |= self._trained(worker, group, part) if group.trials else {}
            going = self._told(scores, part)
            for group in groups:
                group.trials = [trial for trial in group.trials if trial.number in going]

    def _trained(self, worker: worker.Worker, group: TrialGroup, part: int) -> dict[int, float | None]:
        """Trains one part; mean score in validation by trial, None where a seed diverged."""
        cells = group.cells()
        keys = tuple(cell.key for cell in cells)
        until = self._until(cells[0], part)
        if group.rung and group.rung.until == until:  # a part of other fits, which are longer
            return {trial.number: group.scores[trial.number] for trial in group.trials}
        begun = group.rung or Rung(0, None, '', 0, ())
        rung = begun._replace(until=until, kept=tuple(group.order.index(key) for key in keys) if group.order else ())
        stage = grids.stage(cells, worker.index, f'{len(group.trials)} trials to step {until}', rung)
        context = worker.context(cells[0])
        execute.execute([stage], context, self._workdir)
        artifact = context.done[stage.name]
        group.rung, group.order = Rung(until, artifact.folder, stage.key, len(cells), ()), keys
        records = dict(zip(keys, artifact.result['cells'], strict=True))
        group.scores = {
            trial.number: _score([records[cell.key] for cell in trial.cells], self._metric) for trial in group.trials
        }
        return group.scores

    def _parts(self, groups: Sequence[TrialGroup]) -> list[int]:
        """The parts of a race. Of those that end on the same step, as parts of short fits do, only the last."""
        ends = [[self._until(group.cells()[0], part) for group in groups] for part in range(self._config.tune.parts)]
        return [part for part, end in enumerate(ends) if part + 1 == len(ends) or end != ends[part + 1]]

    def _until(self, cell: FitTask, part: int) -> int:
        """The step at which a part ends: a whole number of dispatches, but for the last."""
        steps, chunk = cell.fit.steps, cell.execution.chunk
        share = steps / self._config.tune.keep_one_in ** (self._config.tune.parts - 1 - part)
        return min(steps, math.ceil(share / chunk) * chunk)

    def _told(self, scores: Mapping[int, float | None], part: int) -> set[int]:
        """Tells optuna what came of a part; the trials that go on."""
        import optuna

        final = part == self._config.tune.parts - 1
        ranked = sorted(
            (number for number in scores if scores[number] is not None), key=lambda n: (-self._merit(scores[n]), n)
        )
        going = set() if final else set(ranked[: math.ceil(len(ranked) / self._config.tune.keep_one_in)])
        known = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        for number, score in scores.items():
            if known[number].state.is_finished():  # it was told before a stop
                continue
            if score is None:
                self._study.tell(number, state=optuna.trial.TrialState.FAIL)
                continue
            if part not in known[number].intermediate_values:
                optuna.trial.Trial(self._study, known[number]._trial_id).report(score, part)
            if number not in going:
                how = {'values': score} if final else {'state': optuna.trial.TrialState.PRUNED}
                self._study.tell(number, **how)
        journal.seal(self._workdir)
        return going

    def _worker(self, planned: Sweep) -> worker.Worker:
        return worker.Worker(planned, self._workdir, self._screen, self._stop, self._datasets)


def _check(config: ConfigDict, space: Space, datasets: Datasets) -> None:
    """Meets what cannot be tuned before anything trains."""
    if not space:
        raise UsageError('there is nothing to tune: space(arg) of the config file is empty')
    for field, spread in space.items():
        if not isinstance(field, str):
            raise UsageError(f'space(arg): a field is text, got {shown(field)}')
        if isinstance(spread, Range):
            rows.check_range(field, spread)
        elif not isinstance(spread, tuple | list) or not spread:
            raise UsageError(f'space(arg): {field} must be a rows.Range or several numbers, got {shown(spread)}')
        for end in (spread.low, spread.high) if isinstance(spread, Range) else spread:
            search.number(f'space(arg): a value of {field}', end)
            changed: list[Row] = rows.choice(field, {f'{end:g}': {'method': config.accept.method, field: end}})
            expand.expand(config, changed, datasets)
    collect.paper(config)
    acceptance.checked(config, datasets)


def _groups(trials: Sequence[Trial]) -> list[TrialGroup]:
    by_structure: dict[str, TrialGroup] = {}
    for trial in trials:
        by_structure.setdefault(trial.cells[0].structure, TrialGroup([])).trials.append(trial)
    return list(by_structure.values())


def _score(records: Sequence[Mapping[str, Any]], metric: Metric) -> float | None:
    """Mean score in validation over the seeds after the last step; None where one diverged."""
    if any(record['failure'] for record in records):
        return None
    return float(np.mean([record['history'][-1][metric.name] for record in records]))


def _around(value: float, name: str) -> Range:
    if value <= 0:
        raise UsageError(f'{name} is {value:g}: there is no usual range around it; give the config file a space(arg)')
    return Range(value / 10, value * 10, log=True)


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(spread: Range | tuple[float, ...]) -> Any:
        if not isinstance(spread, Range):
            return CategoricalDistribution(spread)
        if spread.whole:
            return IntDistribution(int(spread.low), int(spread.high), log=spread.log)
        return FloatDistribution(spread.low, spread.high, log=spread.log)

    return {field: distribution(spread) for field, spread in space.items()}
