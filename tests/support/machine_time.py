"""Time without the moments in which the machine stood still: what limits in seconds are held against."""

from __future__ import annotations

import functools
import threading
import time
from typing import Final

_TICK: Final = 0.02
_MAY_BE_LATE: Final = 0.1


class _Ticker(threading.Thread):
    """Sleeps for a tick again and again: what it oversleeps by far, nobody else on this machine could use either."""

    def __init__(self) -> None:
        super().__init__(name="machine-time", daemon=True)
        self._lock = threading.Lock()
        self._asleep_since = time.monotonic()
        self._stood_still = 0.0

    def run(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                woken = time.monotonic()
                self._stood_still += self._overslept(woken)
                self._asleep_since = woken

    def now(self) -> float:
        with self._lock:
            now = time.monotonic()
            return now - self._stood_still - self._overslept(now)

    def _overslept(self, now: float) -> float:
        return max(0.0, now - self._asleep_since - _TICK - _MAY_BE_LATE)


@functools.cache
def _ticker() -> _Ticker:
    ticker = _Ticker()
    ticker.start()
    return ticker


def stood_still() -> float:
    """Return for how many seconds this machine has stood still since somebody first asked for its time."""
    return time.monotonic() - machine_time()


def machine_time() -> float:
    """Return seconds since some moment, like time.monotonic, in which this machine ran.

    A shared machine gives its processors to others for seconds at times. Only seconds in which it ran say something of
    the code under test.
    """
    return _ticker().now()
