"""CancelEvent, and what it races with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
from kongflow.v1 import event_pb2, queue_service_pb2
from kongflow.v1.event_service_pb2 import CancelEventRequest

from tests.support.events import deliver, deliveries, get, send
from tests.support.eventually import eventually
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.support.rpc import Caller
    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]


def cancel(caller: Caller, **lookup: str) -> Awaitable[Any]:
    answer: Awaitable[Any] = caller.events.CancelEvent(CancelEventRequest(**lookup))
    return answer


@pytest.mark.parametrize("delay", [0, 3600])
async def test_pending_event_is_cancelled_with_its_queue_job_and_repeating_changes_nothing(
    stage: Stage, connection: Connection, delay: int
) -> None:
    sent = (await send(stage.developer, event_id="x", deliver_delay={"seconds": delay})).event
    event = (await cancel(stage.developer, id=sent.id)).event

    assert event.state == event_pb2.EVENT_STATE_CANCELLED
    assert event.HasField("cancel_time")
    (delivery,) = await deliveries(connection)
    assert delivery["queue_job_state"] == "CANCELLED"
    assert (await cancel(stage.developer, event_id="x")).event == event
    assert (await send(stage.developer, event_id="x")).event.state == event_pb2.EVENT_STATE_CANCELLED
    queue_job = await stage.developer.queue.GetQueueJob(
        queue_service_pb2.GetQueueJobRequest(queue_job_id=event.queue_job_id)
    )
    assert queue_job.queue_job.errors[-1].reason == "CANCELLED"


async def test_delivered_failed_and_absent_events_are_refused(stage: Stage, connection: Connection) -> None:
    sent = (await send(stage.developer)).event
    async with connection.transaction():
        assert await deliver(connection, sent.queue_job_id)
    failed = (await send(stage.developer)).event
    await connection.execute("UPDATE events SET state = 'FAILED' WHERE id = $1", failed.id)

    for event, state in ((sent, "DELIVERED"), (failed, "FAILED")):
        refusal = await refused(cancel(stage.developer, id=event.id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
        assert refusal.metadata["state"] == state
    for lookup in ({"id": "01890a5d-ac96-774b-bcce-b302099a8057"}, {"event_id": "absent"}):
        assert (await refused(cancel(stage.developer, **lookup))).code is grpc.StatusCode.NOT_FOUND
    stranger = stage.service.caller(stage.theirs.development_key)
    other = (await send(stage.developer)).event
    assert (await refused(cancel(stranger, id=other.id))).code is grpc.StatusCode.NOT_FOUND
    assert (await get(stage.developer, other.id)).state == event_pb2.EVENT_STATE_PENDING


async def test_cancel_that_waits_for_a_delivery_comes_too_late(stage: Stage, connection: Connection) -> None:
    sent = (await send(stage.developer)).event
    async with connection.transaction():
        assert await deliver(connection, sent.queue_job_id)
        late = asyncio.ensure_future(cancel(stage.developer, id=sent.id))
        await eventually(lambda: _somebody_waits(connection))
    assert (await refused(late)).metadata["state"] == "DELIVERED"
    (delivery,) = await deliveries(connection)
    assert (delivery["state"], delivery["queue_job_state"]) == ("DELIVERED", "COMPLETED")


async def test_of_cancels_and_deliveries_at_once_one_wins(
    stage: Stage, connection: Connection, database_url: str
) -> None:
    events = [(await send(stage.developer)).event for _ in range(40)]
    delivered: dict[str, bool] = {}

    async def deliver_all() -> None:
        other = await asyncpg.connect(database_url)
        try:
            for event in events:
                async with other.transaction():
                    delivered[event.id] = await deliver(other, event.queue_job_id)
        finally:
            await other.close()

    async def cancelled(event: Any) -> bool:
        try:
            await cancel(stage.developer, id=event.id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return False
        return True

    async def cancel_all() -> list[bool]:
        return [await cancelled(event) for event in reversed(events)]

    _, outcomes = await asyncio.gather(deliver_all(), cancel_all())

    cancels = dict(zip([event.id for event in reversed(events)], outcomes, strict=True))
    assert all(delivered[event.id] != cancels[event.id] for event in events)
    for delivery in await deliveries(connection):
        wanted = ("CANCELLED", "CANCELLED") if cancels[str(delivery["id"])] else ("DELIVERED", "COMPLETED")
        assert (delivery["state"], delivery["queue_job_state"]) == wanted


async def _somebody_waits(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
