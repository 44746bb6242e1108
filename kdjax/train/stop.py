"""Requests to stop: heard and answered at once, obeyed where nothing is lost."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from kdjax.train import distributed

ANSWER = b'\n%s: stopping after this dispatch, saving; Ctrl-C again to stop now\n'
AT_ONCE = b'\nstopped at once; what was saved before is there, and the same command goes on\n'
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While open, SIGTERM and Ctrl-C ask for a stop at the next safe point; Ctrl-C then stops at once.

    A thread answers: Python itself hears of a signal only when XLA has come back, which may be minutes in compiling. A
    SIGTERM after another signal changes nothing: a scheduler may send it to a process both itself and through whoever
    started the process. What stops at once leaves with exit code 130, and nothing half written: as if killed.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._answering = threading.Thread(target=_answer, args=(reading,), daemon=True)
        self._answering.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._writing)  # which ends the thread
        self._answering.join()

    def agreed(self) -> signal.Signals | None:
        """What any process of the job was asked; all must ask together."""
        number = max(distributed.gathered(self.asked or 0))
        return signal.Signals(number) if number else None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or signal.Signals(number)


def _answer(reading: int) -> None:
    """Answers every signal that comes through a pipe, until it is closed."""
    heard = False
    while numbers := os.read(reading, 64):
        for number in numbers:
            if number not in SIGNALS:  # the pipe tells of every signal that has a handler
                continue
            if heard and number == signal.SIGINT:
                _say(AT_ONCE)
                os._exit(128 + signal.SIGINT)
            if not heard:
                _say(ANSWER % signal.Signals(number).name.encode())
            heard = True
    os.close(reading)


def _say(what: bytes) -> None:
    """To standard error, whatever holds its lock; it may be gone, as that of a terminal that was closed."""
    with contextlib.suppress(OSError):
        os.write(2, what)
