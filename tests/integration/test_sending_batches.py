"""SendEvents: all or none, in order, each event id once."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import grpc
import pytest

from services.endpoints.store.events import PostgresEvents
from tests.support.events import deliveries, get, new_event, send, send_many
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.event import Event
    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]

LONG = 500_000


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


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each statement read of what events say."""
    read: list[int] = []
    find = PostgresEvents.find

    async def counted(self: PostgresEvents, environment_id: UUID, event_ids: Sequence[str]) -> list[Event]:
        events = await find(self, environment_id, event_ids)
        read.append(sum(len(event.payload_json or "") + len(event.context_json or "") for event in events))
        return events

    monkeypatch.setattr(PostgresEvents, "find", counted)
    return read


@pytest.mark.parametrize("filling", [" ", "random"])
async def test_long_events_that_are_there_already_are_read_a_few_together(
    stage: Stage, bytes_read: list[int], filling: str
) -> None:
    names = [f"e{number}" for number in range(20)]
    first = []
    for name in names:
        payload = "{" + " " * LONG + "}" if filling == " " else f'"{secrets.token_hex(LONG // 2)}"'
        first.append((await send(stage.developer, event_id=name, payload_json=payload)).event)
    assert bytes_read == []

    # In another order, one of them twice and a new one between them.
    order = [*range(19, -1, -1), 7]
    events = [new_event(event_id=names[place], payload_json="{ }") for place in order]
    events.insert(5, new_event(event_id="new"))
    if filling == " ":
        answer = await send_many(stage.developer, events)
        assert [sent.created for sent in answer.events] == [place == 5 for place in range(22)]
        assert [sent.id for sent in answer.events if not sent.created] == [first[place].id for place in order]
        assert sum(bytes_read) == 20 * (LONG + 4)
    else:
        refusal = await refused(send_many(stage.developer, events))
        assert (refusal.code, refusal.metadata["differs"]) == (grpc.StatusCode.ALREADY_EXISTS, "payload_json")
        assert (refusal.metadata["index"], refusal.metadata["id"]) == ("0", first[19].id)
        assert len(bytes_read) == 1
    assert max(bytes_read) <= 4 * 1024 * 1024


async def test_the_first_that_differs_is_named_however_many_are_read_before(
    stage: Stage, connection: Connection, bytes_read: list[int]
) -> None:
    names = [f"e{number}" for number in range(20)]
    first = [
        (await send(stage.developer, event_id=name, payload_json="[" + " " * LONG + f"{number % 18}]")).event
        for number, name in enumerate(names)
    ]
    events = [new_event(event_id=name, payload_json=f"[{number}]") for number, name in enumerate(names)]

    refusal = await refused(send_many(stage.developer, [new_event(event_id="new"), *events]))

    assert (refusal.code, refusal.metadata["differs"]) == (grpc.StatusCode.ALREADY_EXISTS, "payload_json")
    assert (refusal.metadata["index"], refusal.metadata["id"]) == ("19", first[18].id)
    assert max(bytes_read) <= 4 * 1024 * 1024
    assert len(await deliveries(connection)) == 20


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
