"""SendEvents: all or none, in order, each event id once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from tests.support.events import deliveries, get, new_event, send, send_many
from tests.support.rpc import refused

if TYPE_CHECKING:
    import asyncpg

    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]


async def test_thousand_events_keep_their_order_in_records_and_queue(stage: Stage, connection: Connection) -> None:
    events = [new_event(event_id=f"e{(number * 7) % 1000}", payload_json=str(number)) for number in range(1000)]
    answer = await send_many(stage.developer, events)

    assert [sent.event_id for sent in answer.events] == [event.event_id for event in events]
    assert all(sent.created for sent in answer.events)
    ids = [sent.id for sent in answer.events]
    assert ids == sorted(ids)
    assert [delivery["delivered_id"] for delivery in await deliveries(connection)] == ids
    in_time = await connection.fetch("SELECT id::text FROM events ORDER BY created_at")
    assert [row["id"] for row in in_time] == ids


async def test_events_that_are_there_already_count_as_taken_in(stage: Stage, connection: Connection) -> None:
    first = (await send(stage.developer, event_id="b", payload_json="1")).event
    events = [new_event(event_id=name, payload_json="1") for name in ("a", "b", "c", "a")]
    answer = await send_many(stage.developer, events)

    assert [sent.created for sent in answer.events] == [True, False, True, True]
    assert answer.events[1].id == first.id
    assert answer.events[3].id == answer.events[0].id
    assert len(await deliveries(connection)) == 3
    again = await send_many(stage.developer, events)
    assert [sent.id for sent in again.events] == [sent.id for sent in answer.events]
    assert not any(sent.created for sent in again.events)


async def test_conflict_names_the_place_and_nothing_is_written(stage: Stage, connection: Connection) -> None:
    first = (await send(stage.developer, event_id="taken")).event
    events = [new_event(account_id="new") for _ in range(100)]
    events[17] = new_event(event_id="taken", payload_json="2", source="other")
    refusal = await refused(send_many(stage.developer, events))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.metadata["index"] == "17"
    assert refusal.metadata["differs"] == "source,payload_json"
    assert refusal.metadata["id"] == first.id
    assert len(await deliveries(connection)) == 1
    assert await connection.fetchval("SELECT count(*) FROM external_accounts") == 0


async def test_two_of_one_event_id_must_be_the_same(stage: Stage, connection: Connection) -> None:
    refusal = await refused(
        send_many(stage.developer, [new_event(event_id="a"), new_event(event_id="a", payload_json="[]")])
    )

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refusal.fields == ["events[1].event_id"]
    assert await deliveries(connection) == []


async def test_batches_at_once_with_the_same_ids_in_other_orders_do_not_deadlock(
    stage: Stage, connection: Connection
) -> None:
    names = [f"e{number}" for number in range(60)]
    orders = [names, names[::-1], names[30:] + names[:30], sorted(names)] * 3
    answers = await asyncio.gather(
        *(
            send_many(stage.developer, [new_event(event_id=name, account_id=f"account {name}") for name in order])
            for order in orders
        )
    )

    assert len(await deliveries(connection)) == 60
    assert sum(sent.created for answer in answers for sent in answer.events) == 60
    ids = [{sent.event_id: sent.id for sent in answer.events} for answer in answers]
    assert all(each == ids[0] for each in ids)


async def test_times_priorities_and_accounts_are_each_events_own(stage: Stage, connection: Connection) -> None:
    events = [
        new_event(priority=4, account_id="a"),
        new_event(deliver_delay={"seconds": 60}, account_id="b"),
        new_event(),
    ]
    answer = await send_many(stage.developer, events)

    found = [await get(stage.developer, sent.id) for sent in answer.events]
    assert [event.account_id for event in found] == ["a", "b", ""]
    assert [delivery["queue_job_priority"] for delivery in await deliveries(connection)] == [4, 2, 2]
    assert [delivery["queue_job_state"] for delivery in await deliveries(connection)] == [
        "AVAILABLE",
        "SCHEDULED",
        "AVAILABLE",
    ]
