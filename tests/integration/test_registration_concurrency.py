from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.catalog import Tenant, connected_tenant, second_connection
from tests.support.eventually import eventually
from tests.support.offers import dynamic, integration, interval_trigger, job, source, static_trigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

ENDPOINTS = 4
ROUNDS = 6


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


def jobs(order: Sequence[int], sequence: int, position: int) -> list[dict[str, Any]]:
    return [
        job(
            f"job-{n}",
            f"{sequence}.{position}.0" if n % 2 else "1.0.0",
            queue=f"queue-{n % 3}",
            integrations={"a": integration(f"integration-{n % 5}")},
            trigger=interval_trigger() if (n + sequence) % 2 else static_trigger(),
        )
        for n in order
    ]


def sources(order: Sequence[int], sequence: int) -> list[dict[str, Any]]:
    return [
        source(f"source-{n}", integration=integration(f"integration-{sequence}-{n % 7}"), params=sequence)
        for n in order
    ]


async def index_repeatedly(mine: Tenant, endpoint_id: UUID, position: int, *, with_jobs: bool) -> None:
    """Register 40 shared items in an order of one's own, again and again, and disable some of them."""
    order = list(range(40))
    for sequence in range(1, ROUNDS + 1):
        order = order[::-1] if position % 2 else order[7:] + order[:7]
        lists: dict[str, Any] = {
            "jobs": jobs(order, sequence, position) if with_jobs else [],
            "sources": sources(order, sequence),
            "dynamicSchedules": [dynamic(f"schedule-{n}") for n in order],
        }
        queue_jobs = mine.queue_jobs(endpoint_id, sequence, **lists)
        await mine.run(queue_jobs[position % 2 :: 2] + queue_jobs[1 - position % 2 :: 2])
        offered = {name: items[::2] for name, items in lists.items()}
        await mine.disable_absent(endpoint_id, sequence, **offered)


@pytest.mark.parametrize("with_jobs", [True, False])
async def test_endpoints_that_share_everything_register_at_once_without_deadlock(
    tenant: Tenant, database_url: str, *, with_jobs: bool
) -> None:
    endpoint_ids = [await tenant.endpoint(f"app-{n}") for n in range(ENDPOINTS)]
    connections = [await asyncpg.connect(database_url) for _ in endpoint_ids]
    place = (tenant.organization_id, tenant.project_id, tenant.environment_id)
    try:
        await asyncio.gather(
            *(
                index_repeatedly(Tenant(connection, *place), endpoint_id, position, with_jobs=with_jobs)
                for position, (connection, endpoint_id) in enumerate(zip(connections, endpoint_ids, strict=True))
            )
        )
    finally:
        for connection in connections:
            await connection.close()
    assert await tenant.connection.fetchval("SELECT count(*) FROM trigger_sources") == 40
    assert await tenant.connection.fetchval("SELECT count(*) FROM jobs") == (40 if with_jobs else 0)
    assert (
        await tenant.rows(
            """
        SELECT job_id, endpoint_id FROM job_versions WHERE state = 'ACTIVE'
        GROUP BY job_id, endpoint_id HAVING count(*) > 1
        """
        )
        == []
    )
    wrong = await tenant.rows(
        """
        SELECT j.slug
        FROM jobs j
        CROSS JOIN LATERAL (
            SELECT v.id FROM job_versions v WHERE v.job_id = j.id AND v.state = 'ACTIVE'
            ORDER BY v.version_numbers DESC LIMIT 1
        ) AS v
        LEFT JOIN job_aliases a ON a.job_id = j.id AND a.version_id = v.id
        LEFT JOIN event_dispatchers d ON d.dispatchable_id = j.id AND d.job_version_id = v.id AND d.enabled
        WHERE a.job_id IS NULL OR d.id IS NULL
        """
    )
    assert wrong == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"jobs": [job("a"), job("b")]}, {"jobs": [job("a", name="New"), job("b", name="New")]}),
        ({"sources": [source("a"), source("b")]}, {"sources": [source("a", params=1), source("b", params=1)]}),
    ],
    ids=["jobs", "sources"],
)
async def test_index_that_keeps_one_item_and_drops_another_waits_for_no_registration_of_both(
    tenant: Tenant, database_url: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, 1, **before)
    kept = {kind: items[1:] for kind, items in before.items()}
    async with (
        second_connection(tenant, database_url) as (other, waits),
        asyncio.TaskGroup() as tasks,
        tenant.connection.transaction(),
    ):
        assert await tenant.renumber(first, 2, **kept) == {"b"}
        registered = tasks.create_task(other.register(second, 1, **after))
        await eventually(waits)
        assert [key for _, key in await tenant.disable_absent(first, 2, **kept)] == ["a"]
    assert len(registered.result()) == 2
