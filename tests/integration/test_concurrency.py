"""Many callers, several servers and several workers at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest

from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, held_until, index_of, on
from tests.support.pair import running_pair, state_name
from tests.support.registrations import counted_registrations, exactly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.pair import Pair, Tenant

    Connection = asyncpg.Connection[asyncpg.Record]

CALLERS: Final = 100
WAITING: Final = "SELECT count(*) FROM queue_jobs WHERE kind = 'indexEndpoint' AND state IN ('SCHEDULED', 'AVAILABLE')"
ENDPOINTS: Final = "SELECT count(*), count(DISTINCT indexing_hook_identifier) FROM endpoints"
INDEXES: Final = "SELECT count(*) FROM endpoint_indexes"


@asynccontextmanager
async def most_waiting_indexes(connection: Connection) -> AsyncIterator[list[int]]:
    """Look all the time at how many indexes wait, until the block ends."""
    seen: list[int] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            seen.append(await connection.fetchval(WAITING))

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        done.set()
        await looking
        seen.append(await connection.fetchval(WAITING))


async def create_together(pair: Pair, tenant: Tenant, url: str) -> list[Any]:
    """Create one endpoint by many callers, who try again as they are told where too many wait for a connection."""
    client = pair.client(tenant.api_key)

    async def create() -> Any:
        while True:
            try:
                return await client.create_endpoint(tenant, url)
            except grpc.aio.AioRpcError as error:
                # Before the endpoint's ping and after it.
                if error.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
                    raise

    return await asyncio.gather(*(create() for _ in range(CALLERS)))


@pytest.mark.parametrize("environment_type", ["DEVELOPMENT", "PRODUCTION"])
async def test_callers_that_create_one_slug_at_once_share_one_endpoint(
    pair: Pair, connection: Connection, environment_type: str
) -> None:
    tenant = await pair.new_tenant(environment_type=environment_type)
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(3), api_key=tenant.api_key) as endpoint:
        async with most_waiting_indexes(connection) as waiting:
            created = await create_together(pair, tenant, endpoint.url)
        first = await client.watch(next(each.index_id for each in created if each.created))

    assert sum(each.created for each in created) == 1
    assert len({each.endpoint.id for each in created}) == 1
    assert len({each.endpoint.indexing_hook_identifier for each in created}) == 1
    assert tuple(await connection.fetchrow(ENDPOINTS) or ()) == (1, 1)
    assert state_name(first[-1]) == "SUCCEEDED"
    assert max(waiting) <= 1
    assert await connection.fetchval(WAITING) <= 1
    indexes = await connection.fetchval(INDEXES)
    assert indexes == len({each.index_id for each in created})
    if environment_type == "PRODUCTION":
        assert indexes <= 2


@pytest.mark.parametrize("environment_type", ["DEVELOPMENT", "PRODUCTION"])
async def test_callers_that_come_while_an_index_runs_share_the_next_one(
    pair: Pair, connection: Connection, environment_type: str
) -> None:
    tenant = await pair.new_tenant(environment_type=environment_type)
    client = pair.client(tenant.api_key)
    release = asyncio.Event()
    async with FakeEndpoint(index=index_of(3), api_key=tenant.api_key) as endpoint:
        endpoint.behaviour = on("INDEX_ENDPOINT", held_until(release))
        running = await client.create_endpoint(tenant, endpoint.url)
        await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        async with most_waiting_indexes(connection) as waiting:
            created = await create_together(pair, tenant, endpoint.url)
        release.set()
        assert state_name((await client.watch(running.index_id))[-1]) == "SUCCEEDED"

    assert {each.created for each in created} == {False}
    (next_index_id,) = {each.index_id for each in created}
    assert next_index_id != running.index_id
    assert max(waiting) == 1
    assert tuple(await connection.fetchrow(ENDPOINTS) or ()) == (1, 1)
    assert await connection.fetchval(INDEXES) == 2


async def test_two_servers_and_two_workers_register_each_job_once(database_url: str, redis_url: str) -> None:
    async with (
        counted_registrations(database_url) as registrations,
        running_pair(database_url=database_url, redis_url=redis_url) as one,
        running_pair(database_url=database_url, redis_url=redis_url) as other,
    ):
        tenant = await one.new_tenant()
        async with FakeEndpoint(index=index_of(500), api_key=tenant.api_key) as endpoint:
            created = await one.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
            final = (await other.client(tenant.api_key).watch(created.index_id))[-1]
            await eventually(registrations.is_over, within=timedelta(seconds=10))

        assert state_name(final) == "SUCCEEDED"
        assert await registrations.summary() == exactly(500)
        assert len(endpoint.calls("INDEX_ENDPOINT")) == 1
