"""Watches: calls that stay open and look again. Each tenant has so many at a server, and a drain ends them all."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.operations.limits import tenant_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from services.endpoints.domain.ports.publisher import WakeUp
    from services.endpoints.domain.tenancy import Principal

_POLL: Final = timedelta(seconds=1)
_RESUME_AFTER: Final = timedelta(seconds=1)
_QUOTA_RETRY_AFTER: Final = timedelta(seconds=10)
_AT_ONCE: Final = timedelta()


class Watch:
    """One open watch."""

    def __init__(
        self, wake_up: WakeUp, draining: asyncio.Event, *, advice: str, readmit: Callable[[], Awaitable[None]]
    ) -> None:
        """Hold the flag of this watch, that of the server, what to do when the server stops, and who may go on."""
        self._wake_up = wake_up
        self._draining = draining
        self._advice = advice
        self._readmit = readmit

    async def changed(self, *, quiet: timedelta = _AT_ONCE) -> bool:
        """Return True when woken, False after a second without, and neither before `quiet` has passed.

        Raises:
            KongflowError: DRAINING, this server stops; what `readmit` raised, because the caller may watch no longer.
        """
        if quiet:
            with suppress(TimeoutError):
                async with asyncio.timeout(quiet.total_seconds()):
                    await self._draining.wait()
        is_woken = not self._draining.is_set() and await self._wake_up.wait(_POLL - quiet)
        if self._draining.is_set():
            raise KongflowError(
                f"This server is stopping; {self._advice}.", reason=Reason.DRAINING, retry_after=_RESUME_AFTER
            )
        await self._readmit()
        return is_woken


class Watches:
    """Opens watches; admin tokens count as one tenant."""

    def __init__(self, *, most_per_tenant: int = 100) -> None:
        """Hold how many a tenant may have open here at once."""
        self._most = most_per_tenant
        self._wake_ups: set[WakeUp] = set()
        self._open: Counter[str] = Counter()
        self._draining = asyncio.Event()

    @property
    def count(self) -> int:
        """Return how many are open here."""
        return self._open.total()

    def end(self) -> None:
        """Let every watch end with DRAINING, so that its caller goes on elsewhere."""
        self._draining.set()
        for wake_up in self._wake_ups:
            wake_up.wake()

    @contextmanager
    def open(
        self,
        principal: Principal,
        wake_up: WakeUp,
        *,
        advice: str,
        readmit: Callable[[], Awaitable[None]],
    ) -> Iterator[Watch]:
        """Count a watch of the principal's tenant for the time of the block.

        `wake_up` stays the caller's; `advice` is for who watches, at a drain. A watch outlives what allowed it: before
        each look `readmit` recognises its caller again, or raises.

        Raises:
            KongflowError: QUOTA_EXCEEDED, the tenant has as many as it may.
        """
        tenant = tenant_name(principal)
        if self._open[tenant] >= self._most:
            raise KongflowError(
                f"There are {self._most} watches open here already; end one of them first.",
                reason=Reason.QUOTA_EXCEEDED,
                metadata={"limit": str(self._most), "tenant": tenant},
                retry_after=_QUOTA_RETRY_AFTER,
            )
        self._open[tenant] += 1
        self._wake_ups.add(wake_up)
        try:
            yield Watch(wake_up, self._draining, advice=advice, readmit=readmit)
        finally:
            self._wake_ups.discard(wake_up)
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
