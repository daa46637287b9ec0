"""One call that is slow to end never costs the others their leases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.gathering import RunResult
from tests.support.eventually import eventually
from tests.support.ledger import queue_job

if TYPE_CHECKING:
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
