"""A server that stops before a customer has answered leaves the call to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, hang, on
from tests.support.pair import running_pair

if TYPE_CHECKING:
    import asyncpg


async def test_call_that_outlasts_the_drain_is_no_failure_of_its_endpoint(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with FakeEndpoint(behaviour=on("INDEX_ENDPOINT", hang)) as endpoint:
        async with running_pair(database_url=database_url, redis_url=redis_url, drain_timeout_seconds=0) as pair:
            tenant = await pair.new_tenant()
            endpoint.api_key = tenant.api_key
            await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
            await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        (queue_job,) = await connection.fetch("SELECT state, errors FROM queue_jobs WHERE kind = 'indexEndpoint'")

    assert (queue_job["state"], queue_job["errors"]) == ("RUNNING", "[]")
