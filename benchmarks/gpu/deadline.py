"""When things must have ended: a moment, and how phases share the time before it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A moment `seconds` from now.

    clock: seconds of a clock that never goes back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds until then, 0 or more."""
        return max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        return self.remaining() <= 0

    def within(self, seconds: float, *, reserve: float = 0.0) -> Deadline:
        """`seconds` from now, but no later than `reserve` seconds before this deadline."""
        return Deadline(min(seconds, max(0.0, self.remaining() - reserve)), self._clock)
