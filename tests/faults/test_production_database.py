"""What callers and health say while PostgreSQL is there and does not serve as it should."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kongflow.v1 import endpoint_service_pb2

from services.endpoints.rpc.deadlines import DEFAULT_DEADLINES
from tests.support.eventually import eventually
from tests.support.machine_time import machine_time
from tests.support.pair import running_pair
from tests.support.rpc import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.pair import Pair, Tenant

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FLIPS_WITHIN = timedelta(seconds=8)
SLACK = timedelta(seconds=2)
HEALS_WITHIN = timedelta(seconds=20)

# What a write is told instead of being done.
_REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{sqlstate}'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON runtime_environments FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own, to meddle."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def list_endpoints(pair: Pair, tenant: Tenant, *, timeout: float | None = None) -> Any:
    client = pair.client(tenant.api_key)
    request = endpoint_service_pb2.ListEndpointsRequest(environment_id=tenant.environment_id)
    return await client.call(client.endpoints.ListEndpoints, request, timeout=timeout)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str, bool]:
    """Return how a call ended: its status, its reason, and whether it says when to come again."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not error.trailing_metadata():
            # gRPC's own: the machine had no time for the server's answer before the caller hung up.
            return error.code(), "", False
        refusal = refusal_of(error)
        return refusal.code, refusal.reason, "google.rpc.RetryInfo" in refusal.details
    return grpc.StatusCode.OK, "", False


async def health_of(pair: Pair) -> int:
    answer = await health_pb2_grpc.HealthStub(pair.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(answer.status)


async def readiness_of(pair: Pair) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{pair.http_url}/readyz") as answer:
        return answer.status


async def test_calls_that_find_no_connection_are_told_in_time_and_health_is_unaffected(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Two connections for readers, whose statements wait for a lock."""
    async with running_pair(
        database_url=database_url, redis_url=redis_url, workers=0, readers_pool_size=2, callers_pool_size=2
    ) as pair:
        tenant = await pair.new_tenant()
        await list_endpoints(pair, tenant)
        began = machine_time()
        async with connection.transaction():
            await connection.execute("LOCK TABLE endpoints IN ACCESS EXCLUSIVE MODE")
            patient = [status_of(list_endpoints(pair, tenant)) for _ in range(20)]
            impatient = [status_of(list_endpoints(pair, tenant, timeout=3)) for _ in range(10)]
            asked = asyncio.gather(*patient, *impatient)
            while not asked.done():
                assert (await health_of(pair), await readiness_of(pair)) == (SERVING, 200)
                await asyncio.wait((asked,), timeout=0.2)
            statuses = Counter(asked.result())
        took = machine_time() - began

        assert set(statuses) <= {
            (grpc.StatusCode.ABORTED, "CONFLICT", True),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", True),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", False),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "", False),
        }
        assert statuses[(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", True)] >= 5
        # On a slow machine some give up a moment before their reason comes.
        assert statuses[(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", False)] >= 1
        assert sum(times for (code, *_), times in statuses.items() if code is grpc.StatusCode.DEADLINE_EXCEEDED) >= 5
        assert took < (DEFAULT_DEADLINES.default + SLACK).total_seconds()
        assert (await list_endpoints(pair, tenant)).endpoints == []


@asynccontextmanager
async def role_of_its_own(connection: asyncpg.Connection[asyncpg.Record], database_url: str) -> AsyncIterator[str]:
    """Give the database's address for a role that is no superuser, which limits do not hold for."""
    await connection.execute(
        "CREATE ROLE served LOGIN PASSWORD 'served'; GRANT ALL ON ALL TABLES IN SCHEMA public TO served;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO served"
    )
    where = urlsplit(database_url)
    try:
        yield where._replace(netloc=f"served:served@{where.hostname}:{where.port}").geturl()
    finally:
        await connection.execute("DROP OWNED BY served; DROP ROLE served")


async def end_sessions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'served'")


@pytest.mark.parametrize(
    ("breaks", "heals"),
    [
        pytest.param(
            "ALTER ROLE served SET default_transaction_read_only = on",
            "ALTER ROLE served RESET default_transaction_read_only",
            id="25006",
        ),
        pytest.param("ALTER ROLE served CONNECTION LIMIT 0", "ALTER ROLE served CONNECTION LIMIT -1", id="53300"),
    ],
)
async def test_database_that_is_read_only_or_full_of_sessions_is_unavailable_until_it_is_not(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record], breaks: str, heals: str
) -> None:
    async with (
        role_of_its_own(connection, database_url) as served_url,
        running_pair(database_url=served_url, redis_url=redis_url, workers=0) as pair,
    ):
        tenant = await pair.new_tenant()
        await connection.execute(breaks)
        await end_sessions(connection)
        await is_unavailable_and_not_ready(pair, tenant)

        await connection.execute(heals)
        await serves_again(pair)


@pytest.mark.parametrize("sqlstate", ["53100", "57P03", "58030"])
async def test_database_without_space_or_disk_or_about_to_start_is_unavailable_until_it_is_not(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record], sqlstate: str
) -> None:
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
        tenant = await pair.new_tenant()
        await connection.execute(_REFUSE.format(sqlstate=sqlstate))
        await is_unavailable_and_not_ready(pair, tenant)

        await connection.execute("DROP FUNCTION refuse CASCADE")
        await serves_again(pair)


async def is_unavailable_and_not_ready(pair: Pair, tenant: Tenant) -> None:
    assert await status_of(write(pair, tenant)) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", True)

    async def has_flipped() -> bool:
        return (await health_of(pair), await readiness_of(pair)) == (NOT_SERVING, 503)

    await eventually(has_flipped, within=FLIPS_WITHIN)


async def serves_again(pair: Pair) -> None:
    async def has_healed() -> bool:
        return (await health_of(pair), await readiness_of(pair)) == (SERVING, 200)

    await eventually(has_healed, within=HEALS_WITHIN)
    await pair.new_tenant()


async def write(pair: Pair, tenant: Tenant) -> None:
    await pair.new_environment(tenant.project_id, slug="another")
