"""Events as callers send them, and what the tables say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kongflow.v1 import event_service_pb2 as messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    import asyncpg
    from kongflow.v1.event_pb2 import Event

    from tests.support.rpc import Caller


def new_event(name: str = "user.created", **fields: Any) -> messages.NewEvent:
    return messages.NewEvent(name=name, **fields)


def send(caller: Caller, *, update_if_pending: bool = False, environment_id: str = "", **fields: Any) -> Awaitable[Any]:
    """Send one event; `fields` are those of NewEvent."""
    request = messages.SendEventRequest(
        environment_id=environment_id, event=new_event(**fields), update_if_pending=update_if_pending
    )
    answer: Awaitable[Any] = caller.events.SendEvent(request)
    return answer


def send_many(caller: Caller, events: Iterable[messages.NewEvent], *, environment_id: str = "") -> Awaitable[Any]:
    answer: Awaitable[Any] = caller.events.SendEvents(
        messages.SendEventsRequest(environment_id=environment_id, events=events)
    )
    return answer


async def get(caller: Caller, event_record_id: str) -> Event:
    event: Event = (await caller.events.GetEvent(messages.GetEventRequest(id=event_record_id))).event
    return event


async def deliveries(connection: asyncpg.Connection[asyncpg.Record]) -> list[dict[str, Any]]:
    """Return each event with the queue job that delivers it, in the order in which they were enqueued."""
    rows = await connection.fetch(
        "SELECT events.id, events.state, events.deliver_at, events.priority, queue_jobs.args ->> 'id' AS delivered_id,"
        " queue_jobs.state AS queue_job_state, queue_jobs.run_at, queue_jobs.priority AS queue_job_priority,"
        " queue_jobs.kind, queue_jobs.queue, queue_jobs.lane"
        " FROM events FULL JOIN queue_jobs ON queue_jobs.id = events.queue_job_id"
        " WHERE queue_jobs.kind = 'deliverEvent' OR queue_jobs.id IS NULL ORDER BY queue_jobs.seq"
    )
    return [dict(row) for row in rows]


async def deliver(connection: asyncpg.Connection[asyncpg.Record], queue_job_id: str) -> bool:
    """Do in an open transaction what a delivery does: lock the queue job, then the event; take a PENDING one only."""
    await connection.fetch("SELECT id FROM queue_jobs WHERE id = $1 AND state = 'AVAILABLE' FOR UPDATE", queue_job_id)
    event_id = await connection.fetchval(
        "SELECT id FROM events WHERE queue_job_id = $1 AND state = 'PENDING' FOR UPDATE", queue_job_id
    )
    if event_id is None:
        return False
    await connection.execute(
        "UPDATE events SET state = 'DELIVERED', delivered_at = clock_timestamp() WHERE id = $1", event_id
    )
    await connection.execute(
        "UPDATE queue_jobs SET state = 'COMPLETED', finalized_at = clock_timestamp() WHERE id = $1", queue_job_id
    )
    return True
