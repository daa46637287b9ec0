"""One trace follows a request through everything that comes of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kongflow.v1 import event_service_pb2

from services.endpoints.domain.tracing import is_sampled, read_traceparent
from tests.support.collector import Collector
from tests.support.events import new_event
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job
from tests.support.pair import running_pair

if TYPE_CHECKING:
    import asyncpg

CREATING = "11111111111111111111111111111111"
SENDING = "22222222222222222222222222222222"
UNSAMPLED = "33333333333333333333333333333333"


def traced(client: Any, trace_id: str, *, flags: str = "01") -> Any:
    """Have a client's calls belong to a trace."""
    client.metadata = (*client.metadata, ("traceparent", f"00-{trace_id}-1234567890abcdef-{flags}"))
    return client


async def test_one_trace_follows_an_endpoint_and_another_an_event(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def runs() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM job_runs"))

    async with Collector() as collector:
        async with running_pair(
            database_url=database_url, redis_url=redis_url, traces_endpoint=collector.url, traces_ratio=0.0
        ) as pair:
            tenant = await pair.new_tenant()
            index = {**EMPTY_INDEX, "jobs": [event_job("welcome")]}
            async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
                creator = traced(pair.client(tenant.api_key), CREATING)
                created = await creator.create_endpoint(tenant, endpoint.url)
                await creator.watch(created.index_id)
                sender = traced(pair.client(tenant.api_key), SENDING)
                request = event_service_pb2.SendEventRequest(event=new_event("thing.happened"))
                await sender.call(sender.events.SendEvent, request)
                await eventually(runs)
                (ping,), (fetch,) = endpoint.calls("PING"), endpoint.calls("INDEX_ENDPOINT")
        creating, sending = collector.of_trace(CREATING), collector.of_trace(SENDING)

    create = creating["kongflow.v1.EndpointService/CreateEndpoint"]
    assert create.parent_span_id.hex() == "1234567890abcdef"
    assert creating["endpoint PING"].parent_span_id == create.span_id
    assert creating["indexEndpoint"].parent_span_id == create.span_id
    assert creating["endpoint INDEX_ENDPOINT"].parent_span_id == creating["indexEndpoint"].span_id
    assert creating["registerJob"].parent_span_id == creating["indexEndpoint"].span_id
    for name, call in (("endpoint PING", ping), ("endpoint INDEX_ENDPOINT", fetch)):
        assert call.headers["traceparent"] == f"00-{CREATING}-{creating[name].span_id.hex()}-01"
    send = sending["kongflow.v1.EventService/SendEvent"]
    assert sending["deliverEvent"].parent_span_id == send.span_id
    assert sending["events.invokeDispatcher"].parent_span_id == sending["deliverEvent"].span_id
    told = {(span.parent_span_id, span.trace_id.hex()): span for span in collector.named("worker RunQueueJobs")}
    for ran in ("deliverEvent", "events.invokeDispatcher"):
        call_back = told[sending[ran].parent_span_id, SENDING]
        assert call_back.start_time_unix_nano <= sending[ran].start_time_unix_nano
        assert call_back.end_time_unix_nano >= sending[ran].end_time_unix_nano
    fetched = told[creating["indexEndpoint"].parent_span_id, CREATING]
    assert {pair.key: pair.value.string_value for pair in fetched.attributes}["kongflow.queue"] == "execution"
    assert collector.service_of(fetched) == "kongflow-worker"
    assert collector.service_of(sending["deliverEvent"]) == "kongflow-endpoints"
    assert {span.trace_id.hex() for span in collector.spans} == {CREATING, SENDING}


async def test_what_a_caller_does_not_record_is_not_recorded_but_told_on(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with Collector() as collector:
        async with running_pair(
            database_url=database_url, redis_url=redis_url, workers=0, traces_endpoint=collector.url, traces_ratio=1.0
        ) as pair:
            tenant = await pair.new_tenant()
            async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
                client = traced(pair.client(tenant.api_key), UNSAMPLED, flags="00")
                await client.create_endpoint(tenant, endpoint.url)
                (ping,) = endpoint.calls("PING")
        names = {span.name for span in collector.spans}

    assert collector.of_trace(UNSAMPLED) == {}
    assert "kongflow.v1.TenancyService/CreateEnvironment" in names
    context = await connection.fetchval("SELECT trace_context FROM queue_jobs WHERE kind = 'indexEndpoint'")
    assert context.startswith(f"00-{UNSAMPLED}-")
    assert not is_sampled(context)
    assert ping.headers["traceparent"] == context


async def test_nothing_is_stored_or_told_on_while_traces_are_off(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
        tenant = await pair.new_tenant()
        async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
            await traced(pair.client(tenant.api_key), CREATING).create_endpoint(tenant, endpoint.url)
            (ping,) = endpoint.calls("PING")
    assert "traceparent" not in ping.headers
    assert await connection.fetchval("SELECT count(*) FROM queue_jobs WHERE trace_context IS NOT NULL") == 0


async def test_the_sdk_is_not_imported_while_traces_are_off() -> None:
    check = (
        "import sys, services.endpoints.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    result = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", check], check=False, env={"PYTHONPATH": ".:gen"}, timeout=60
    )
    assert result.returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-11111111111111111111111111111111-1234567890abcdef",
        "00-00000000000000000000000000000000-1234567890abcdef-01",
        "00-11111111111111111111111111111111-0000000000000000-01",
        "00-1111111111111111111111111111111G-1234567890abcdef-01",
        "01-11111111111111111111111111111111-1234567890abcdef-01",
        "00-11111111111111111111111111111111-1234567890abcdef-01-x",
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(text: str | None) -> None:
    assert read_traceparent(text) is None


async def test_a_call_keeps_its_request_id_or_gets_one(database_url: str, redis_url: str) -> None:
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        request = event_service_pb2.ListEventsRequest()
        seen = {}
        for given in ("order-17", "no good", "x" * 129):
            call = client.events.ListEvents(request, metadata=(*client.metadata, ("x-request-id", given)))
            await call
            seen[given] = dict(await call.trailing_metadata())["x-request-id"]
        refused = client.events.ListEvents(request, metadata=(("x-request-id", "refused-1"),))
        trailing = dict(await refused.trailing_metadata())

    assert seen["order-17"] == "order-17"
    assert all(len(seen[bad]) == 32 for bad in ("no good", "x" * 129))
    assert trailing["x-request-id"] == "refused-1"
    assert "grpc-status-details-bin" in trailing
