"""The rows of the table of bad inputs about a server that is full, stopping or left alone by its databases."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import event_service_pb2 as events
from kongflow.v1 import queue_service_pb2 as queue

from tests.support.eventually import eventually
from tests.support.pair import running_pair
from tests.support.proxy import TcpProxy
from tests.support.rpc import Caller, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from tests.support.pair import Pair, Tenant

FULL = ["google.rpc.ErrorInfo", "google.rpc.RetryInfo", "google.rpc.QuotaFailure"]


@asynccontextmanager
async def tenant_of(pair: Pair) -> AsyncIterator[tuple[Tenant, Caller]]:
    tenant = await pair.new_tenant()
    caller = Caller(pair.grpc_target, tenant.service_token)
    try:
        yield tenant, caller
    finally:
        await caller.channel.close()


def through(url: str, proxy: TcpProxy) -> str:
    """Return the address of the same server behind a proxy."""
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


def listed(caller: Caller, tenant: Tenant) -> Awaitable[Any]:
    request = endpoints.ListEndpointsRequest(environment_id=tenant.environment_id)
    answer: Awaitable[Any] = caller.endpoints.ListEndpoints(request)
    return answer


async def test_row_76_a_tenant_over_its_rate(database_url: str, redis_url: str) -> None:
    async with (
        running_pair(database_url=database_url, redis_url=redis_url) as unlimited,
        tenant_of(unlimited) as (tenant, _),
        running_pair(
            database_url=database_url,
            redis_url=redis_url,
            workers=0,
            tenant_calls_per_second=0.01,
            tenant_calls_burst=3,
        ) as pair,
    ):
        caller = Caller(pair.grpc_target, tenant.service_token)
        for _ in range(3):
            await listed(caller, tenant)
        refusal = await refused(listed(caller, tenant))
        await caller.channel.close()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert sorted(refusal.details) == sorted(FULL)


async def test_row_77_a_server_that_stops(database_url: str, redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(running_pair(database_url=database_url, redis_url=redis_url))
        _, caller = await stack.enter_async_context(tenant_of(pair))
        watch = aiter(caller.queue.WatchQueueStats(queue.WatchQueueStatsRequest()))
        await anext(watch)
        pair.stop.set()
        refusal = await refused(_last(watch))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert "google.rpc.RetryInfo" in refusal.details


async def _last(watch: Any) -> None:
    async for _ in watch:
        pass


async def test_row_78_a_database_that_is_away(database_url: str, redis_url: str) -> None:
    async with (
        TcpProxy(upstream_port=urlsplit(database_url).port or 0) as proxy,
        running_pair(database_url=through(database_url, proxy), redis_url=redis_url) as pair,
        tenant_of(pair) as (tenant, caller),
    ):
        await listed(caller, tenant)
        proxy.refuse()
        refusal = await refused(listed(caller, tenant))
        proxy.heal()

        async def is_back() -> bool:
            try:
                await listed(caller, tenant)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - each answer until it is back
                return False
            return True

        await eventually(is_back, within=timedelta(seconds=20))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert "google.rpc.RetryInfo" in refusal.details


async def test_row_78_a_redis_that_is_away(database_url: str, redis_url: str) -> None:
    async with (
        TcpProxy(upstream_port=urlsplit(redis_url).port or 0) as proxy,
        running_pair(database_url=database_url, redis_url=through(redis_url, proxy), workers=0) as pair,
        tenant_of(pair) as (tenant, caller),
    ):
        proxy.refuse()
        request = events.SendEventRequest(
            environment_id=tenant.environment_id, event=events.NewEvent(name="row.78", payload_json="{}")
        )
        assert (await caller.events.SendEvent(request)).created
        proxy.heal()


async def test_row_79_a_watch_more_than_a_tenant_may_have(database_url: str, redis_url: str) -> None:
    async with (
        running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair,
        tenant_of(pair) as (_, caller),
    ):
        watches = [caller.queue.WatchQueueStats(queue.WatchQueueStatsRequest()) for _ in range(100)]
        for watch in watches:
            await watch.read()
        refusal = await refused(anext(aiter(caller.queue.WatchQueueStats(queue.WatchQueueStatsRequest()))))
        for watch in watches:
            watch.cancel()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert sorted(refusal.details) == sorted(FULL)
