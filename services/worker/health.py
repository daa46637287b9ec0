"""Says how the worker is: over HTTP, `/healthz`, `/readyz` and `/metrics`, and over gRPC, `grpc.health.v1`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import structlog
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.configuration.values import Address
    from services.worker.metrics import WorkerMetrics

    NotReady = Callable[[], str | None]
    _Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger(__name__)

LOOK_EVERY: Final = timedelta(milliseconds=250)
TOLD_WITHIN: Final = timedelta(milliseconds=200)


class HealthServer:
    """The worker's HTTP port.

    `/healthz` says that the process lives, and `/readyz` whether work gets through it.
    """

    def __init__(self, *, address: Address, metrics: WorkerMetrics, not_ready: NotReady) -> None:
        """Prepare to listen on `address`; `not_ready` gives the reason why no work gets through, or None."""
        self._address = address
        self._metrics = metrics
        self._not_ready = not_ready
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics_text)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text="ok\n") if reason is None else web.Response(text=f"{reason}\n", status=503)

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


class _Outbox:
    """Takes at once what a watch is to tell, and tells the latest of it as fast as its client reads."""

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


class _HealthServicer(health.aio.HealthServicer):  # type: ignore[misc] # the library has no types
    """The library's health service, which writes under a lock: a client that reads nothing held up all others."""

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802 - the library's
        """Tell how a service is whenever that changes."""
        outbox = _Outbox()
        watching = asyncio.create_task(super().Watch(request, outbox))
        tasks = [watching, asyncio.create_task(outbox.tell(context))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not watching.cancelled() and (error := watching.exception()) is not None:
            _log.error("health_watch_failed", exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "A defect of the worker; its log has the cause.")


class GrpcHealthServer:
    """The worker's gRPC port: `grpc.health.v1` and nothing else; SERVING while work gets through."""

    def __init__(self, *, address: Address, not_ready: NotReady) -> None:
        """Prepare to listen on `address`; must be called where an event loop runs."""
        self._address = address
        self._not_ready = not_ready
        self._health = _HealthServicer()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self._looking: asyncio.Task[None] | None = None
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        try:
            port = self._server.add_insecure_port(str(self._address))
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self._address}") from error
        await self.run_once()
        await self._server.start()
        self._looking = asyncio.create_task(self._look_forever())
        return port

    async def run_once(self) -> None:
        """Look whether work gets through, and tell those who watch."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if self._not_ready() is None else status.NOT_SERVING)

    async def close(self) -> None:
        """Tell watchers that it ends, and stop listening."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        # What watchers were told has to leave before their connections are closed.
        await self._server.stop(TOLD_WITHIN.total_seconds())

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            await self.run_once()
