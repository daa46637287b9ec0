"""The pair while operators look: JSON logs, metrics scraped every second, traces sent to a collector."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from benchmarks.sides.pair import Pair
from services.embedded.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from benchmarks.sides.place import Place

SCRAPED_EVERY: Final = timedelta(seconds=1)

# A tenant's own limits would be measured otherwise.
_UNLIMITED: Final = {"KONGFLOW_TENANT_CALLS_PER_SECOND": "1000000", "KONGFLOW_TENANT_CALLS_BURST": "10000000"}


class SilentPair(Pair):
    """The pair with no telemetry but the counters in its memory, which nobody reads."""

    def __init__(self, place: Place, *, most_jobs: int) -> None:
        super().__init__(
            place,
            name="pair, silent",
            redis_number=4,
            most_jobs=most_jobs,
            more_variables={**_UNLIMITED, "KONGFLOW_LOG_LEVEL": "error"},
        )


class ObservedPair(Pair):
    """The pair with all its telemetry at the defaults; a collector takes the traces and forgets them."""

    def __init__(self, place: Place, *, most_jobs: int) -> None:
        collector, *scraped = (free_port() for _ in range(3))
        self._collector_port = collector
        self._scraped = [f"http://{LOOPBACK}:{port}/metrics" for port in scraped]
        self._around = AsyncExitStack()
        server, worker = (f"{LOOPBACK}:{port}" for port in scraped)
        super().__init__(
            place,
            name="pair, observed",
            redis_number=5,
            most_jobs=most_jobs,
            more_variables={
                **_UNLIMITED,
                "KONGFLOW_LOG_LEVEL": "info",
                "KONGFLOW_LOG_FORMAT": "json",
                "KONGFLOW_METRICS_ADDRESS": server,
                "KONGFLOW_WORKER_HEALTH_ADDRESS": worker,
                "KONGFLOW_TRACES_ENDPOINT": f"http://{LOOPBACK}:{collector}",
            },
        )
        self.spans_received_bytes = 0
        self.scrapes = 0

    async def start(self) -> None:
        """Start the collector, the pair and what scrapes it."""
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        self._around.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, LOOPBACK, self._collector_port).start()
        await super().start()
        self._around.push_async_callback(_end, asyncio.create_task(self._scrape()))

    async def stop(self) -> None:
        """End every process, which sends its last spans, and then what looked at them."""
        await super().stop()
        await self._around.aclose()

    async def _take(self, request: web.Request) -> web.Response:
        self.spans_received_bytes += len(await request.read())
        return web.Response(content_type="application/x-protobuf")

    async def _scrape(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for url in self._scraped:
                    # A pair that is held still answers when it goes on.
                    with suppress(aiohttp.ClientConnectionError):
                        async with session.get(url) as response:
                            await response.read()
                            self.scrapes += 1
                await asyncio.sleep(SCRAPED_EVERY.total_seconds())


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
