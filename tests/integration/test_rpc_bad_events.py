"""What callers get for events they must not send, row by row; nothing of a refused call is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import event_service_pb2 as messages

from tests.support.events import deliveries, get, new_event, send, send_many
from tests.support.rpc import new_tenant, refused, running_service
from tests.support.servers import fresh_database
from tests.support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.embedded.postgres import EmbeddedPostgres

    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad events")]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
YEAR_SECONDS = 366 * 86_400
LIMIT_BYTES = 512 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    async with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(shared_database_url: str) -> AsyncIterator[Stage]:
    """One service for all of these tests, of which each is refused or sends an event of its own."""
    async with running_service(shared_database_url) as service:
        yield Stage(service, await new_tenant(service, "ours"), await new_tenant(service, "theirs"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(shared_database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(shared_database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_stored(connection: Connection) -> AsyncIterator[None]:
    """Look at the end whether anything of this test's calls was stored."""

    async def counts() -> list[int]:
        tables = ("events", "external_accounts", "queue_jobs")
        return [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    before = await counts()
    yield
    assert await counts() == before


async def _is_refused(stage: Stage, fields: dict[str, Any], field: str) -> None:
    refusal = await refused(send(stage.developer, **fields))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_REQUEST", [f"event.{field}"])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"event_id": "x" * 257}, "event_id"),
        ({"event_id": "\x7f"}, "event_id"),
        ({"event_id": "a\x85"}, "event_id"),
        ({"source": "x" * 257}, "source"),
        ({"source": "\t"}, "source"),
        ({"account_id": "x" * 257}, "account_id"),
        ({"account_id": "\x1b"}, "account_id"),
        ({"priority": 9}, "priority"),
        ({"payload_type": -1}, "payload_type"),
    ],
)
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_texts_and_numbers(stage: Stage, fields: dict[str, Any], field: str) -> None:
    await _is_refused(stage, fields, field)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "",
        " ",
        "\ufeff{}",
        "{}{}",
        '{"a":1,}',
        "[1,]",
        r'{"a":"\u0000"}',
        r'{"\u0000":1}',
        r'{"a":"\ud800"}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400000}',
        '{"a":' + "9" * 5000 + "}",
        "[" * 65 + "]" * 65,
        "[" * 20_000 + "]" * 20_000,
        "[" * 100_000 + "]" * 100_000,
        json.dumps({"k" * 10_000: 1}),
        json.dumps([{f"k{number}": number for number in range(10_001)}]),
        "'single'",
    ],
    ids=lambda text: f"{text[:12]!r} of {len(text)}",
)
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_documents(stage: Stage, text: str) -> None:
    await _is_refused(stage, {"payload_json": text}, "payload_json")
    await _is_refused(stage, {"context_json": text}, "context_json")


@pytest.mark.parametrize("context", ["null", "1", '"text"', "[]", "true"])
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_contexts_that_are_no_object(stage: Stage, context: str) -> None:
    await _is_refused(stage, {"context_json": context}, "context_json")


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        '"text"',
        '{"url":"/","method":"GET","headers":{}}',
        '{"url":"/","method":"GET","headers":[],"rawBody":""}',
        '{"url":1,"method":"GET","headers":{},"rawBody":""}',
        '{"url":"/","method":null,"headers":{},"rawBody":""}',
    ],
)
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_payloads_that_are_no_request(stage: Stage, payload: str) -> None:
    await _is_refused(stage, {"payload_json": payload, "payload_type": 2}, "payload_json")


@pytest.mark.parametrize("field", ["payload_json", "context_json"])
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_documents_of_more_than_512_kib(stage: Stage, field: str) -> None:
    for text in ('{"a":"' + "x" * (LIMIT_BYTES - 7) + '"}', '{"a":"' + "é" * (LIMIT_BYTES // 2) + '"}'):
        assert len(text.encode()) > LIMIT_BYTES
        fields: dict[str, Any] = {field: text}
        refusal = await refused(send(stage.developer, **fields))
        assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "PAYLOAD_TOO_LARGE", [f"event.{field}"])


@pytest.mark.usefixtures("nothing_stored")
async def test_refused_messages_of_more_than_1_mib(stage: Stage) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(stage.developer, payload_json='"' + "x" * 1024 * 1024 + '"')
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("field", ["deliver_time", "timestamp"])
@pytest.mark.usefixtures("nothing_stored")
async def test_refused_times(stage: Stage, field: str) -> None:
    for time in (
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=2**63 - 1),
        Timestamp(seconds=-(2**63)),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ):
        await _is_refused(stage, {field: time}, field)


@pytest.mark.usefixtures("nothing_stored")
async def test_refused_deliveries_too_far_ahead_or_behind(stage: Stage, connection: Connection) -> None:
    now = int(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
    await _is_refused(stage, {"deliver_time": Timestamp(seconds=now + YEAR_SECONDS + 3600)}, "deliver_time")
    for delay in (
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=1, nanos=-1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=YEAR_SECONDS + 1),
        Duration(seconds=YEAR_SECONDS, nanos=1),
        Duration(seconds=2**63 - 1),
    ):
        await _is_refused(stage, {"deliver_delay": delay}, "deliver_delay")


@pytest.mark.usefixtures("nothing_stored")
async def test_refused_fields_are_named_all_at_once(stage: Stage) -> None:
    request = messages.SendEventRequest(
        environment_id="x", event=messages.NewEvent(payload_json="{", context_json="[]", event_id="\n", source="\n")
    )
    refusal = await refused(stage.developer.events.SendEvent(request))

    assert refusal.fields == [
        "environment_id",
        "event.name",
        "event.payload_json",
        "event.context_json",
        "event.event_id",
        "event.source",
    ]
    assert (await refused(stage.developer.events.SendEvent(messages.SendEventRequest()))).fields == ["event.name"]


@pytest.mark.usefixtures("nothing_stored")
async def test_refused_batches(stage: Stage) -> None:
    for events in ([], [new_event()] * 1001):
        refusal = await refused(send_many(stage.developer, events))
        assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_REQUEST", ["events"])
    events = [new_event(account_id="new") for _ in range(100)]
    events[73] = new_event(payload_json="{")
    refusal = await refused(send_many(stage.developer, events))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_REQUEST", ["events[73].payload_json"])


@pytest.mark.usefixtures("nothing_stored")
async def test_refused_lookups(stage: Stage) -> None:
    for method, request in (
        (stage.developer.events.GetEvent, messages.GetEventRequest),
        (stage.developer.events.CancelEvent, messages.CancelEventRequest),
    ):
        assert (await refused(method(request()))).fields == ["id"]
        assert (await refused(method(request(id="x")))).fields == ["id"]
        assert (await refused(method(request(event_id="")))).fields == ["event_id"]
        assert (await refused(method(request(event_id="x", environment_id="x")))).fields == ["environment_id"]


@pytest.mark.parametrize(
    "payload",
    [
        '{"__proto__":1,"$set":{"a":1},"":2}',
        "[9007199254740993,9223372036854775808,-9223372036854775809,1.0,1,-0.0,1E5]",
        '{"a":1,"a":2,"b":"\\u00e9\\ud83d\\ude00/\\/"}',
        "[" * 64 + "]" * 64,
        json.dumps({f"k{number}": number for number in range(10_000)}),
        json.dumps({"k" * 1024: ":" * 20_000}),
        '{"a":"' + "x" * (LIMIT_BYTES - 8) + '"}',
    ],
    ids=lambda text: f"{text[:20]} of {len(text)}",
)
async def test_accepted_documents_come_back_character_by_character(stage: Stage, payload: str) -> None:
    event = (await send(stage.developer, payload_json=payload)).event
    assert event.payload_json == payload
    assert (await get(stage.developer, event.id)).payload_json == payload


async def test_accepted_limits(stage: Stage, connection: Connection) -> None:
    text = "é" * 256
    request = '{"url":"/","method":"POST","headers":{"a":"b"},"rawBody":"no json"}'
    event = (
        await send(
            stage.developer,
            name=text,
            source=text,
            event_id=text,
            account_id=text,
            payload_json=request,
            payload_type=2,
            deliver_delay=Duration(seconds=YEAR_SECONDS),
        )
    ).event
    assert (event.name, event.source, event.event_id, event.account_id) == (text, text, text, text)
    assert event.payload_json == request
    (delivery,) = [one for one in await deliveries(connection) if str(one["id"]) == event.id]
    assert delivery["queue_job_state"] == "SCHEDULED"
