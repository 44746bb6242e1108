"""The one thing that speaks to a terminal: progress with step and ETA, and what a person should read."""

import dataclasses
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

EVERY = 30.0  # seconds between lines of a log


class Screen:
    """Progress on standard error: bars in a terminal, elsewhere lines. Text and tables on standard output.

    In a log each stage has a line when it begins and when it ends, and one at most every 30 seconds between. Nothing is
    said where `quiet`.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._out, self._err = Console(quiet=quiet), Console(stderr=True, quiet=quiet)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn('{task.description:<26}', markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('ETA'),
            Remaining(),
            TextColumn('{task.fields[told]}', markup=False),
            console=self._err,
            disable=not self._err.is_terminal,
        )
        self._task: Any = None
        self._whole: Any = None
        self._log = _Log('', 1)
        self._said = 0.0  # when the last line was
        self._part, self._parts = 0, 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bars.stop()

    def whole(self, name: str, total: int) -> None:
        """Begins something of many stages: a bar of its own, which stays; stages go when they are done."""
        self._whole = self._bars.add_task(name, total=total, told='')
        self._line(name)

    def so_far(self, done: int) -> None:
        """So much of the whole is done."""
        before = self._bars.tasks[self._bars.task_ids.index(self._whole)]
        if 0 < done != before.completed:
            share = done / before.total if before.total else 1.0
            self._line(f'{before.description}: {100 * share:.0f} % done')
        self._bars.update(self._whole, completed=done)

    def count(self, stages: int) -> None:
        """So many stages follow, which a log numbers."""
        self._part, self._parts = 0, stages

    def stage(self, name: str, steps: int = 1) -> None:
        """Begins a stage of so many steps."""
        if self._whole is not None and self._task is not None:
            self._bars.update(self._task, visible=False)
        self._task = self._bars.add_task(name, total=steps, told='')
        self._part += 1
        number = f'[{self._part}/{self._parts}] ' if self._part <= self._parts else ''
        self._log = _Log(f'{number}{name}', steps)
        self._line(self._log.name + (f': {steps} steps' if steps > 1 else ''))

    def step(self, done: int, loss: float | None = None, validated: str = '') -> None:
        """So many steps of the stage are done; what the loss is, and how the last validation ended."""
        self._step(done, ', '.join(filter(None, ('' if loss is None else f'loss {loss:.4g}', validated))))

    def before(self, told: str) -> None:
        """What is done before the first step of the stage."""
        self._step(0, told)

    def _step(self, done: int, told: str) -> None:
        self._bars.update(self._task, completed=done, told=told)
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._line(self._log.between(done, now, told))
        if done:
            self._log.first = self._log.first or (done, now)

    def finished(self, seconds: float | None = None) -> None:
        """The stage is done; without `seconds` it had been done by an earlier run."""
        task = self._bars.tasks[self._bars.task_ids.index(self._task)]
        self._bars.update(self._task, completed=task.total)
        told = task.fields['told']
        if seconds is None:
            self._bars.update(self._task, description=f'{task.description} (done before)')
        how = 'done before' if seconds is None else f'done in {seconds:.1f} s'
        self._line(f'{self._log.name}: {how}' + (f', {told}' if told else ''))

    def note(self, what: str) -> None:
        """A line about what is going on, above the bars."""
        self._err.print(what, markup=False, highlight=False, soft_wrap=True)

    def show(self, *what: Any) -> None:
        """Prints text or tables."""
        self._out.print(*what, soft_wrap=True)

    def _line(self, what: str) -> None:
        """A line of a log; bars say it in a terminal. Python writes standard error out line by line."""
        if not self._err.is_terminal:
            self._said = time.monotonic()
            self.note(what)


@dataclasses.dataclass
class _Log:
    """A stage, as a log tells of it."""

    name: str
    steps: int
    first: tuple[int, float] | None = None  # steps that were done when it was first heard of, and when that was

    def between(self, done: int, now: float, told: str) -> str:
        """'combined: step 250 of 1500, 31 steps/s, ETA 0:00:40, loss 0.41'. Compiling is no part of the rate."""
        known, begun = self.first or (done, now)
        rate = (done - known) / (now - begun) if now > begun else 0.0
        pace = f'{rate:.3g} steps/s, ETA {timedelta(seconds=round((self.steps - done) / rate))}' if rate else ''
        return ', '.join(filter(None, (f'{self.name}: step {done} of {self.steps}', pace, told)))
