"""Carrying out a sweep: any number of processes on one workdir, each cell trained once, at whatever moment one dies."""

import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from kdjax.errors import Interrupted, UsageError
from kdjax.study.recipe import execute
from kdjax.study.recipe.context import Artifact, Context, Datasets
from kdjax.study.recipe.dry_run import Traced
from kdjax.study.recipe.students import STUDENTS, lines
from kdjax.study.report import report as reports
from kdjax.study.sweep import collect, cost_estimate, expand, grids, launchers
from kdjax.study.sweep.expand import FitTask, Sweep
from kdjax.study.sweep.rows import Row
from kdjax.train import storage
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals
from kdjax.train.storage import ARTIFACT, clean, of_stage

REPORT, WORKERS = 'report', 'workers'  # folders
POLL = 1.0  # seconds between looks at what other processes have finished


def run(config: ConfigDict, listed: Sequence[Row] | None, workdir: Path, command: str) -> None:
    """Trains what is not trained yet of a sweep, and reports.

    Args:
      config: the base that rows change.
      listed: the rows.
      workdir: where everything is kept, shared by all processes of the sweep.
      command: how the user called, for the report.

    Raises:
      UsageError: a row that cannot run, met before anything trains.
      Interrupted: a stop was asked for; what was begun is saved.
    """
    datasets = Datasets()
    planned = _planned(config, listed, datasets)
    if config.launch.where != 'here':
        expand.check_shapes(planned, datasets)  # before any worker starts
        argv, screen = shlex.split(command)[1:], Screen()
        screen.show(launchers.start(config.launch.to_dict(), argv, workdir / WORKERS, screen.note))
        if config.launch.where == 'slurm':  # which has only queued them; --mode=report says how far they are
            return
    else:
        with execute.locked(workdir, shared=True), StopSignals() as stop, Screen() as screen:
            execute.prepare_process(screen)
            first, fits = next(iter(planned.cells.values())), [cell.fit for cell in planned.cells.values()]
            about = execute.about(workdir, first.execution, fits)
            Worker(planned, workdir, screen, stop, datasets).work(about)
    _report(planned, workdir, command, Screen())


class Worker:
    """One process at work on a sweep."""

    def __init__(
        self, planned: Sweep, workdir: Path, screen: Screen, stop: StopSignals, datasets: Datasets | None = None
    ) -> None:
        self._sweep, self._workdir, self._screen, self._stop = planned, workdir, screen, stop
        self.index, self.datasets = grids.ResultIndex(workdir), datasets or Datasets()
        self._artifacts: dict[str, Artifact] = {}  # of networks that teach, by key
        self._earlier: dict[str, Mapping[str, str]] = {}  # see `Context`
        self._steps = {cell.key: cell.fit.steps for cell in planned.cells.values()}

    def work(self, about: str = '') -> None:
        """Trains grids until all are there, its own and those of others.

        Args:
          about: the first line, said once all is checked.

        Raises:
          UsageError: a run that cannot be, before anything trains.
          Interrupted: a stop was asked for.
        """
        self.index.refresh()
        if all(key in self.index.places for key in self._sweep.cells):
            self._examine()
            return
        costs = expand.check_shapes(self._sweep, self.datasets)
        if about:
            self._screen.note(about)
        divided = grids.division(
            self._sweep, self._workdir, self.index, lambda: _rooms(self._sweep, costs, self.datasets)
        )
        self._screen.whole(f'{len(self._sweep.runs)} runs', sum(self._steps.values()))
        while waiting := self._waiting(divided):
            if not any([self._tried(keys, divided) for keys in waiting]):
                self._pause()
        self._examine()

    def _examine(self) -> None:
        """Measures the teachers that students are held against, where that was lost since those were trained."""
        for cell in self._sweep.cells.values():
            judge = self._sweep.judges.get(cell.key)
            if judge and not execute.done(self._sweep.stages[judge], self._workdir):
                self.context(cell)

    def _waiting(self, divided: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        """The grids that nobody has finished."""
        self.index.refresh()
        self._screen.so_far(sum(steps for key, steps in self._steps.items() if key in self.index.places))
        return [keys for keys in divided if not all(key in self.index.places for key in keys)]

    def _tried(self, keys: Sequence[str], divided: Sequence[Sequence[str]]) -> bool:
        """Trains a grid, unless another process is at it, has done it, or it cannot be begun yet."""
        cells = [self._sweep.cells[key] for key in keys]
        if not grids.ready(cells, self.index):
            return False
        called = f'{cells[0].fit.name} x {len(cells)} ({divided.index(keys) + 1} of {len(divided)})'
        stage = grids.stage(cells, self.index, called)
        folder = self._workdir / stage.folder
        if (folder / ARTIFACT).exists():
            self._check(folder, keys)
            return False
        context = self.context(cells[0])
        with grids.claimed(folder) as mine:
            if not mine or (folder / ARTIFACT).exists():
                return False
            execute.execute([stage], context, self._workdir)
        self._waiting(divided)
        self._check(folder, keys)
        return True

    def _check(self, folder: Path, keys: Sequence[str]) -> None:
        """A finished grid has all its cells; waiting for one that it lacks would never end."""
        self.index.refresh()
        lacking = [key for key in keys if key not in self.index.places]
        if lacking:
            raise UsageError(f'{folder / ARTIFACT} lacks the cell {lacking[0]}; {of_stage(folder)}')

    def context(self, cell: FitTask) -> Context:
        """What a cell needs, with the networks that teach trained and cached, here or by another process."""
        context = Context(cell.execution, self._screen, self._stop, datasets=self.datasets, earlier=self._earlier)
        stages = self._sweep.stages
        judge = [stages[self._sweep.judges[cell.key]]] if cell.key in self._sweep.judges else []
        judged = [stage for one in judge for stage in expand.with_needs(self._sweep, one.inputs.teacher)]
        for stage in (*cell.needs, *judged, *judge):
            if stage.key not in self._artifacts:
                with grids.claimed(self._workdir / stage.folder, wait=True):
                    execute.execute([stage], context, self._workdir)
                self._artifacts[stage.key] = context.done[stage.name]
            context.done[stage.name] = self._artifacts[stage.key]
        return dataclasses.replace(context, judge=judge[0].inputs.inputs if judge else None)

    def _pause(self) -> None:
        if self._stop.asked is not None:
            raise Interrupted(f'stopped by {self._stop.asked.name} while other processes are at work')
        time.sleep(POLL)


def show_plan(config: ConfigDict, listed: Sequence[Row] | None, workdir: Path, command: str) -> None:
    """Prints what `run` would do and what it would cost; trains nothing.

    Raises:
      UsageError: a row that cannot run.
    """
    datasets = Datasets()
    planned = _planned(config, listed, datasets)
    costs = expand.check_shapes(planned, datasets)
    Screen().show(cost_estimate.table(planned, costs, _rooms(planned, costs, datasets), workdir))


def report(config: ConfigDict, listed: Sequence[Row] | None, workdir: Path, command: str) -> None:
    """Reports what is there of a sweep, finished or not; trains nothing."""
    planned = _planned(config, listed, Datasets())
    _report(planned, workdir, command, Screen())


def _report(planned: Sweep, workdir: Path, command: str, screen: Screen) -> None:
    """Writes and shows the report. Of processes that end together one writes it, which is as good as any."""
    results, trained = collect.results(planned, workdir, command), collect.students(planned, workdir)
    if os.access(workdir, os.W_OK):  # what is finished can be shown from where nothing can be written
        with grids.claimed(workdir / REPORT) as mine:
            if mine:
                clean(workdir / REPORT)
                reports.write(results, workdir / REPORT)
                storage.write_json(workdir / REPORT / STUDENTS, {'runs': trained})
    screen.show(reports.terminal(results))
    screen.show(f'report: {workdir / REPORT / "report.html"}')
    if trained:
        screen.show(f'its best student in validation:\n{lines(workdir, "")}')


def _rooms(planned: Sweep, costs: Mapping[str, Traced], datasets: Datasets) -> dict[str, int]:
    """How many cells of each structure one grid may have."""
    return {
        structure: grids.room(cells[0], costs[structure], datasets(cells[0].inputs.data))
        for structure, cells in planned.structures().items()
    }


def _planned(config: ConfigDict, listed: Sequence[Row] | None, datasets: Datasets) -> Sweep:
    """The sweep, and the numbers of a paper that it is held against, checked."""
    if listed is None:
        raise UsageError('this config file has no function sweep(arg) that returns rows; see kdjax/study/sweep/rows.py')
    planned = expand.expand(config, listed, datasets)
    collect.paper(config, planned.axes)
    return planned


MODES: Mapping[str, Callable[[ConfigDict, Sequence[Row] | None, Path, str], None]] = {
    'sweep': run,
    'plan': show_plan,
    'report': report,
}
