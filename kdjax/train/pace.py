"""How many steps go in one dispatch: as many as are done in about a second, so that a stop need not wait."""

import math
import time

from kdjax.train import distributed

LONGEST = 1.0  # seconds of a dispatch; one more is under way while it is waited for
SPARE = 2  # times as long as that before it is shortened: each length is compiled anew, and machines are noisy


def fitting(seconds: float, chunk: int) -> int:
    """Steps of a dispatch, where one takes so long; at most the chunk."""
    return max(1, min(chunk, int(LONGEST / seconds))) if seconds else chunk


class Pace:
    """Shortens the dispatches of slow steps, by what those before took. It changes no number: a step is the same step.

    Args:
      steps: of a dispatch, at most.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.fastest = math.inf  # seconds of a step
        self._seen: set[int] = set()  # lengths that are compiled
        self._sent: list[tuple[int, float]] = []  # steps of dispatches under way, and from when each may have run
        self._last = 0.0

    def sending(self, steps: int) -> None:
        """A dispatch is about to be sent."""
        self._sent.append((steps, time.perf_counter()))

    def sent(self) -> None:
        """It has been: the time until here was that of compiling, if its length is new."""
        steps, _ = self._sent[-1]
        if steps not in self._seen:
            self._seen.add(steps)
            self._sent[-1] = (steps, time.perf_counter())

    def done(self) -> None:
        """The oldest dispatch under way is done."""
        steps, begun = self._sent.pop(0)
        now = time.perf_counter()
        took, self._last = now - max(begun, self._last), now
        self.fastest = min(self.fastest, took / steps)
        if took > SPARE * LONGEST:
            self.steps = fitting(took / steps, self.steps)

    def agreed(self) -> int:
        """The steps of the next dispatch, at most; all processes of a job must ask together."""
        return min(distributed.gathered(self.steps))
