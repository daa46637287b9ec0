"""What the loops of a server do when a round of theirs fails: they go on, and tell of each outage once."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import structlog

from services.endpoints.domain.errors import DatabaseDefectError, KongflowError
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.observer import LoopObserver

_log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

_SHORTEST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=2)


class Loop(Protocol):
    """What a server does again and again, beside answering calls."""

    async def run(self, rounds: Rounds) -> None:
        """Do it until cancelled."""
        ...


class Rounds:
    """Repeats a loop's round until it succeeds.

    Only what PostgreSQL and Redis answer, or that they do not, is borne. Everything else is a defect of the program,
    and ends the loop and with it the server.
    """

    def __init__(self, loop: str, *, observer: LoopObserver, jitter: Jitter = random.random) -> None:
        """Name the loop, as the log and the metric do."""
        self._loop = loop
        self._observer = observer
        self._jitter = jitter

    async def complete(
        self, work: Callable[[], Awaitable[_Result]], *, longest_pause: timedelta = _LONGEST_PAUSE
    ) -> _Result:
        """Return what `work` answers, after pauses of 0.2 s, doubling up to `longest_pause`, for as long as it fails.

        Each failure is counted; the first of an outage is logged, and the next one that is another.
        """
        backoff = Backoff(base=min(_SHORTEST_PAUSE, longest_pause), cap=longest_pause)
        failures = 0
        told: tuple[str, type[object]] | None = None
        while True:
            try:
                result = await work()
            except (KongflowError, DatabaseDefectError, QueueUnavailableError, TimeoutError) as error:
                failures += 1
                self._observer.count_failed_round(self._loop)
                if told != (cause := (str(error), type(error.__cause__))):
                    told = cause
                    self._tell(error)
                await asyncio.sleep(backoff.delay(attempt=failures, jitter=self._jitter()).total_seconds())
            else:
                if failures:
                    _log.info("loop_goes_on", loop=self._loop, failures=failures)
                return result

    def _tell(self, error: Exception) -> None:
        tell, exc_info = (_log.error, error) if isinstance(error, DatabaseDefectError) else (_log.warning, None)
        tell(
            "loop_waits",
            loop=self._loop,
            error=type(error).__name__,
            cause=type(error.__cause__).__name__,
            message=str(error),
            exc_info=exc_info,
        )
