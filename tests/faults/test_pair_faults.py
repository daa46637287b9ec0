"""What must hold after a process is killed or Redis is emptied in the middle of an index."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from services.worker.message import queue_key
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, held_until, in_turn, index_of, on
from tests.support.processes import running_processes
from tests.support.registrations import counted_registrations, exactly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.registrations import Registrations

pytestmark = pytest.mark.bounded

JOBS = 1_000
BACK_TO_WORK = timedelta(seconds=15)


@pytest.fixture
async def registrations(database_url: str) -> AsyncIterator[Registrations]:
    async with counted_registrations(database_url) as registrations:
        yield registrations


@pytest.fixture
async def processes(
    database_url: str, redis_url: str, tmp_path: Path, registrations: Registrations
) -> AsyncIterator[Processes]:
    async with running_processes(database_url=database_url, redis_url=redis_url, directory=tmp_path) as processes:
        yield processes


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint(index=index_of(JOBS)) as endpoint:
        yield endpoint


async def begin_index(processes: Processes, endpoint: FakeEndpoint) -> None:
    """Register the endpoint, which asks for its index."""
    tenant = await processes.pair.new_tenant()
    endpoint.api_key = tenant.api_key
    await processes.pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)


async def stand_in_the_middle(processes: Processes, endpoint: FakeEndpoint, registrations: Registrations) -> None:
    """Begin an index and stop where some jobs are registered, others wait, and a batch is under way."""
    await registrations.close_gate(after=JOBS // 3)
    await begin_index(processes, endpoint)
    await registrations.batch_waits_at_gate()
    assert JOBS // 3 <= await registrations.registered() < JOBS


async def assert_registered_exactly_once(
    registrations: Registrations, endpoint: FakeEndpoint, *, index_calls: int = 1
) -> None:
    await eventually(registrations.is_over, within=BACK_TO_WORK)
    assert await registrations.summary() == exactly(JOBS)
    assert len(endpoint.calls("INDEX_ENDPOINT")) == index_calls
    assert index_calls <= await registrations.index_attempts_and_rescues()


async def test_kill_of_the_worker_in_the_middle_of_an_index(
    processes: Processes, endpoint: FakeEndpoint, registrations: Registrations
) -> None:
    await stand_in_the_middle(processes, endpoint, registrations)

    await processes.worker.kill()
    await registrations.open_gate()
    await processes.worker.start()

    await assert_registered_exactly_once(registrations, endpoint)


async def test_kill_of_the_server_in_the_middle_of_an_index(
    processes: Processes, endpoint: FakeEndpoint, registrations: Registrations
) -> None:
    await stand_in_the_middle(processes, endpoint, registrations)
    before = await registrations.registered()

    await processes.server.kill()
    await registrations.open_gate()
    assert await registrations.registered() == before
    await processes.server.start()

    await assert_registered_exactly_once(registrations, endpoint)


async def test_flush_of_redis_in_the_middle_of_an_index(
    processes: Processes, endpoint: FakeEndpoint, registrations: Registrations, redis_url: str
) -> None:
    await stand_in_the_middle(processes, endpoint, registrations)
    async with Redis.from_url(redis_url) as redis:
        processes.worker.freeze()
        # The frozen worker's last pop would take the message that is to be lost.
        await eventually(lambda: nobody_pops(redis))
        await registrations.open_gate()
        await eventually(lambda: redis.zcard(queue_key("default")))
        await redis.flushall()
    assert await registrations.registered() < JOBS
    processes.worker.thaw()

    await assert_registered_exactly_once(registrations, endpoint)


async def test_kill_of_the_server_while_it_waits_for_the_endpoint(
    processes: Processes, endpoint: FakeEndpoint, registrations: Registrations
) -> None:
    never = asyncio.Event()
    endpoint.behaviour = on("INDEX_ENDPOINT", in_turn(held_until(never), None))
    await begin_index(processes, endpoint)
    await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))

    await processes.server.kill()
    await processes.server.start()

    await assert_registered_exactly_once(registrations, endpoint, index_calls=2)
    never.set()


async def nobody_pops(redis: Redis) -> bool:
    clients = await redis.info("clients")
    return bool(clients["blocked_clients"] == 0)
