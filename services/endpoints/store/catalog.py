"""The catalog on PostgreSQL; the statements are in `sql/catalog.sql` and `sql/registration.sql`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from services.endpoints.domain.catalog_entries import (
    DynamicTrigger,
    EventExample,
    Job,
    JobFilter,
    JobIntegration,
    JobQueue,
    JobVersion,
    Schedule,
    Source,
)
from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.page import MAX_PAGE_BYTES
from services.endpoints.store.displaced import DisplacedItems
from services.endpoints.store.errors import translated
from services.endpoints.store.fitting import fitting
from services.endpoints.store.latest_version import follow_latest_versions
from services.endpoints.store.plans import plan_for_rows
from services.endpoints.store.queries import changed_rows, decided, load
from services.endpoints.store.registration import Registrations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.page import Fitting
    from services.endpoints.domain.ports.catalog import ItemRegistration, OfferedItem, RegistrationOutcome

_SQL: Final = load("catalog")


class PostgresCatalog:
    """Statements about what indexes found, on one connection."""

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], *, new_id: Callable[[], UUID] = new_uuid7
    ) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._displaced = DisplacedItems(connection)
        self._new_id = new_id

    async def register(self, batch: Sequence[ItemRegistration]) -> list[RegistrationOutcome]:
        """Carry out registrations of any kinds and endpoints."""
        await plan_for_rows(self._connection, len(batch))
        return await Registrations(self._connection, new_id=self._new_id).register(batch)

    async def renumber_unchanged(
        self, endpoint_id: UUID, *, sequence: int, items: Sequence[OfferedItem]
    ) -> set[tuple[ItemKind, str]]:
        """Give `sequence` to every stored item that is enabled and has the offered content."""
        await plan_for_rows(self._connection, len(items))
        with translated():
            job_slugs = [item.key for item in items if item.kind is ItemKind.JOB]
            await self._connection.execute(_SQL["lock_offered_jobs"], endpoint_id, job_slugs)
            await self._connection.execute(_SQL["lock_sources"], endpoint_id)
            rows = await self._connection.fetch(
                _SQL["renumber_unchanged"],
                endpoint_id,
                sequence,
                [item.kind.value for item in items],
                [item.key for item in items],
                [item.version for item in items],
                [item.content_hash for item in items],
            )
        return {(ItemKind(row["kind"]), row["key"]) for row in rows}

    async def disable_absent(
        self, endpoint_id: UUID, *, sequence: int, offered: Sequence[tuple[ItemKind, str]]
    ) -> list[tuple[ItemKind, str]]:
        """Disable every enabled item of the endpoint that is not offered."""
        slugs = [key for kind, key in offered if kind is ItemKind.JOB]
        # First: another endpoint may be giving something back, which is absent here as well.
        await self._displaced.withdraw(endpoint_id, offered)
        with translated():
            jobs = await self._connection.fetch(_SQL["lock_absent_jobs"], endpoint_id, slugs)
        absent = [row["id"] for row in jobs]
        return await self._disable_all_but(endpoint_id, offered, absent=absent, sequence=sequence)

    async def delete_disabled_versions(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete versions that nobody needs when the endpoint is gone."""
        with translated():
            status = await self._connection.execute(_SQL["delete_disabled_versions"], endpoint_id, limit)
        return changed_rows(status) >= limit

    async def disable_endpoint(self, endpoint_id: UUID) -> list[tuple[ItemKind, str]]:
        """Lock an endpoint, disable everything it offers and leave what hangs on its jobs to other endpoints."""
        with translated():
            await self._connection.execute(_SQL["lock_endpoint"], endpoint_id)
            jobs = await self._connection.fetch(_SQL["lock_all_jobs"], endpoint_id)
        absent = [row["id"] for row in jobs]
        disabled = await self._disable_all_but(endpoint_id, [], absent=absent, sequence=None)
        await self._displaced.bequeath(endpoint_id)
        if absent:
            with translated():
                await self._connection.execute(_SQL["leave_to_others"], endpoint_id)
        return disabled

    async def _disable_all_but(
        self,
        endpoint_id: UUID,
        offered: Sequence[tuple[ItemKind, str]],
        *,
        absent: Sequence[UUID],
        sequence: int | None,
    ) -> list[tuple[ItemKind, str]]:
        """Disable what is not offered, and the jobs that are absent; the caller has locked these."""
        with translated():
            jobs = await self._connection.fetch(_SQL["disable_jobs"], endpoint_id, absent, sequence) if absent else []
            items = await self._connection.fetch(
                _SQL["disable_absent_items"],
                endpoint_id,
                [kind.value for kind, _ in offered],
                [key for _, key in offered],
                sequence,
            )
        sources = [row["source_id"] for row in items if row["source_id"] is not None]
        touched = await self._displaced.give_back([(endpoint_id, job_id) for job_id in absent], sources)
        touched |= {(row["job_id"], row["environment_id"]) for row in jobs}
        await follow_latest_versions(self._connection, list(touched), new_id=self._new_id)
        disabled = {(ItemKind.JOB, str(row["slug"])) for row in jobs}
        disabled |= {(ItemKind(row["kind"]), str(row["key"])) for row in items}
        return sorted(disabled, key=lambda item: (item[0].value, item[1]))

    async def list_jobs(self, wanted: JobFilter, *, limit: int, after_slug: str) -> Fitting[Job]:
        """Read an environment's jobs by slug, as many as fit into a page."""
        rows = await self._page(
            "list_jobs",
            wanted.environment_id,
            after_slug,
            wanted.endpoint_id,
            wanted.slug,
            wanted.title,
            limit,
            MAX_PAGE_BYTES,
        )
        return fitting(rows, _job)

    async def get_job(self, environment_id: UUID, slug: str) -> Job | None:
        """Read one job with its latest version."""
        jobs = (await self.list_jobs(JobFilter(environment_id, slug=slug), limit=1, after_slug="")).rows
        return jobs[0] if jobs else None

    async def list_sources(
        self, environment_id: UUID, *, endpoint_id: UUID | None, limit: int, after_key: str
    ) -> Fitting[Source]:
        """Read an environment's sources by key, as many as fit into a page."""
        rows = await self._page("list_sources", environment_id, after_key, endpoint_id, limit, MAX_PAGE_BYTES)
        return fitting(rows, _source)

    async def list_dynamic_triggers(
        self, environment_id: UUID, *, endpoint_id: UUID | None, limit: int, after_id: UUID
    ) -> Fitting[DynamicTrigger]:
        """Read an environment's dynamic triggers and dynamic schedules, oldest first, as many as fit into a page."""
        rows = await self._page("list_dynamic_triggers", environment_id, after_id, endpoint_id, limit, MAX_PAGE_BYTES)
        return fitting(rows, _dynamic_trigger)

    async def list_schedules(
        self, environment_id: UUID, *, is_active: bool | None, limit: int, after_id: UUID
    ) -> list[Schedule]:
        """Read an environment's schedules, oldest first."""
        rows = await self._page("list_schedules", environment_id, after_id, is_active, limit)
        return [_schedule(row) for row in rows]

    async def _page(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(decided(_SQL[block], arguments), *arguments)


def _job(row: asyncpg.Record) -> Job:
    return Job(
        id=row["id"],
        slug=row["slug"],
        title=row["title"],
        internal=row["internal"],
        environment_id=row["environment_id"],
        latest=_job_version(row),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _job_version(row: asyncpg.Record) -> JobVersion:
    queue = None if row["queue_name"] is None else JobQueue(row["queue_name"], row["queue_max_jobs"])
    return JobVersion(
        id=row["version_id"],
        version=row["version"],
        is_active=row["state"] == "ACTIVE",
        endpoint_id=row["endpoint_id"],
        endpoint_slug=row["endpoint_slug"],
        trigger_type=row["trigger_type"],
        trigger_json=row["trigger"],
        event_names=tuple(row["event_names"]),
        event_specification_json=row["event_specification"],
        properties_json=row["properties"],
        start_position=row["start_position"],
        preprocess_runs=row["preprocess_runs"],
        concurrency_limit_json=row["concurrency_limit"],
        queue=queue,
        integrations=tuple(JobIntegration(**one) for one in _objects(row["integrations"])),
        examples=tuple(EventExample(**one) for one in _objects(row["examples"])),
        created_at=row["version_created_at"],
        updated_at=row["version_updated_at"],
    )


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a JSON array, which most jobs leave empty."""
    objects: list[dict[str, Any]] = [] if text == "[]" else json.loads(text)
    return objects


def _source(row: asyncpg.Record) -> Source:
    return Source(
        id=row["id"],
        key=row["key"],
        version=row["version"],
        channel=row["channel"],
        params_json=row["params"],
        active=row["active"],
        enabled=row["enabled"],
        options=tuple(zip(row["option_names"], row["option_values"], strict=True)),
        integration_slug=row["integration_slug"],
        register_source_job_json=row["register_source_job"],
        endpoint_id=row["endpoint_id"],
        environment_id=row["environment_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _dynamic_trigger(row: asyncpg.Record) -> DynamicTrigger:
    return DynamicTrigger(
        id=row["id"],
        type=row["type"],
        slug=row["slug"],
        enabled=row["enabled"],
        jobs=tuple(zip(row["job_slugs"], row["job_versions"], strict=True)),
        register_source_job_json=row["register_source_job"],
        endpoint_id=row["endpoint_id"],
        environment_id=row["environment_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _schedule(row: asyncpg.Record) -> Schedule:
    return Schedule(
        id=row["id"],
        key=row["key"],
        schedule_json=row["schedule"],
        active=row["active"],
        job_id=row["job_id"],
        job_slug=row["job_slug"],
        dynamic_trigger_id=row["dynamic_trigger_id"],
        dynamic_schedule_slug=row["dynamic_schedule_slug"],
        environment_id=row["environment_id"],
        last_event_at=row["last_event_at"],
        next_event_at=row["next_event_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
