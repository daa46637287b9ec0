"""A consumer and its slots, on a real Redis, with a server in memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from services.endpoints.queue.connection import open_redis
from services.endpoints.queue.publisher import ArqPublisher
from services.worker.consumer import PoppingWorker
from services.worker.metrics import WorkerMetrics
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

LONG = timedelta(seconds=10)


class MemoryServer:
    """Runs `work` for each message."""

    def __init__(self) -> None:
        self.is_reachable = True
        self.calls: list[list[str]] = []
        self.work: Callable[[], Any] = lambda: None
        self.release = asyncio.Event()
        self.release.set()

    async def wait_until_reachable(self) -> None:
        await asyncio.Event().wait()

    async def run_queue_jobs(self, queue: str, lanes: Sequence[str]) -> None:
        assert queue == "default"
        self.calls.append(list(lanes))
        self.work()
        await self.release.wait()


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[Any]:
    client = open_redis(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def server() -> MemoryServer:
    return MemoryServer()


def _worker(
    redis_client: Any, server: MemoryServer, *, concurrency: int = 2, job_timeout: timedelta = LONG
) -> PoppingWorker:
    return PoppingWorker(
        queue="default",
        concurrency=concurrency,
        server=server,
        redis=redis_client,
        metrics=WorkerMetrics(),
        pop_timeout=timedelta(seconds=1),
        job_timeout=job_timeout,
    )


async def _stop(worker: PoppingWorker, popping: asyncio.Task[None]) -> None:
    worker.stop_popping()
    await worker.end_pop()
    await popping


async def _pops(redis_client: Any) -> int:
    statistics = await redis_client.info("commandstats")
    return sum(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("bzpopmin", "zpopmin"))


async def test_crash_in_a_call_frees_its_slot_and_is_logged(redis_client: Any, server: MemoryServer) -> None:
    def crash() -> None:
        raise ZeroDivisionError

    server.work = crash
    await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]] * 5)
    worker = _worker(redis_client, server)
    with capture_logs() as logs:
        popping = asyncio.create_task(worker.main())
        await eventually(lambda: worker.jobs_failed == 5)
        await _stop(worker, popping)
    assert sum(line["event"] == "call_crashed" for line in logs) == 5
    assert worker.job_counter == 0
    assert worker.tasks == {}


async def test_call_that_forgets_its_deadline_is_ended(redis_client: Any, server: MemoryServer) -> None:
    server.release.clear()
    await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]])
    worker = _worker(redis_client, server, job_timeout=timedelta(milliseconds=50))
    with capture_logs():
        popping = asyncio.create_task(worker.main())
        await eventually(lambda: worker.jobs_failed == 1)
        await _stop(worker, popping)


async def test_nothing_is_popped_while_the_server_is_away(redis_client: Any, server: MemoryServer) -> None:
    server.is_reachable = False
    publisher = ArqPublisher(redis=redis_client)
    await publisher.publish("default", [["endpoint-1"]])
    worker = _worker(redis_client, server)
    popping = asyncio.create_task(worker.main())
    await eventually(lambda: worker.is_popping)
    await _stop(worker, popping)
    assert await publisher.waiting("default") == 1
    assert server.calls == []


async def test_full_consumer_stops_without_popping(redis_client: Any, server: MemoryServer) -> None:
    server.release.clear()
    publisher = ArqPublisher(redis=redis_client)
    pops_before = await _pops(redis_client)
    await publisher.publish("default", [["endpoint-1"]] * 3)
    worker = _worker(redis_client, server, concurrency=2)
    popping = asyncio.create_task(worker.main())
    await eventually(lambda: len(server.calls) == 2)
    await _stop(worker, popping)
    assert await publisher.waiting("default") == 1
    assert await _pops(redis_client) - pops_before <= 2
    server.release.set()
    assert await worker.drain(LONG) == 0
    assert worker.jobs_complete == 2


async def test_drain_waits_for_what_is_held_and_cancels_what_is_late(redis_client: Any, server: MemoryServer) -> None:
    server.release.clear()
    await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]] * 2)
    worker = _worker(redis_client, server)
    popping = asyncio.create_task(worker.main())
    await eventually(lambda: len(server.calls) == 2)
    await _stop(worker, popping)
    assert await worker.drain(timedelta(0)) == 2
    assert worker.jobs_complete == 0
    assert await worker.drain(LONG) == 0


async def test_message_popped_by_the_last_pop_is_still_run(redis_client: Any, server: MemoryServer) -> None:
    worker = _worker(redis_client, server)
    popping = asyncio.create_task(worker.main())
    await eventually(lambda: worker.is_popping)
    worker.stop_popping()
    await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]])
    await popping
    await worker.drain(LONG)
    assert len(server.calls) + await redis_client.zcard("kongflow:queue:default") == 1


async def test_messages_are_started_in_the_order_they_were_published(redis_client: Any, server: MemoryServer) -> None:
    lanes = [[f"endpoint-{number}"] for number in range(40)]
    await ArqPublisher(redis=redis_client).publish("default", lanes)
    worker = _worker(redis_client, server, concurrency=3)
    popping = asyncio.create_task(worker.main())
    await eventually(lambda: len(server.calls) == 40)
    await _stop(worker, popping)
    assert server.calls == lanes
