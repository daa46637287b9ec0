"""Reads what indexes found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.catalog_entries import JobFilter
from services.endpoints.domain.errors import NotFoundError
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.store import Pool
from services.endpoints.operations.authorization import acting_environment

if TYPE_CHECKING:
    from services.endpoints.domain.catalog_entries import DynamicTrigger, Job, Schedule, Source
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.tenancy import Principal


@dataclass(frozen=True, slots=True)
class JobWish:
    """Which jobs to list; `environment_id` None means the API key's own, any other None does not restrict."""

    environment_id: UUID | None = None
    endpoint_id: UUID | None = None
    slug: str | None = None
    title: str | None = None


class CatalogOperations:
    """What callers read of the catalog of one environment.

    Every method takes the environment's id, None meaning the API key's own, and raises NotFoundError when there is no
    such environment for the principal, PERMISSION_DENIED when it is another one of an API key's organization.
    """

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store

    async def list_jobs(self, principal: Principal, wanted: JobWish, page: PageRequest) -> Page[Job]:
        """Return a page of jobs by slug, each with its latest version."""
        async with self._store.reading(Pool.LISTS) as tx:
            environment_id = (await acting_environment(tx, principal, wanted.environment_id)).id
            rows = await tx.catalog.list_jobs(
                JobFilter(environment_id, endpoint_id=wanted.endpoint_id, slug=wanted.slug, title=wanted.title),
                limit=page.limit,
                after_slug=page.after or "",
            )
        return page_of(rows, page, lambda job: job.slug)

    async def get_job(self, principal: Principal, environment_id: UUID | None, slug: str) -> Job:
        """Return one job.

        Raises:
            NotFoundError: the environment has no such job.
        """
        async with self._store.reading() as tx:
            job = await tx.catalog.get_job((await acting_environment(tx, principal, environment_id)).id, slug)
        if job is None:
            raise NotFoundError("job", slug)
        return job

    async def list_sources(
        self, principal: Principal, environment_id: UUID | None, page: PageRequest, *, endpoint_id: UUID | None
    ) -> Page[Source]:
        """Return a page of sources by key."""
        async with self._store.reading(Pool.LISTS) as tx:
            rows = await tx.catalog.list_sources(
                (await acting_environment(tx, principal, environment_id)).id,
                endpoint_id=endpoint_id,
                limit=page.limit,
                after_key=page.after or "",
            )
        return page_of(rows, page, lambda source: source.key)

    async def list_dynamic_triggers(
        self, principal: Principal, environment_id: UUID | None, page: PageRequest, *, endpoint_id: UUID | None
    ) -> Page[DynamicTrigger]:
        """Return a page of dynamic triggers and dynamic schedules, oldest first."""
        async with self._store.reading(Pool.LISTS) as tx:
            rows = await tx.catalog.list_dynamic_triggers(
                (await acting_environment(tx, principal, environment_id)).id,
                endpoint_id=endpoint_id,
                limit=page.limit,
                after_id=_after_id(page),
            )
        return page_of(rows, page, lambda trigger: str(trigger.id))

    async def list_schedules(
        self, principal: Principal, environment_id: UUID | None, page: PageRequest
    ) -> Page[Schedule]:
        """Return a page of schedules, oldest first."""
        async with self._store.reading(Pool.LISTS) as tx:
            rows = await tx.catalog.list_schedules(
                (await acting_environment(tx, principal, environment_id)).id,
                is_active=None,
                limit=page.limit,
                after_id=_after_id(page),
            )
        return page_of(rows, page, lambda schedule: str(schedule.id))


def _after_id(page: PageRequest) -> UUID:
    return UUID(page.after) if page.after else NIL_UUID
