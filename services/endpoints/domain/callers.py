"""Who waits for an answer, so that what waits only for its turn makes room."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Fewer are answered at once beside everything else.
MANY: Final = 4
# Callers come in bursts: between two of them there is nobody, and no room either.
PAUSE: Final = timedelta(milliseconds=20)


class Callers:
    """Counts the calls that are being answered.

    The interpreter and PostgreSQL share their time evenly among all who want it: the more queue jobs are settled at
    once, the longer each caller waits.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Count from nobody; `monotonic` is in seconds."""
        self._monotonic = monotonic
        self._count = 0
        self._many_until = 0.0

    @property
    def are_many(self) -> bool:
        """Tell whether work that can wait should make room: callers are many, or were a moment ago."""
        return self._count >= MANY or self._monotonic() < self._many_until

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count one more until the block ends."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Count one less until the block ends: this caller waits for somebody else, and takes no room meanwhile."""
        self._add(-1)
        try:
            yield
        finally:
            self._add(1)

    def _add(self, change: int) -> None:
        if self._count >= MANY:
            self._many_until = self._monotonic() + PAUSE.total_seconds()
        self._count += change
