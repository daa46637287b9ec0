"""What lists of jobs, endpoints and environments read where there are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.catalog import PostgresCatalog
from services.endpoints.store.endpoints import PostgresEndpoints
from services.endpoints.store.known_environments import KnownEnvironments
from services.endpoints.store.tenancy import PostgresTenancy
from tests.support.catalog import Tenant, connected_tenant
from tests.support.ledger_plans import ENVIRONMENTS, ORGANIZATIONS, TENANTS, ExplainingConnection, environment
from tests.support.offers import job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

JOBS = 1_000
ENDPOINTS = 200
PAGE = 51


@pytest.fixture
async def tenant(database_url: str, connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[Tenant]:
    await connection.execute(TENANTS)
    async with connected_tenant(database_url) as one:
        yield one


@pytest.fixture
async def many(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record], tenant: Tenant
) -> AsyncIterator[ExplainingConnection]:
    """A connection for lists, to a database with many jobs, endpoints and environments."""
    for number in range(ENDPOINTS):
        app = await tenant.endpoint(f"app-{number:03}")
    await tenant.register(app, jobs=[job(f"job-{number:04}") for number in range(JOBS)])
    await connection.execute("ANALYZE")
    async with store.reading(Pool.READERS) as tx:
        yield ExplainingConnection(tx.connection, nouns=("catalog", "endpoints", "tenancy"))


def _bound(many: ExplainingConnection) -> asyncpg.Connection[asyncpg.Record]:
    return cast("asyncpg.Connection[asyncpg.Record]", many)


async def test_a_page_of_jobs_costs_a_page(many: ExplainingConnection, tenant: Tenant) -> None:
    catalog = PostgresCatalog(_bound(many))
    for after_slug in ("", f"job-{JOBS // 2:04}"):
        page = await catalog.list_jobs(tenant.job_filter(), limit=PAGE, after_slug=after_slug)
        assert len(page.rows) == PAGE
        # An entry of an index and its row, or the row alone, of each of a few tables.
        assert many.plans[-1].rows_of("job") <= 12 * PAGE, many.plans[-1]


async def test_one_job_costs_one(many: ExplainingConnection, tenant: Tenant) -> None:
    found = await PostgresCatalog(_bound(many)).get_job(tenant.environment_id, f"job-{JOBS // 2:04}")
    assert found is not None
    assert many.plans[-1].rows_of("job") <= 12, many.plans[-1]


async def test_a_page_of_endpoints_costs_a_page(many: ExplainingConnection, tenant: Tenant) -> None:
    endpoints = PostgresEndpoints(_bound(many))
    page = await endpoints.list_endpoints(tenant.environment_id, limit=PAGE, after_slug="app-100")
    assert len(page) == PAGE
    assert many.plans[-1].rows_of("endpoints") <= 2 * PAGE, many.plans[-1]


async def test_environments_are_read_by_what_is_asked_for(many: ExplainingConnection) -> None:
    tenancy = PostgresTenancy(_bound(many), known=KnownEnvironments())
    seventh = environment(7)
    wanted = {"organization_id": None, "project_id": None, "environment_id": None, "limit": ENVIRONMENTS, "after": None}
    (one,) = await tenancy.list_environments(**{**wanted, "environment_id": seventh})  # type: ignore[arg-type]
    assert one.id == seventh
    assert many.plans[-1].rows_of("runtime_environments") == 1, many.plans[-1]
    some = await tenancy.list_environments(**{**wanted, "organization_id": one.organization_id})  # type: ignore[arg-type]
    assert len(some) == ENVIRONMENTS // ORGANIZATIONS
