"""Pausing a queue or a lane: nothing is rung, nothing is pulled, and resuming is felt at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
from kongflow.v1 import endpoint_service_pb2
from kongflow.v1.queue_pb2 import QUEUE_DEFAULT, QUEUE_EXECUTION, QUEUE_MAINTENANCE
from kongflow.v1.queue_service_pb2 import PauseQueueRequest, ResumeQueueRequest

from services.endpoints.domain.queue_job import Queue
from services.endpoints.store.postgres import PostgresStore
from tests.support.ledger import queue_job
from tests.support.operator import Operator
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from tests.support.ledger import World
    from tests.support.stage import Stage


async def pause(world: World, lane: str | None) -> None:
    async with world.store.transaction() as tx:
        await tx.queue_control.pause(Queue.DEFAULT, lane, environment_id=None)


async def resume(world: World, lane: str | None) -> bool:
    async with world.store.transaction() as tx:
        return await tx.queue_control.resume(Queue.DEFAULT, lane)


async def test_paused_queue_is_neither_rung_nor_pulled_and_others_are(world: World) -> None:
    await world.enqueue(queue_job("rung before"))
    await world.relay.run_once()
    await pause(world, None)
    await world.enqueue(queue_job("later", lane="lane-b"), queue_job("other", queue=Queue.EVENTS, lane="lane-c"))
    [lanes] = world.take(Queue.DEFAULT)

    assert (await world.runner.run_queue_jobs(Queue.DEFAULT, lanes)).is_nothing_due
    assert await world.lanes() == {}
    await world.work_off()
    assert world.batch.done == ["other"]
    assert await resume(world, None)
    await world.work_off()
    assert sorted(world.batch.done) == ["later", "other", "rung before"]


async def test_paused_lane_holds_up_no_other_and_only_of_its_queue(world: World) -> None:
    await pause(world, "lane-a")
    await world.enqueue(queue_job("a"), queue_job("b", lane="lane-b"), queue_job("c", queue=Queue.EVENTS))
    await world.work_off()
    assert sorted(world.batch.done) == ["b", "c"]
    assert not await resume(world, None)
    await world.work_off()
    assert await resume(world, "lane-a")
    assert not await resume(world, "lane-a")
    await world.work_off()
    assert sorted(world.batch.done) == ["a", "b", "c"]


async def test_pause_is_answered_whoever_ends_it_at_the_same_moment(world: World) -> None:
    async def again(change: Callable[[World, None], Awaitable[object]]) -> None:
        for _ in range(200):
            await change(world, None)

    await asyncio.gather(again(pause), again(pause), again(resume), again(resume))


async def test_call_that_runs_ends_though_its_queue_is_paused(world: World) -> None:
    held = world.hold_calls()
    await world.enqueue(queue_job("a", kind="call"))
    await world.relay.run_once()
    [lanes] = world.take(Queue.EXECUTION)
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, lanes))
    await held.called.wait()
    async with world.store.transaction() as tx:
        await tx.queue_control.pause(Queue.EXECUTION, None, environment_id=None)
    held.answer.set_result("done")
    await running

    assert await world.states() == {"a": "COMPLETED"}


async def test_resuming_and_retrying_wake_the_relays_at_once(database_url: str) -> None:
    woken = asyncio.Event()
    store = PostgresStore(database_url=database_url, on_ledger_change=woken.set)
    await store.open()
    try:
        async with store.transaction() as tx:
            await tx.queue_control.resume(Queue.DEFAULT, None)
            assert not woken.is_set()
        assert woken.is_set()
        woken.clear()
        async with store.transaction() as tx:
            await tx.queue_control.retry([uuid4()])
        assert woken.is_set()
    finally:
        await store.close()


async def test_tenant_pauses_lanes_of_its_own_and_sees_no_others(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    operator = Operator(stage, connection)
    theirs = stage.service.caller(stage.theirs.service_token)
    endpoint = await stage.store_endpoint()
    lane = f"endpoint-{endpoint.id}"
    own = PauseQueueRequest(queue=QUEUE_DEFAULT, lane=lane, reason="The app is being moved.")
    events = PauseQueueRequest(queue=QUEUE_DEFAULT, lane=f"environment-{stage.ours.production.id}-2")

    first = (await stage.writer.queue.PauseQueue(own)).pause
    assert (first.queue, first.lane) == (QUEUE_DEFAULT, lane)
    assert first.paused_by.startswith("token:")
    assert first.reason == "The app is being moved."
    again = PauseQueueRequest(queue=QUEUE_DEFAULT, lane=lane, reason="Another reason.")
    assert (await stage.writer.queue.PauseQueue(again)).pause == first
    await stage.writer.queue.PauseQueue(events)
    upkeep = PauseQueueRequest(queue=QUEUE_MAINTENANCE, reason="The database is being moved.")
    whole = (await stage.admin.queue.PauseQueue(upkeep)).pause
    assert (whole.paused_by, whole.reason) == ("admin", upkeep.reason)
    whole.paused_by = ""
    await stage.admin.queue.PauseQueue(PauseQueueRequest(queue=QUEUE_MAINTENANCE, lane="maintenance"))

    ours = await operator.stats()
    assert [pause.lane for pause in ours["default"].pauses] == [lane, events.lane]
    assert list(ours["maintenance"].pauses) == [whole]
    assert not (await operator.stats(theirs))["default"].pauses
    assert list((await operator.stats(theirs))["maintenance"].pauses) == [whole]
    everybody = await operator.stats(stage.admin)
    assert [(pause.lane, pause.paused_by) for pause in everybody["maintenance"].pauses] == [
        ("", "admin"),
        ("maintenance", "admin"),
    ]

    for call in (
        theirs.queue.PauseQueue(own),
        theirs.queue.ResumeQueue(ResumeQueueRequest(queue=QUEUE_DEFAULT, lane=lane)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.metadata["name"]) == (grpc.StatusCode.NOT_FOUND, lane)
    gone = PauseQueueRequest(queue=QUEUE_DEFAULT, lane=f"endpoint-{uuid4()}")
    for caller in (stage.writer, stage.admin):
        assert (await refused(caller.queue.PauseQueue(gone))).code is grpc.StatusCode.NOT_FOUND

    answer = await stage.writer.queue.ResumeQueue(ResumeQueueRequest(queue=QUEUE_DEFAULT, lane=lane))
    assert answer.was_paused
    answer = await stage.writer.queue.ResumeQueue(ResumeQueueRequest(queue=QUEUE_DEFAULT, lane=lane))
    assert not answer.was_paused


async def test_whole_queues_and_lanes_of_nobody_are_for_admins(stage: Stage) -> None:
    for request in (
        PauseQueueRequest(queue=QUEUE_EXECUTION),
        PauseQueueRequest(queue=QUEUE_MAINTENANCE, lane="maintenance"),
    ):
        refusal = await refused(stage.writer.queue.PauseQueue(request))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert "needs an admin token" in refusal.message
        resume_request = ResumeQueueRequest(queue=request.queue, lane=request.lane)
        assert (await refused(stage.writer.queue.ResumeQueue(resume_request))).reason == "PERMISSION_DENIED"
        for caller in (stage.reader, stage.developer):
            assert (await refused(caller.queue.PauseQueue(request))).message == "This call needs the scope operate."
        await stage.admin.queue.PauseQueue(request)
        assert (await stage.admin.queue.ResumeQueue(resume_request)).was_paused


async def test_pause_needs_a_queue_and_a_lane_that_could_be_one(stage: Stage) -> None:
    unknown = PauseQueueRequest(lane="\x00")
    unknown.MergeFromString(b"\x08\x4d")
    for request in (PauseQueueRequest(lane="x" * 201), unknown):
        refusal = await refused(stage.admin.queue.PauseQueue(request))
        assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["queue", "lane"])
    for reason in ("x" * 501, "\x00"):
        refusal = await refused(stage.admin.queue.PauseQueue(PauseQueueRequest(reason=reason)))
        assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["queue", "reason"])


async def test_deleted_endpoint_takes_the_pause_of_its_lane_along(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    endpoint = await stage.store_endpoint()
    await stage.writer.queue.PauseQueue(PauseQueueRequest(queue=QUEUE_DEFAULT, lane=f"endpoint-{endpoint.id}"))
    delete = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=endpoint.id)
    await stage.writer.endpoints.DeleteEndpoint(delete)

    assert await connection.fetchval("SELECT count(*) FROM queue_pauses") == 0
