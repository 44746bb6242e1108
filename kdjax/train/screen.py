"""The one thing that speaks to a terminal: progress with step and ETA, and what a person should read."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class Screen:
    """Progress bars on standard error, one per stage; text and tables on standard output; nothing where `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._out = Console(quiet=quiet)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn('{task.description:<26}'),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('ETA'),
            Remaining(),
            console=Console(stderr=True, quiet=quiet),
        )
        self._task: Any = None
        self._whole: Any = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bars.stop()

    def whole(self, name: str, total: int) -> None:
        """Begins something of many stages: a bar of its own, which stays; stages go when they are done."""
        self._whole = self._bars.add_task(name, total=total)

    def so_far(self, done: int) -> None:
        """So much of the whole is done."""
        self._bars.update(self._whole, completed=done)

    def stage(self, name: str, steps: int = 1) -> None:
        """Begins a stage of so many steps."""
        if self._whole is not None and self._task is not None:
            self._bars.update(self._task, visible=False)
        self._task = self._bars.add_task(name, total=steps)

    def step(self, done: int) -> None:
        """So many steps of the stage are done."""
        self._bars.update(self._task, completed=done)

    def finished(self, seconds: float | None = None) -> None:
        """The stage is done; without `seconds` it had been done by an earlier run."""
        task = self._bars.tasks[self._bars.task_ids.index(self._task)]
        self._bars.update(self._task, completed=task.total)
        if seconds is None:
            self._bars.update(self._task, description=f'{task.description} (done before)')

    def show(self, *what: Any) -> None:
        """Prints text or tables."""
        self._out.print(*what, soft_wrap=True)
