"""Interactive pings: a few tries while somebody waits, ending in time for the reason to arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import KongflowError, Reason

if TYPE_CHECKING:
    from services.endpoints.domain.callers import Callers
    from services.endpoints.domain.endpoint_calls import EndpointAddress, PingResult
    from services.endpoints.domain.ports.endpoint_client import EndpointClient

DEFAULT_TRIES: Final = 3
DEFAULT_PAUSE: Final = timedelta(seconds=1)
_LEAST_TRY: Final = timedelta(milliseconds=50)
_MARGIN: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PingBudget:
    """The time that a ping and what comes before it may take together; `ends_at` is of the monotonic clock."""

    ends_at: float

    @property
    def left(self) -> timedelta:
        """What is left of it, never less than nothing."""
        return timedelta(seconds=max(self.ends_at - monotonic(), 0))


class Pinger:
    """Pings an endpoint a few times."""

    def __init__(
        self,
        *,
        client: EndpointClient,
        callers: Callers,
        total: timedelta,
        each: timedelta,
        tries: int = DEFAULT_TRIES,
        pause: timedelta = DEFAULT_PAUSE,
    ) -> None:
        """Hold the client and who counts the callers.

        There are at most `tries`, `pause` apart. None takes longer than `each`, nor all together than `total`.
        """
        self._client = client
        self._callers = callers
        self._total = total
        self._each = each
        self._tries = tries
        self._pause = pause

    def budget(self, deadline: timedelta | None) -> PingBudget:
        """Return what a ping may take from now on: all ends one second before `deadline`.

        That is the time the caller is still willing to wait; None means the total alone.
        """
        allowed = self._total if deadline is None else min(self._total, max(deadline - _MARGIN, _LEAST_TRY))
        return PingBudget(monotonic() + allowed.total_seconds())

    async def ping(self, address: EndpointAddress, *, budget: PingBudget) -> PingResult:
        """Return the last try's result, its `duration` that of all tries.

        Only failures that may pass are tried again, after a pause. The first try is made, if only for a moment, even
        when nothing is left of the budget: its failure is what the caller has to hear.
        """
        with self._callers.elsewhere():
            return await self._ping(address, budget=budget)

    async def _ping(self, address: EndpointAddress, *, budget: PingBudget) -> PingResult:
        started = monotonic()
        for attempt in range(1, self._tries + 1):
            result = await self._client.ping(address, timeout=max(min(budget.left, self._each), _LEAST_TRY))
            pause = max(self._pause, result.retry_after or self._pause)
            if result.ok or not result.retryable or attempt == self._tries or pause >= budget.left:
                break
            await asyncio.sleep(pause.total_seconds())
        return replace(result, duration=_since(started))


def failed_ping(result: PingResult) -> KongflowError:
    """Return the error for a ping that had to succeed: the protocol's text, the rest as metadata."""
    metadata = {"http_status": str(result.http_status)} if result.http_status is not None else {}
    if result.detail:
        metadata["detail"] = result.detail
    return KongflowError(
        result.error or "The endpoint did not answer its ping.", reason=Reason.FAILED_PING, metadata=metadata
    )


def _since(started: float) -> timedelta:
    return timedelta(seconds=monotonic() - started)
