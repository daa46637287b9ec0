"""What lists of jobs, endpoints and environments read where there are many, and how much for those who have few."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.catalog import PostgresCatalog
from services.endpoints.store.endpoints import PostgresEndpoints
from tests.support.catalog import Tenant, connected_tenant
from tests.support.ledger_plans import ExplainingConnection
from tests.support.offers import job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

JOBS = 1_000
DROPPED = 4_000
ENDPOINTS = 200
PAGE = 51

Explained = dict[Pool, ExplainingConnection]


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


@pytest.fixture
async def many(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record], tenant: Tenant
) -> AsyncIterator[Explained]:
    """Connections of the pools that read, to a database with many jobs and endpoints of one environment."""
    for number in range(ENDPOINTS):
        app = await tenant.endpoint(f"app-{number:03}")
    await tenant.register(app, jobs=[job(f"job-{number:04}") for number in range(JOBS)])
    await connection.execute("ANALYZE")
    async with AsyncExitStack() as stack:
        yield {
            pool: ExplainingConnection(
                (await stack.enter_async_context(store.reading(pool))).connection, nouns=("catalog", "endpoints")
            )
            for pool in (Pool.READERS, Pool.LISTS)
        }


def _catalog(explaining: ExplainingConnection) -> PostgresCatalog:
    return PostgresCatalog(cast("asyncpg.Connection[asyncpg.Record]", explaining))


async def test_a_page_of_jobs_costs_a_page(many: Explained, tenant: Tenant) -> None:
    explaining = many[Pool.LISTS]
    for after_slug in ("", f"job-{JOBS // 2:04}"):
        page = await _catalog(explaining).list_jobs(tenant.job_filter(), limit=PAGE, after_slug=after_slug)
        assert len(page.rows) == PAGE
        # An entry of an index and its row, or the row alone, of each of a few tables.
        assert explaining.plans[-1].rows_of("job") <= 12 * PAGE, explaining.plans[-1]


async def test_jobs_of_who_has_none_cost_nothing_of_what_others_have(many: Explained, tenant: Tenant) -> None:
    explaining = many[Pool.LISTS]
    elsewhere = replace(tenant.job_filter(), environment_id=new_uuid7())
    assert (await _catalog(explaining).list_jobs(elsewhere, limit=PAGE, after_slug="")).rows == []
    assert explaining.plans[-1].rows_of("job") == 0, explaining.plans[-1]


async def test_one_job_costs_one(many: Explained, tenant: Tenant) -> None:
    explaining = many[Pool.READERS]
    found = await _catalog(explaining).get_job(tenant.environment_id, f"job-{JOBS // 2:04}")
    assert found is not None
    assert explaining.plans[-1].rows_of("job") <= 12, explaining.plans[-1]


async def test_each_job_that_is_dropped_costs_the_same_before_its_table_is_analyzed(tenant: Tenant) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    for endpoint_id in (blue, green):
        await tenant.register(endpoint_id, jobs=[job(f"job-{number:04}") for number in range(DROPPED)])
    explaining = ExplainingConnection(tenant.connection, nouns=("catalog", "displaced"))
    async with tenant.connection.transaction():
        await _catalog(explaining).disable_endpoint(green)
    plans = {plan.block: plan for plan in explaining.plans}
    for block in ("disable_jobs", "give_back"):
        assert plans[block].rows_of("job_versions") <= 5 * DROPPED, plans[block]


async def test_a_page_of_endpoints_costs_a_page(many: Explained, tenant: Tenant) -> None:
    explaining = many[Pool.LISTS]
    endpoints = PostgresEndpoints(cast("asyncpg.Connection[asyncpg.Record]", explaining))
    page = await endpoints.list_endpoints(tenant.environment_id, limit=PAGE, after_slug="app-100")
    assert len(page) == PAGE
    assert explaining.plans[-1].rows_of("endpoints") <= 2 * PAGE, explaining.plans[-1]
