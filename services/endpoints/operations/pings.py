"""Interactive pings: a few tries while somebody waits, ending in time for the reason to arrive."""

from __future__ import annotations

import asyncio
from dataclasses import replace
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

    async def ping(self, address: EndpointAddress, *, deadline: timedelta | None) -> PingResult:
        """Return the last try's result, its `duration` that of all tries.

        Only failures that may pass are tried again, after a pause. All ends one second before `deadline`, the time the
        caller is still willing to wait.
        """
        with self._callers.elsewhere():
            return await self._ping(address, deadline=deadline)

    async def _ping(self, address: EndpointAddress, *, deadline: timedelta | None) -> PingResult:
        started = monotonic()
        budget = min(self._total, max(deadline - _MARGIN, _LEAST_TRY)) if deadline is not None else self._total
        for attempt in range(1, self._tries + 1):
            left = budget - _since(started)
            result = await self._client.ping(address, timeout=max(min(left, self._each), _LEAST_TRY))
            pause = max(self._pause, result.retry_after or self._pause)
            if result.ok or not result.retryable or attempt == self._tries or _since(started) + pause >= budget:
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
