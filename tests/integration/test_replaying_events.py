"""ReplayEvents: new events for old ones, all or none, and once for one request id."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from kongflow.v1 import event_pb2
from kongflow.v1.event_service_pb2 import CancelEventRequest, ReplayEventsRequest

from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.operations import replays
from services.endpoints.store.events import PostgresEvents
from tests.support.events import deliveries, get, new_event, send, send_many
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    import asyncpg

    from tests.support.rpc import Caller
    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]

DAY = timedelta(days=1)
LONG = 500_000


def replay(caller: Caller, **fields: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = caller.events.ReplayEvents(ReplayEventsRequest(**fields))
    return answer


async def around_now(connection: Connection) -> dict[str, datetime]:
    now = await connection.fetchval("SELECT clock_timestamp()")
    return {"created_from": now - DAY, "created_before": now + DAY}


async def test_replay_is_a_new_event_with_the_content_of_the_old_one(stage: Stage, connection: Connection) -> None:
    sent = await send(
        stage.developer,
        event_id="x" * 256,
        payload_json='{ "n": 9007199254740993 }',
        context_json='{"b":1,"a":2}',
        priority=3,
        account_id="customer",
        is_test=True,
        timestamp=datetime(2020, 1, 1, tzinfo=UTC),
        deliver_delay={"seconds": 3600},
    )
    original = (await stage.developer.events.CancelEvent(CancelEventRequest(id=sent.event.id))).event
    answer = await replay(stage.developer, ids=[original.id])

    assert (answer.matched_count, answer.has_more) == (1, False)
    (listed,) = answer.events
    assert (listed.payload_json, listed.context_json) == ("", "")
    event = await get(stage.developer, listed.id)
    assert event.event_id == f"{'x' * 216}:replay:{UUID(event.id).hex}"
    assert event.replay_of == original.id
    assert event.state == event_pb2.EVENT_STATE_PENDING
    for field in ("name", "source", "payload_json", "context_json", "timestamp", "priority", "account_id", "is_test"):
        assert getattr(event, field) == getattr(original, field), field
    _, delivery = await deliveries(connection)
    assert delivery["delivered_id"] == event.id
    assert (delivery["queue_job_state"], delivery["queue_job_priority"]) == ("AVAILABLE", 3)
    assert delivery["run_at"] == delivery["deliver_at"] == event.deliver_time.ToDatetime(tzinfo=UTC)


async def test_ids_are_replayed_oldest_first_and_each_once(stage: Stage) -> None:
    sent = (await send_many(stage.developer, [new_event() for _ in range(60)])).events
    ids = [event.id for event in sent]
    answer = await replay(stage.developer, ids=[*reversed(ids), ids[0]])

    assert [event.replay_of for event in answer.events] == ids
    assert [event.id for event in answer.events] == sorted(event.id for event in answer.events)


async def test_range_is_narrowed_by_name_and_source_and_goes_on_where_it_ended(
    stage: Stage, connection: Connection
) -> None:
    sent = (await send_many(stage.developer, [new_event("a", source="s") for _ in range(5)])).events
    await send_many(stage.developer, [new_event("b", source="s"), new_event("a")])
    await send(stage.service.caller(stage.ours.production_key), name="a", source="s")
    wanted = {**await around_now(connection), "name": "a", "source": "s"}

    counted = await replay(stage.developer, **wanted, max_count=3, validate_only=True)
    assert (len(counted.events), counted.matched_count, counted.has_more) == (0, 3, True)
    assert len(await deliveries(connection)) == 8

    first = await replay(stage.developer, **wanted, max_count=3)
    assert [event.replay_of for event in first.events] == [event.id for event in sent[:3]]
    assert first.has_more
    last = await get(stage.developer, first.events[-1].replay_of)
    replayed_from = await connection.fetchval("SELECT min(created_at) FROM events WHERE replay_of IS NOT NULL")
    after = last.create_time.ToDatetime(tzinfo=UTC) + timedelta(microseconds=1)
    wanted |= {"created_from": after, "created_before": replayed_from}
    rest = await replay(stage.developer, **wanted)
    assert [event.replay_of for event in rest.events] == [event.id for event in sent[3:]]
    assert not rest.has_more


@pytest.fixture
async def long_events(stage: Stage) -> list[str]:
    """Events of half a megabyte, which do not become shorter: the ids of ten."""
    return [(await send(stage.developer, payload_json=f'"{secrets.token_hex(LONG // 2)}"')).event.id for _ in range(10)]


@pytest.fixture
def bytes_copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each statement copied, of at most 2 MB."""
    monkeypatch.setattr(replays, "MAX_BYTES_COPIED_AT_ONCE", 2_000_000)
    copied: list[int] = []
    copy = PostgresEvents.replay

    async def counted(self: PostgresEvents, environment_id: UUID, events: Sequence[Any], **rest: Any) -> None:
        copied.append(sum(event.original.bytes for event in events))
        await copy(self, environment_id, events, **rest)

    monkeypatch.setattr(PostgresEvents, "replay", counted)
    return copied


async def test_a_range_of_large_events_goes_on_where_as_many_as_are_copied_at_once_end(
    stage: Stage, connection: Connection, long_events: list[str], bytes_copied: list[int]
) -> None:
    wanted: dict[str, Any] = await around_now(connection)
    wanted["created_before"] = await connection.fetchval("SELECT clock_timestamp()")
    counted = await replay(stage.developer, **wanted, validate_only=True)
    assert (counted.matched_count, counted.has_more) == (3, True)

    replayed, has_more, rounds = [], True, 0
    while has_more:
        request_id = str(uuid4())
        answer = await replay(stage.developer, **wanted, request_id=request_id)
        assert answer == await replay(stage.developer, **wanted, request_id=request_id)
        replayed += [event.replay_of for event in answer.events]
        last = await get(stage.developer, replayed[-1])
        wanted["created_from"] = last.create_time.ToDatetime(tzinfo=UTC) + timedelta(microseconds=1)
        has_more, rounds = answer.has_more, rounds + 1

    assert (replayed, rounds) == (long_events, 4)
    assert len(bytes_copied) == 4
    assert max(bytes_copied) <= 2_000_000


async def test_large_events_named_by_their_ids_are_copied_all_a_few_at_a_time(
    stage: Stage, connection: Connection, long_events: list[str], bytes_copied: list[int]
) -> None:
    answer = await replay(stage.developer, ids=long_events)

    assert [event.replay_of for event in answer.events] == long_events
    assert (answer.matched_count, answer.has_more) == (10, False)
    assert len(bytes_copied) == 4
    assert max(bytes_copied) <= 2_000_000
    made = "SELECT replay_of FROM events WHERE replay_of IS NOT NULL ORDER BY created_at"
    assert [str(row["replay_of"]) for row in await connection.fetch(made)] == long_events


async def test_replays_that_go_on_leave_nobody_out_whatever_the_clocks_of_servers_say(
    stage: Stage, connection: Connection
) -> None:
    sent = (await send_many(stage.developer, [new_event("a") for _ in range(6)])).events
    # Written by turns by servers whose clocks differ: the ids are in another order than the times.
    order = [sent[place].id for place in (3, 0, 4, 1, 5, 2)]
    for place, event_id in enumerate(order):
        await connection.execute(
            "UPDATE events SET created_at = clock_timestamp() - interval '1 hour' + $2 * interval '1 second'"
            " WHERE id = $1",
            UUID(event_id),
            place,
        )
    now = await connection.fetchval("SELECT clock_timestamp()")
    wanted = {"created_from": now - DAY, "created_before": now - timedelta(minutes=1), "max_count": 4}

    first = await replay(stage.developer, **wanted)
    last = await get(stage.developer, first.events[-1].replay_of)
    wanted["created_from"] = last.create_time.ToDatetime(tzinfo=UTC) + timedelta(microseconds=1)
    rest = await replay(stage.developer, **wanted)

    assert [event.replay_of for event in (*first.events, *rest.events)] == order
    assert (first.has_more, rest.has_more) == (True, False)


async def test_request_id_replays_once_however_often_it_comes(stage: Stage, connection: Connection) -> None:
    await send_many(stage.developer, [new_event(event_id=str(number)) for number in range(3)])
    wanted: dict[str, Any] = {**await around_now(connection), "request_id": str(uuid4()), "max_count": 2}

    answers = await asyncio.gather(*(replay(stage.developer, **wanted) for _ in range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert (len(answers[0].events), answers[0].has_more) == (2, True)
    assert len(await deliveries(connection)) == 5
    refusal = await refused(replay(stage.developer, **{**wanted, "max_count": 1}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_what_is_no_longer_kept_is_out_of_range_and_what_never_was_is_not_found(
    stage: Stage, connection: Connection
) -> None:
    there = (await send(stage.developer)).event.id
    theirs = (await send(stage.service.caller(stage.theirs.development_key))).event.id
    now = await connection.fetchval("SELECT clock_timestamp()")
    month_ago = now - timedelta(days=30, minutes=1)
    old = str(new_uuid7(now_ms=lambda: int(month_ago.timestamp() * 1000)))

    for fields in ({"ids": [there, old]}, {"created_from": month_ago, "created_before": now}):
        refusal = await refused(replay(stage.developer, **fields))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")
    for absent in (str(new_uuid7()), str(uuid4()), "ffffffff-ffff-7fff-bfff-ffffffffffff", theirs):
        refusal = await refused(replay(stage.developer, ids=[there, absent]))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert refusal.metadata["name"] == absent
    assert len(await deliveries(connection)) == 2
    kept = {"created_from": now - timedelta(days=29, hours=23), "created_before": now - timedelta(days=20)}
    assert (await replay(stage.developer, **kept)).matched_count == 0


async def test_refused_requests(stage: Stage) -> None:
    an_id, now = str(new_uuid7()), datetime(2030, 1, 1, tzinfo=UTC)
    rows: dict[str, tuple[dict[str, Any], list[str]]] = {
        "nothing": ({}, ["created_from", "created_before"]),
        "half a range": ({"created_from": now}, ["created_before"]),
        "range backwards": ({"created_from": now, "created_before": now}, ["created_before"]),
        "ids and a range": (
            {"ids": [an_id], "created_from": now, "created_before": now + DAY, "name": "a", "source": "b"},
            ["created_from", "created_before", "name", "source"],
        ),
        "no ids": ({"ids": [an_id, "x", ""]}, ["ids[1]", "ids[2]"]),
        "too many ids": ({"ids": [an_id] * 1001}, ["ids"]),
        "too many": ({"created_from": now, "created_before": now + DAY, "max_count": 1001}, ["max_count"]),
        "fewer than none": ({"created_from": now, "created_before": now + DAY, "max_count": -1}, ["max_count"]),
        "request id": ({"ids": [an_id], "request_id": an_id}, ["request_id"]),
    }
    for name, (fields, refused_fields) in rows.items():
        refusal = await refused(replay(stage.developer, **fields))
        assert (name, refusal.code, refusal.fields) == (name, grpc.StatusCode.INVALID_ARGUMENT, refused_fields)
