from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support.catalog import connected_tenant
from tests.support.offers import cron_trigger, interval_trigger, job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.catalog import Tenant


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


async def test_jobs_are_listed_by_page_and_filter(tenant: Tenant) -> None:
    app, other = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(app, jobs=[job(slug) for slug in "cab"])
    await tenant.register(other, jobs=[job("d", name="id;drop table")])
    catalog, everything = tenant.catalog, tenant.job_filter()
    assert [one.slug for one in (await catalog.list_jobs(everything, limit=2, after_slug="")).rows] == ["a", "b"]
    assert [one.slug for one in (await catalog.list_jobs(everything, limit=9, after_slug="b")).rows] == ["c", "d"]
    found = (await catalog.list_jobs(tenant.job_filter(endpoint_id=other), limit=9, after_slug="")).rows
    assert [(one.slug, one.latest.endpoint_slug, one.latest.event_names) for one in found] == [
        ("d", "b", ("user.created",))
    ]
    assert [
        one.slug
        for one in (await catalog.list_jobs(tenant.job_filter(title="id;drop table"), limit=9, after_slug="")).rows
    ] == ["d"]
    assert (await catalog.list_jobs(tenant.job_filter(title="1=1--"), limit=9, after_slug="")).rows == []
    assert await catalog.get_job(uuid4(), "a") is None


async def test_schedules_are_listed_by_page_and_state(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job("a", trigger=interval_trigger()), job("b", trigger=cron_trigger())])
    await tenant.disable_absent(app, 2, jobs=[job("b")])
    first = await tenant.catalog.list_schedules(
        tenant.environment_id, is_active=None, limit=1, after_id=tenant.organization_id
    )
    rest = await tenant.catalog.list_schedules(tenant.environment_id, is_active=None, limit=9, after_id=first[0].id)
    assert {(one.job_slug, one.active, one.dynamic_schedule_slug) for one in [*first, *rest]} == {
        ("a", False, None),
        ("b", True, None),
    }
    active = await tenant.catalog.list_schedules(
        tenant.environment_id, is_active=True, limit=9, after_id=tenant.organization_id
    )
    assert [one.key for one in active] == ["b"]
