"""What a tenant asks by HTTP, in the console or by its hooks, counts as much as what it asks by gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2, tenancy_service_pb2

from tests.support.console import visitor
from tests.support.eventually import eventually
from tests.support.pair import running_pair
from tests.support.rpc import refusal_of

if TYPE_CHECKING:
    import asyncpg

# So slow that nothing comes back while a test runs; an administrator makes a tenant with less.
_BURST = 12
_RATE = 0.01


async def test_a_page_over_the_rate_is_429_and_says_when_to_come_back(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        workers=0,
        tenant_calls_per_second=_RATE,
        tenant_calls_burst=_BURST,
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.service_token)
        listing = tenancy_service_pb2.ListEnvironmentsRequest()
        async with visitor(pair.http_url, tenant.service_token) as somebody, visitor(pair.http_url) as nobody:
            for _ in range((_BURST - 1) // 2):
                assert (await somebody.get("/console/environments")).status == 200
                await client.call(client.tenancy.ListEnvironments, listing)
            while (await somebody.get("/console/queues")).status == 200:
                pass
            refused = await somebody.get("/console/environments")
            csrf = (await somebody.get("/console/environments")).csrf
            action = await somebody.post(f"/console/queue-jobs/{tenant.environment_id}/retry", {"csrf": csrf})
            again = await nobody.sign_in(tenant.service_token)
            with pytest.raises(grpc.aio.AioRpcError) as by_grpc:
                await client.tenancy.ListEnvironments(listing, metadata=client.metadata)
            strangers = await nobody.get("/console/sign-in")
    assert refused.status == action.status == again.status == 429
    assert 90 <= int(refused.headers["Retry-After"]) <= 100
    assert "calls in a second" in refused.words
    assert refusal_of(by_grpc.value).reason == "RATE_LIMITED"
    assert strangers.status == 200


async def test_pages_that_are_open_at_once_are_capped(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0, tenant_calls_at_once=1) as pair:
        tenant, other = await pair.new_tenant(), await pair.new_tenant()
        async with (
            visitor(pair.http_url, tenant.service_token) as somebody,
            visitor(pair.http_url, other.service_token) as neighbour,
        ):
            async with connection.transaction():
                await connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
                held = asyncio.create_task(somebody.get(f"/console/environments/{tenant.environment_id}/jobs"))

                async def is_held() -> bool:
                    waiting: bool = await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'jobs'::regclass)"
                    )
                    return waiting

                await eventually(is_held)
                refused = await somebody.get("/console/environments")
            assert (await held).status == 200
            assert (await somebody.get("/console/environments")).status == 200
            assert (await neighbour.get("/console/environments")).status == 200
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")


async def test_hooks_over_the_rate_are_429_and_those_of_nobody_are_not_counted(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        workers=0,
        tenant_calls_per_second=_RATE,
        tenant_calls_burst=_BURST,
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.service_token)
        stored = endpoint_service_pb2.UpsertEndpointRequest(
            environment_id=tenant.environment_id,
            slug="app",
            url="http://127.0.0.1:9/",
            indexing_hook_identifier="a1b2c3d4e5",
        )
        await client.call(client.endpoints.UpsertEndpoint, stored)
        hook = f"/api/v1/endpoints/{tenant.environment_id}/app/index"
        async with aiohttp.ClientSession(pair.http_url) as http:
            for _ in range(_BURST - 1):
                assert (await http.post(f"{hook}/0000000000")).status == 404
                assert (await http.post(f"{hook}/a1b2c3d4e5")).status == 200
            refused = await http.post(f"{hook}/a1b2c3d4e5")
            reason = (await refused.json())["error"]
    assert (refused.status, "calls in a second" in reason) == (429, True)
    assert 90 <= int(refused.headers["Retry-After"]) <= 100
    assert await connection.fetchval("SELECT count(*) FROM endpoint_indexes") == 1
