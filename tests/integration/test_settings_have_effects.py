"""A setting that is changed changes what the service does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2, event_service_pb2, queue_service_pb2

from services.endpoints.adapter_settings import pools_of
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.ports.store import Pool
from services.endpoints.operations.relay import Relay
from services.endpoints.store.postgres import PostgresStore
from services.worker.settings import WorkerSettings
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, hang, on, status
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps
from tests.support.pair import endpoints_settings, running_pair, state_name

if TYPE_CHECKING:
    from tests.support.pair import Client, Tenant

WITHIN = timedelta(seconds=20)


def send_request(tenant: Tenant, **event: Any) -> event_service_pb2.SendEventRequest:
    return event_service_pb2.SendEventRequest(
        environment_id=tenant.environment_id, event=event_service_pb2.NewEvent(name="thing.happened", **event)
    )


async def refused(client: Client, tenant: Tenant, endpoint: FakeEndpoint) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.create_endpoint(tenant, endpoint.url)
    return refusal.value


async def test_attempts_are_those_of_the_queue_group(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        queue_max_attempts=7,
        queue_registration_max_attempts=4,
        retry_base_seconds=600,
        retry_cap_seconds=600,
    ) as pair:
        tenant = await pair.new_tenant(environment_type="STAGING")
        client = pair.client(tenant.api_key)
        index = {**EMPTY_INDEX, "jobs": [event_job("wants-it")]}
        async with FakeEndpoint(index=index, api_key=tenant.api_key) as endpoint:
            created = await client.create_endpoint(tenant, endpoint.url)
            await client.watch(created.index_id)
            await client.call(client.events.SendEvent, send_request(tenant, event_id="one"))
            sent = await client.call(client.events.SendEvent, send_request(tenant, event_id="two"))
            replay = event_service_pb2.ReplayEventsRequest(environment_id=tenant.environment_id, ids=[sent.event.id])
            await client.call(client.events.ReplayEvents, replay)

            async def are_invoked() -> bool:
                return len(await client.queue_jobs(kind="events.invokeDispatcher")) == 3

            await eventually(are_invoked, within=WITHIN)
            attempts = {
                kind: {queue_job.max_attempts for queue_job in await client.queue_jobs(kind=kind)}
                for kind in ("indexEndpoint", "registerJob", "deliverEvent", "events.invokeDispatcher")
            }
            endpoint.behaviour = on("INDEX_ENDPOINT", status(503))
            began = datetime.now(UTC)
            await client.index(created.endpoint.id, force=True)

            async def is_put_off() -> bool:
                return state_name((await client.queue_jobs(kind="indexEndpoint"))[0]) == "SCHEDULED"

            await eventually(is_put_off, within=WITHIN)
            put_off = (await client.queue_jobs(kind="indexEndpoint"))[0]

    assert attempts == {
        "indexEndpoint": {7},
        "registerJob": {4},
        "deliverEvent": {7},
        "events.invokeDispatcher": {7},
    }
    assert put_off.attempt == 1
    delay = put_off.run_time.ToDatetime(tzinfo=UTC) - began
    assert timedelta(seconds=300) <= delay <= timedelta(seconds=600) + WITHIN


async def test_calls_are_made_as_the_api_client_group_says(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        workers=0,
        api_client_max_retries=2,
        api_client_retry_backoff_seconds=0.3,
        api_client_user_agent="Ours/2",
        endpoint_timeout_seconds=2,
        ping_total_seconds=10,
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        async with (
            FakeEndpoint(behaviour=status(503), api_key=tenant.api_key) as busy,
            FakeEndpoint(behaviour=hang, api_key=tenant.api_key) as hung,
        ):
            await refused(client, tenant, busy)
            began = datetime.now(UTC)
            await refused(client, tenant, hung)
            took = datetime.now(UTC) - began
            pings, hung_pings = busy.calls("PING"), hung.calls("PING")

    assert [ping.headers["user-agent"] for ping in pings] == ["Ours/2", "Ours/2"]
    assert pings[1].time - pings[0].time >= timedelta(seconds=0.3)
    assert len(hung_pings) == 2
    assert timedelta(seconds=4) < took < timedelta(seconds=20)


async def test_what_is_kept_longer_can_be_replayed_longer(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url, redis_url=redis_url, workers=0, retention_events_seconds=60 * 86_400
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        now = datetime.now(UTC)

        def replay_from(days: int) -> event_service_pb2.ReplayEventsRequest:
            request = event_service_pb2.ReplayEventsRequest(environment_id=tenant.environment_id, validate_only=True)
            request.created_from.FromDatetime(now - timedelta(days=days))
            request.created_before.FromDatetime(now)
            return request

        answer = await client.call(client.events.ReplayEvents, replay_from(45))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await client.call(client.events.ReplayEvents, replay_from(61))

    assert answer.matched_count == 0
    assert refusal.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert "kept for 60 days" in (refusal.value.details() or "")


async def test_bounds_of_calls_are_those_of_the_settings(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        workers=0,
        rpc_max_request_bytes=4 << 20,
        rpc_max_metadata_bytes=64 << 10,
        rpc_ping_deadline_seconds=4,
        tenant_watches_at_once=1,
        hook_delay_seconds=600,
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        # Larger than the default, and refused for what it says, not for its size.
        events = [
            event_service_pb2.NewEvent(name="thing.happened", event_id="", payload_json=f'"{"x" * 500_000}"')
            for _ in range(3)
        ]
        request = event_service_pb2.SendEventsRequest(environment_id=tenant.environment_id, events=events)
        sent = await client.call(client.events.SendEvents, request)
        heavy = (*client.metadata, ("x-note", "x" * 24_000))
        listed = await client.endpoints.ListEndpoints(
            endpoint_service_pb2.ListEndpointsRequest(environment_id=tenant.environment_id), metadata=heavy
        )
        first = aiter(
            client.queue.WatchQueueStats(queue_service_pb2.WatchQueueStatsRequest(), metadata=client.metadata)
        )
        await anext(first)
        second = aiter(
            client.queue.WatchQueueStats(queue_service_pb2.WatchQueueStatsRequest(), metadata=client.metadata)
        )
        with pytest.raises(grpc.aio.AioRpcError) as one_too_many:
            await anext(second)
        async with FakeEndpoint(behaviour=on("PING", hang), api_key=tenant.api_key) as hung:
            began = datetime.now(UTC)
            await refused(client, tenant, hung)
            took = datetime.now(UTC) - began
        async with FakeEndpoint(api_key=tenant.api_key) as endpoint, aiohttp.ClientSession() as session:
            created = (await client.create_endpoint(tenant, endpoint.url)).endpoint
            hook = f"{pair.http_url}/api/v1/endpoints/{tenant.environment_id}/{created.slug}/index"
            async with session.post(f"{hook}/{created.indexing_hook_identifier}") as answer:
                assert answer.status == 200
            waiting = (await client.queue_jobs(kind="indexEndpoint"))[0]

    assert len(sent.events) == 3
    assert not listed.endpoints
    assert one_too_many.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert timedelta(seconds=2.5) < took < timedelta(seconds=15)
    assert waiting.run_time.ToDatetime(tzinfo=UTC) - began > timedelta(seconds=500)


async def test_the_relay_looks_as_often_as_the_poll_interval_says(store: PostgresStore) -> None:
    async def pause(poll: timedelta) -> timedelta:
        relay = Relay(
            store=store,
            publisher=MemoryPublisher(),
            wake_ups=MemoryWakeUps(),
            settings=LedgerSettings(safety_poll=poll),
        )
        return await relay.run_once()

    assert await pause(timedelta(seconds=7)) == timedelta(seconds=7)
    assert await pause(timedelta(milliseconds=50)) == timedelta(milliseconds=50)


async def test_pools_have_the_sizes_and_timeouts_of_the_settings(database_url: str, redis_url: str) -> None:
    settings = endpoints_settings(
        database_url=database_url,
        redis_url=redis_url,
        calls_pool_size=2,
        database_callers_statement_timeout_seconds=1.5,
        database_callers_lock_timeout_seconds=0.5,
        database_call_backs_statement_timeout_seconds=11,
        database_call_backs_lock_timeout_seconds=7,
        database_relay_statement_timeout_seconds=3,
        database_relay_lock_timeout_seconds=0.25,
        database_idle_in_transaction_timeout_seconds=9,
        database_tcp_user_timeout_seconds=13,
    )
    pools = pools_of(settings)
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None, pools=pools)
    await store.open()
    try:
        shown = {pool: await shown_timeouts(store, pool) for pool in Pool}
    finally:
        await store.close()

    callers, call_backs, relay = ("1500ms", "500ms"), ("11s", "7s"), ("3s", "250ms")
    assert pools[Pool.CALLS].max_size == 2
    assert shown == {
        Pool.CALLERS: (*callers, "9s"),
        Pool.READERS: (*callers, "9s"),
        Pool.LISTS: (*callers, "9s"),
        Pool.CALLS: (*call_backs, "9s"),
        Pool.CALL_BACKS: (*call_backs, "9s"),
        Pool.RELAY: (*relay, "9s"),
        Pool.LEASES: (*relay, "9s"),
    }
    assert {pool.tcp_user_timeout for pool in pools.values()} == {timedelta(seconds=13)}


async def shown_timeouts(store: PostgresStore, pool: Pool) -> tuple[str, ...]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    async with store.reading(pool) as tx:
        return tuple([await tx.connection.fetchval(f"SHOW {name}") for name in names])


def test_a_worker_serves_as_many_calls_as_max_workers_says() -> None:
    settings = WorkerSettings(worker_token="kfw", queue_max_workers=3)

    assert dict(settings.worker_queues) == {"default": 3, "execution": 100, "events": 3, "maintenance": 1}
