"""SendEvent: one record and one delivery for one event id, whatever is sent at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
import pytest
from kongflow.v1 import event_pb2, event_service_pb2
from kongflow.v1.priority_pb2 import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL

from services.endpoints.domain.event import NewEvent
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.tenancy import Principal, PrincipalKind, Scope
from services.endpoints.operations.events import EventLookup, EventOperations
from services.endpoints.operations.finality import Finality
from services.endpoints.store.postgres import PostgresStore
from tests.support.events import deliver, deliveries, get, send
from tests.support.eventually import eventually
from tests.support.giving_way import give_way
from tests.support.rpc import refused

if TYPE_CHECKING:
    import asyncpg

    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]

TAKEN = grpc.StatusCode.ALREADY_EXISTS
HOUR = {"seconds": 3600}


async def test_event_is_stored_as_it_was_sent_with_the_queue_job_that_delivers_it(
    stage: Stage, connection: Connection
) -> None:
    payload = (
        '{ "big": 9007199254740993, "bigger": 9223372036854775808,\n "float": 1.0, "int": 1, "z": "é", "a": null }'
    )
    happened = datetime(2020, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)

    answer = await send(
        stage.developer,
        event_id="first",
        source="shop",
        payload_json=payload,
        context_json='{"b":1,"a":2}',
        timestamp=happened,
        priority=PRIORITY_HIGH,
        account_id="customer-7",
        is_test=True,
    )

    event = answer.event
    assert answer.created
    assert not answer.updated
    assert (event.payload_json, event.context_json) == (payload, '{"b":1,"a":2}')
    assert (event.event_id, event.name, event.source, event.account_id) == (
        "first",
        "user.created",
        "shop",
        "customer-7",
    )
    assert event.timestamp.ToDatetime(tzinfo=UTC) == happened
    assert event.state == event_pb2.EVENT_STATE_PENDING
    assert event.payload_type == event_pb2.PAYLOAD_TYPE_JSON
    assert event.is_test
    assert event.environment_id == stage.ours.development.id
    assert await get(stage.developer, event.id) == event
    (delivery,) = await deliveries(connection)
    assert delivery["delivered_id"] == event.id
    assert delivery["queue_job_state"] == "AVAILABLE"
    assert delivery["run_at"] == delivery["deliver_at"] == event.deliver_time.ToDatetime(tzinfo=UTC)
    assert (delivery["priority"], delivery["queue_job_priority"], delivery["queue"]) == (1, 1, "events")


async def test_what_is_left_out_has_its_default(stage: Stage) -> None:
    event = (await send(stage.developer)).event

    assert event.event_id == event.id
    assert (event.source, event.payload_json, event.context_json) == ("trigger.dev", "{}", "{}")
    assert event.timestamp == event.deliver_time
    assert event.priority == PRIORITY_NORMAL
    assert event.account_id == ""


@pytest.mark.parametrize("payload", ["null", "0", '"text"', "[1]", "false"])
async def test_payload_may_be_any_json_value(stage: Stage, payload: str) -> None:
    assert (await send(stage.developer, payload_json=payload)).event.payload_json == payload


async def test_400_calls_at_once_with_one_id_make_one_record_and_get_equal_answers(
    stage: Stage, connection: Connection
) -> None:
    answers = await asyncio.gather(
        *(send(stage.developer, event_id="once", payload_json='{"a":1}', deliver_delay=HOUR) for _ in range(400))
    )

    assert sum(answer.created for answer in answers) == 1
    first = answers[0].event
    assert all(answer.event == first for answer in answers)
    (delivery,) = await deliveries(connection)
    assert str(delivery["id"]) == first.id


async def test_relays_are_told_of_what_one_statement_wrote(database_url: str, stage: Stage) -> None:
    told = []
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: told.append("changed"))
    await store.open()
    try:
        operations = EventOperations(store=store, new_id=new_uuid7, finality=Finality(handlers={}))
        admin = Principal(PrincipalKind.ADMIN, "admin", scopes=frozenset(Scope))
        environment_id = UUID(stage.ours.development.id)
        await operations.send(admin, environment_id, NewEvent("user.created", event_id="x"))
        assert told == ["changed"]
        await operations.get(admin, EventLookup(event_id="x", environment_id=environment_id))
        assert told == ["changed"]
    finally:
        await store.close()


async def test_same_content_in_other_words_returns_the_first_event(stage: Stage) -> None:
    first = await send(stage.developer, event_id="x", payload_json='{"a":1,"b":[1,2]}', account_id="a")
    again = await send(
        stage.developer,
        event_id="x",
        payload_json=' {"b":[1, 2], "a":1}',
        account_id="a",
        deliver_delay=HOUR,
        priority=PRIORITY_HIGH,
    )

    assert not again.created
    assert again.event == first.event


async def test_other_content_is_refused_with_the_names_of_what_differs(stage: Stage) -> None:
    first = (await send(stage.developer, event_id="x", payload_json='{"a":1}', context_json='{"c":1}')).event
    happened = datetime(2020, 1, 1, tzinfo=UTC)
    rows: dict[str, dict[str, Any]] = {
        "payload_json": {"payload_json": '{"a":1.0}', "context_json": '{"c":1}'},
        "context_json": {"payload_json": '{"a":1}'},
        "account_id": {"payload_json": '{"a":1}', "context_json": '{"c":1}', "account_id": "new"},
        "timestamp": {"payload_json": '{"a":1}', "context_json": '{"c":1}', "timestamp": happened},
        "name,source,is_test": {
            "name": "other",
            "source": "other",
            "payload_json": '{"a":1}',
            "context_json": '{"c":1}',
            "is_test": True,
        },
    }
    for differs, fields in rows.items():
        refusal = await refused(send(stage.developer, event_id="x", **fields))
        assert (refusal.code, refusal.reason) == (TAKEN, "ALREADY_EXISTS")
        assert refusal.metadata["differs"] == differs
        assert refusal.metadata["id"] == first.id
    # What is due cannot be replaced any more.
    refusal = await refused(send(stage.developer, event_id="x", payload_json="1", update_if_pending=True))
    assert refusal.code is TAKEN
    assert await get(stage.developer, first.id) == first


async def test_event_id_is_an_environments_own(stage: Stage) -> None:
    ours = await send(stage.developer, event_id="x", payload_json="1")
    production = stage.service.caller(stage.ours.production_key)
    theirs = await send(production, event_id="x", payload_json="2")

    assert theirs.created
    assert theirs.event.id != ours.event.id


async def test_event_that_is_not_due_is_replaced_with_its_time_and_priority(
    stage: Stage, connection: Connection
) -> None:
    first = (await send(stage.developer, event_id="x", deliver_delay=HOUR, priority=PRIORITY_HIGH)).event
    answer = await send(
        stage.developer,
        event_id="x",
        name="user.deleted",
        payload_json="[2]",
        account_id="new",
        deliver_delay={"seconds": 7200},
        priority=PRIORITY_LOW,
        update_if_pending=True,
    )

    assert (answer.created, answer.updated) == (False, True)
    event = answer.event
    assert (event.id, event.name, event.payload_json, event.account_id) == (first.id, "user.deleted", "[2]", "new")
    assert event.deliver_time.ToDatetime() - first.deliver_time.ToDatetime() >= timedelta(hours=1)
    (delivery,) = await deliveries(connection)
    assert delivery["run_at"] == delivery["deliver_at"] == event.deliver_time.ToDatetime(tzinfo=UTC)
    assert (delivery["queue_job_priority"], delivery["queue_job_state"]) == (3, "SCHEDULED")

    now = await send(stage.developer, event_id="x", payload_json="[3]", update_if_pending=True)
    assert now.updated
    (delivery,) = await deliveries(connection)
    assert delivery["queue_job_state"] == "AVAILABLE"
    assert (
        await refused(send(stage.developer, event_id="x", payload_json="[4]", update_if_pending=True))
    ).code is TAKEN


async def test_of_replacements_and_a_delivery_at_once_one_wins_whole(stage: Stage, connection: Connection) -> None:
    first = (await send(stage.developer, event_id="x", payload_json="0", deliver_delay=HOUR)).event
    replacements = [
        send(
            stage.developer,
            event_id="x",
            payload_json=str(number),
            deliver_delay={"seconds": number * 60},
            update_if_pending=True,
        )
        for number in range(1, 21)
    ]
    answers = await asyncio.gather(*replacements)

    assert all(answer.updated for answer in answers)
    event = await get(stage.developer, first.id)
    (delivery,) = await deliveries(connection)
    assert delivery["run_at"] == delivery["deliver_at"]
    assert event in [answer.event for answer in answers]

    async with connection.transaction():
        await connection.execute(
            "UPDATE queue_jobs SET state = 'AVAILABLE', run_at = clock_timestamp() WHERE id = $1", event.queue_job_id
        )
        late = asyncio.ensure_future(send(stage.developer, event_id="x", payload_json="[]", update_if_pending=True))
        await eventually(lambda: _somebody_waits(connection))
        assert await deliver(connection, event.queue_job_id)
    assert (await refused(late)).metadata["differs"] == "payload_json"
    assert (await get(stage.developer, event.id)).payload_json == event.payload_json


async def test_delay_counts_from_the_databases_clock(stage: Stage, connection: Connection) -> None:
    before = await connection.fetchval("SELECT clock_timestamp()")
    event = (await send(stage.developer, deliver_delay={"seconds": 60, "nanos": 1})).event
    after = await connection.fetchval("SELECT clock_timestamp()")

    due = event.deliver_time.ToDatetime(tzinfo=UTC)
    delay = timedelta(seconds=60, microseconds=1)
    assert before + delay <= due <= after + delay
    (delivery,) = await deliveries(connection)
    assert (delivery["run_at"], delivery["queue_job_state"]) == (due, "SCHEDULED")


async def test_delivery_in_the_past_means_now(stage: Stage, connection: Connection) -> None:
    event = (await send(stage.developer, deliver_time=datetime(1, 1, 1, tzinfo=UTC))).event

    assert event.deliver_time == event.timestamp
    (delivery,) = await deliveries(connection)
    assert delivery["queue_job_state"] == "AVAILABLE"


async def test_account_is_made_once_and_not_touched_again(stage: Stage, connection: Connection) -> None:
    await asyncio.gather(*(send(stage.developer, account_id="same") for _ in range(20)))
    accounts = await connection.fetch("SELECT xmin::text, id, updated_at FROM external_accounts")
    await send(stage.developer, account_id="same")

    assert len(accounts) == 1
    assert await connection.fetch("SELECT xmin::text, id, updated_at FROM external_accounts") == accounts
    assert (
        await connection.fetchval("SELECT count(*) FROM events WHERE external_account_id = $1", accounts[0]["id"]) == 21
    )


async def test_tenants_are_kept_apart(stage: Stage) -> None:
    event = (await send(stage.developer)).event
    stranger = stage.service.caller(stage.theirs.development_key)
    sibling = stage.service.caller(stage.ours.production_key)
    by_id = event_service_pb2.GetEventRequest(id=event.id)
    there = stage.ours.development.id

    assert (await refused(stranger.events.GetEvent(by_id))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(sibling.events.GetEvent(by_id))).code is grpc.StatusCode.PERMISSION_DENIED
    assert (await refused(send(stranger, environment_id=there))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(send(sibling, environment_id=there))).code is grpc.StatusCode.PERMISSION_DENIED
    assert (await refused(send(stage.reader, environment_id=there))).code is grpc.StatusCode.PERMISSION_DENIED
    assert (await refused(send(stage.writer))).fields == ["environment_id"]
    absent = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert (await refused(send(stage.writer, environment_id=absent))).code is grpc.StatusCode.NOT_FOUND
    assert (await send(stage.writer, environment_id=there)).created


async def _somebody_waits(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


@pytest.mark.parametrize("account_id", ["", "customer-7"])
@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
async def test_event_is_written_again_when_the_database_gives_way(
    stage: Stage, connection: Connection, sqlstate: str, account_id: str
) -> None:
    await give_way(connection, "events", sqlstate=sqlstate)

    answer = await send(stage.developer, account_id=account_id)

    assert answer.created
    assert [delivery["id"] for delivery in await deliveries(connection)] == [UUID(answer.event.id)]
