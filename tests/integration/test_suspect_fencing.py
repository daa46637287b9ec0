"""What a suspect lane does when its server freezes between the steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.telemetry.metrics import Metrics
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.queue_job import NewQueueJob
    from services.endpoints.operations.gathering import RunResult
    from services.endpoints.store.postgres import PostgresStore
    from tests.support.ledger import World

_Result = TypeVar("_Result")


class FreezingStore:
    """Does so many transactions, then waits to be woken before the next one."""

    def __init__(self, store: PostgresStore, *, after: int) -> None:
        self.frozen = asyncio.Event()
        self.woken = asyncio.Event()
        self._store = store
        self._left = after

    async def transact(self, work: Callable[[Transaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS) -> _Result:
        if self._left == 0:
            self.frozen.set()
            await self.woken.wait()
        self._left -= 1
        return await self._store.transact(work, pool)


# The lanes are locked, the suspect one is taken, the first queue job is begun, and it is run.
@pytest.mark.parametrize("after", [2, 3, 4])
async def test_server_that_wakes_late_writes_nothing_to_a_lane_that_another_has_done(world: World, after: int) -> None:
    await world.enqueue(queue_job("a"), queue_job("b"))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    store = FreezingStore(world.store, after=after)
    late = asyncio.create_task(_runner_on(store, world).run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
    await store.frozen.wait()

    await world.let_leases_run_out()
    assert await world.rescue.run_once() == 1
    await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])
    store.woken.set()
    result = await late

    assert result.completed == after - 3 if after > 3 else result.is_nothing_due
    assert sorted(world.batch.done) == ["a", "b"]
    assert await world.states() == {"a": "COMPLETED", "b": "COMPLETED"}
    assert await world.lanes() == {}


async def test_attempt_that_was_fenced_before_it_began_counts_as_ended(world: World) -> None:
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    store = FreezingStore(world.store, after=3)
    late = asyncio.create_task(_runner_on(store, world).run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
    await store.frozen.wait()
    assert (await world.row("a"))["unended"] == 1
    await world.let_leases_run_out()
    await world.rescue.run_once()
    store.woken.set()

    assert (await late).is_nothing_due
    assert (await world.row("a"))["unended"] == 0
    assert (await world.work_off()).completed == 1


@pytest.mark.parametrize("is_retried", [False, True], ids=["cancelled", "cancelled and retried"])
async def test_cancelling_what_is_about_to_run_alone_leaves_the_rest_of_its_lane(
    world: World, *, is_retried: bool
) -> None:
    cancelled = queue_job("a")
    await world.enqueue(cancelled, queue_job("b"))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    store = FreezingStore(world.store, after=3)
    running = asyncio.create_task(_runner_on(store, world).run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
    await store.frozen.wait()
    async with world.store.transaction() as tx:
        await tx.ledger.cancel([cancelled.id], message="not wanted")
        if is_retried:
            await tx.queue_control.retry([cancelled.id])
    store.woken.set()

    assert (await running).completed == 1 + is_retried
    assert await world.states() == {"a": "COMPLETED" if is_retried else "CANCELLED", "b": "COMPLETED"}
    assert await world.lanes() == {}


async def test_call_that_was_fenced_before_it_began_is_not_made(world: World) -> None:
    late, store = await _freeze_before_a_suspect_call(world, queue_job("a", kind="call"))
    await world.let_leases_run_out()
    assert await world.rescue.run_once() == 1
    store.woken.set()

    assert (await late).is_nothing_due
    assert world.call.calls == []
    assert (await world.row("a"))["unended"] == 0
    assert (await world.work_off()).completed == 1


async def test_call_that_is_cancelled_just_before_it_begins_leaves_its_lane_idle(world: World) -> None:
    cancelled = queue_job("a", kind="call")
    running, store = await _freeze_before_a_suspect_call(world, cancelled, queue_job("b", kind="call"))
    async with world.store.transaction() as tx:
        await tx.ledger.cancel([cancelled.id], message="not wanted")
    store.woken.set()

    assert (await running).is_nothing_due
    assert await world.lanes() == {}
    assert (await world.work_off()).completed == 1
    assert world.call.calls == ["b"]


async def _freeze_before_a_suspect_call(
    world: World, *queue_jobs: NewQueueJob
) -> tuple[asyncio.Task[RunResult], FreezingStore]:
    await world.enqueue(*queue_jobs)
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    store = FreezingStore(world.store, after=3)
    late = asyncio.create_task(_runner_on(store, world).run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await store.frozen.wait()
    return late, store


def _runner_on(store: FreezingStore, world: World) -> QueueJobRunner:
    return QueueJobRunner(
        store=cast("Store", store),
        batch_handlers={"batch": world.batch},
        calling_handlers={"call": world.call},
        finality=world.finality,
        leases=world.leases,
        settings=world.settings,
        observer=Metrics(),
        jitter=lambda: 0.0,
    )
