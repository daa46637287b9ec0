"""How a server leaves: calls that still come are told to go elsewhere, and it closes when hardly any comes."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from grpc_health.v1 import health, health_pb2_grpc

from services.endpoints.domain.errors import KongflowError, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from grpc_health.v1 import health_pb2

    _Context = grpc.aio.ServicerContext[Any, Any]

# How long callers are given to notice, and how long it must be quiet to believe that they did.
NOTICE: Final = timedelta(seconds=1)
QUIET: Final = timedelta(milliseconds=100)
# How long answers may take to arrive, and streams to end, once nothing is worked on any more.
LAST_WORDS: Final = timedelta(seconds=5)

_RETRY_AFTER: Final = timedelta(seconds=1)


class Drain:
    """Refuses calls once it has begun.

    gRPC itself kills what arrives while it closes, and its caller sees CANCELLED; a call that is refused before that
    is told why, and when to come again.
    """

    def __init__(self) -> None:
        """Take calls until `begin`."""
        self._has_begun = False
        self._refused = asyncio.Event()
        self._under_way = 0
        self._answered = asyncio.Event()
        self._answered.set()

    def begin(self) -> None:
        """Refuse calls from now on."""
        self._has_begun = True

    def admit(self) -> None:
        """Let a call pass.

        Raises:
            KongflowError: DRAINING, this server stops.
        """
        if self._has_begun:
            self._refused.set()
            raise stopping_error()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a call for the time of the block as one whose answer is waited for."""
        self._under_way += 1
        self._answered.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._answered.set()

    async def answered(self, *, at_most: timedelta) -> None:
        """Return when there is no such call, or after `at_most`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                await self._answered.wait()

    async def noticed(self, *, quiet: timedelta = QUIET, at_most: timedelta = NOTICE) -> None:
        """Return when no call came for `quiet`, or after `at_most`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                while await self._comes_within(quiet):
                    self._refused.clear()

    async def _comes_within(self, quiet: timedelta) -> bool:
        try:
            async with asyncio.timeout(quiet.total_seconds()):
                return await self._refused.wait()
        except TimeoutError:
            return False


class _Outbox:
    """Takes at once what a watch is to tell, and tells the latest of it as fast as its client reads.

    The library writes under a lock, for which every other watch of the service waits, and whoever sets its health.
    """

    def __init__(self) -> None:
        self._latest: health_pb2.HealthCheckResponse | None = None
        self._is_new = asyncio.Event()

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        self._latest = answer
        self._is_new.set()

    async def tell(self, context: _Context) -> None:
        while await self._is_new.wait():
            self._is_new.clear()
            await context.write(self._latest)


class DrainableHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # the library has no types
    """The library's health service, whose watches end with a drain: they would hold up the server's end."""

    def __init__(self) -> None:
        """Watch until `end_watches`."""
        self._health = health.aio.HealthServicer()
        self._ended = asyncio.Event()

    async def set(self, service: str, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Say how a service is; after `enter_graceful_shutdown` nothing changes any more."""
        await self._health.set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        """Say NOT_SERVING for every service, for good."""
        await self._health.enter_graceful_shutdown()

    def end_watches(self) -> None:
        """Let every watch end UNAVAILABLE."""
        self._ended.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> Any:  # noqa: ANN401, N802 - the library's
        """Tell how a service is."""
        return await self._health.Check(request, context)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802 - the library's
        """Tell how a service is whenever that changes.

        Raises:
            KongflowError: DRAINING, this server stops.
        """
        outbox = _Outbox()
        watching = asyncio.create_task(self._health.Watch(request, outbox))
        tasks = [watching, asyncio.create_task(outbox.tell(context)), asyncio.create_task(self._ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._ended.is_set():
            raise stopping_error()
        if not watching.cancelled():
            watching.result()


def stopping_error() -> KongflowError:
    """Return the error of a call that reached a server which stops."""
    return KongflowError(
        "This server is stopping; another one will answer.", reason=Reason.DRAINING, retry_after=_RETRY_AFTER
    )
