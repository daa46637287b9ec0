"""Neither one call that is slow to end, nor connections that are lost, cost anybody a lease."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.gathering import RunResult
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.rounds import Rounds
from services.endpoints.store.postgres import DEFAULT_POOLS, PostgresStore
from tests.support.eventually import eventually
from tests.support.ledger import queue_job
from tests.support.machine_time import machine_time
from tests.support.proxy import TcpProxy

if TYPE_CHECKING:
    from datetime import datetime

    from tests.support.ledger import World

OVERDUE = "SELECT lane FROM queue_lanes WHERE lease_until < clock_timestamp() ORDER BY lane"


async def test_lease_is_renewed_while_the_end_of_another_call_is_being_written(world: World, database_url: str) -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    world.call.answers = lambda _queue_job: asyncio.shield(answer)
    await world.enqueue(queue_job("a", kind="call"), queue_job("b", kind="call", lane="lane-b"))
    await world.relay.run_once()
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a", "lane-b"]))
    await eventually(lambda: len(world.call.calls) == 2)
    await world.let_leases_run_out()

    ending = await asyncpg.connect(database_url)
    try:
        async with ending.transaction():
            await ending.execute("SELECT FROM queue_lanes WHERE lane = 'lane-a' FOR UPDATE")
            await world.leases.run_once()
            assert [row["lane"] for row in await world.connection.fetch(OVERDUE)] == ["lane-a"]
    finally:
        await ending.close()
    await world.leases.run_once()

    assert await world.connection.fetch(OVERDUE) == []
    answer.set_result("in time")
    assert await running == RunResult(completed=2)


async def test_lease_is_renewed_in_time_when_every_connection_is_lost_without_a_word(
    world: World, database_url: str
) -> None:
    port = urlsplit(database_url).port
    assert port is not None
    settings = replace(world.settings, lease=timedelta(seconds=6), renew_every=timedelta(seconds=1))
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy(upstream_port=port))
        store = PostgresStore(
            database_url=database_url.replace(f":{port}/", f":{proxy.port}/"),
            on_ledger_change=lambda: None,
            pools={
                **DEFAULT_POOLS,
                Pool.LEASES: replace(DEFAULT_POOLS[Pool.LEASES], silence=settings.renewal_takes / 2),
            },
        )
        await store.open()
        stack.push_async_callback(store.close)
        async with store.transaction() as tx:
            claim = await tx.ledger.take_lane(Queue.DEFAULT, "lane-a", lease=settings.lease)
        leases = LeaseKeeper(store=store, settings=settings)
        assert claim is not None
        leases.hold(claim)
        # What everybody else does hangs, too.
        for _ in range(DEFAULT_POOLS[Pool.RELAY].max_size):
            await stack.enter_async_context(store.reading(Pool.RELAY))
        began, until = machine_time(), await lease_until(world)
        proxy.lose()
        renewing = asyncio.create_task(leases.run(Rounds("leases", observer=world.metrics)))
        stack.callback(renewing.cancel)

        async def is_renewed() -> bool:
            return await lease_until(world) > until

        await eventually(is_renewed)
        assert machine_time() - began < settings.lease.total_seconds()


async def lease_until(world: World) -> datetime:
    until: datetime = await world.connection.fetchval("SELECT lease_until FROM queue_lanes")
    return until
