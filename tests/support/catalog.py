"""A tenant with endpoints, and registrations as the ledger runs them, on a real database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import asyncpg

from services.endpoints.domain.catalog import KINDS, new_queue_job
from services.endpoints.domain.catalog_entries import JobFilter
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.index_answer import Disposition, read_index_answer
from services.endpoints.domain.json_text import dump_json, parse_json
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.ports.catalog import OfferedItem
from services.endpoints.domain.queue_job import QueueJob
from services.endpoints.operations.registration import REGISTRATION_KINDS, Registration, registration_args
from services.endpoints.store.catalog import PostgresCatalog
from tests.support.offers import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from services.endpoints.domain.endpoint_index import ItemKind
    from services.endpoints.domain.index_answer import IndexItem
    from services.endpoints.domain.ports.catalog import RegistrationOutcome
    from services.endpoints.domain.ports.store import Transaction


class PlainSecretBox:
    """Seals by writing the environment in front, so that a test can look."""

    def seal(self, secret: str, *, environment_id: UUID) -> bytes:
        return f"{environment_id}:{secret}".encode()

    def unseal(self, sealed: bytes, *, environment_id: UUID) -> str:
        return sealed.decode().removeprefix(f"{environment_id}:")


@dataclass
class Tenant:
    """One environment; `connection` is its own connection to the test's database."""

    connection: asyncpg.Connection[asyncpg.Record]
    organization_id: UUID = field(default_factory=new_uuid7)
    project_id: UUID = field(default_factory=new_uuid7)
    environment_id: UUID = field(default_factory=new_uuid7)

    @property
    def catalog(self) -> PostgresCatalog:
        return PostgresCatalog(self.connection)

    async def create(self) -> None:
        slug = str(self.organization_id)
        await self.connection.execute(
            "INSERT INTO organizations (id, slug, title) VALUES ($1, $2, 'Acme')", self.organization_id, slug
        )
        await self.connection.execute(
            "INSERT INTO projects (id, slug, name, organization_id) VALUES ($1, $2, 'Shop', $3)",
            self.project_id,
            slug,
            self.organization_id,
        )
        await self.connection.execute(
            """
            INSERT INTO runtime_environments
                (id, slug, api_key_hash, api_key_ciphertext, organization_id, project_id)
            VALUES ($1, 'dev', $2, '', $3, $4)
            """,
            self.environment_id,
            self.environment_id.bytes,
            self.organization_id,
            self.project_id,
        )

    async def endpoint(self, slug: str = "app") -> UUID:
        endpoint_id = new_uuid7()
        await self.connection.execute(
            """
            INSERT INTO endpoints
                (id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id)
            VALUES ($1, $2, 'http://127.0.0.1', '0123456789', $3, $4, $5)
            """,
            endpoint_id,
            slug,
            self.environment_id,
            self.organization_id,
            self.project_id,
        )
        return endpoint_id

    def job_filter(self, **parts: Any) -> JobFilter:
        return JobFilter(self.environment_id, **parts)

    def queue_jobs(self, endpoint_id: UUID, sequence: int, **lists: Any) -> list[QueueJob]:
        """Return the registrations of what an endpoint offers, with args as `jsonb` gives them back."""
        return [self._queue_job(endpoint_id, sequence, item) for item in accepted(**lists)]

    async def run(self, queue_jobs: Sequence[QueueJob]) -> list[RegistrationOutcome]:
        registration = Registration(secret_box=PlainSecretBox())
        transaction = cast("Transaction", SimpleNamespace(catalog=self.catalog))
        async with self.connection.transaction():
            return await registration.run(transaction, queue_jobs)

    async def register(self, endpoint_id: UUID, sequence: int = 1, **lists: Any) -> list[str]:
        """Register what an endpoint offers; return the results by name."""
        outcomes = await self.run(self.queue_jobs(endpoint_id, sequence, **lists))
        return [outcome.result.value for outcome in outcomes]

    async def renumber(self, endpoint_id: UUID, sequence: int, **lists: Any) -> set[str]:
        items = [OfferedItem(item.kind, item.key, item.version, item.content_hash) for item in accepted(**lists)]
        same = await self.catalog.renumber_unchanged(endpoint_id, sequence=sequence, items=items)
        return {key for _, key in same}

    async def disable_absent(self, endpoint_id: UUID, sequence: int, **lists: Any) -> list[tuple[ItemKind, str]]:
        offered = read_index_answer(answer(**lists)).offered
        async with self.connection.transaction():
            return await self.catalog.disable_absent(endpoint_id, sequence=sequence, offered=offered)

    async def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(query, *args)]

    async def row(self, query: str, *args: object) -> dict[str, Any]:
        (row,) = await self.rows(query, *args)
        return row

    async def versions(self, slug: str = "hello") -> dict[str, str]:
        """Return the state of each version of a job."""
        return {
            row["version"]: row["state"]
            for row in await self.rows(
                """
                SELECT v.version, v.state FROM job_versions v JOIN jobs j ON j.id = v.job_id
                WHERE j.slug = $1 AND v.environment_id = $2
                """,
                slug,
                self.environment_id,
            )
        }

    async def latest(self, slug: str = "hello") -> Mapping[str, Any]:
        """Return what follows from the greatest version of a job: alias, dispatcher and schedule."""
        return await self.row(
            """
            SELECT
                a.value AS alias, w.version AS dispatched, d.event_names, d.source, d.payload_filter::text AS filter,
                d.manual, d.enabled, d.operator_disabled, s.active, s.schedule::text AS schedule, s.last_event_at,
                s.next_event_at
            FROM jobs j
            LEFT JOIN job_aliases a ON a.job_id = j.id AND a.environment_id = $2
            LEFT JOIN event_dispatchers d
                ON d.dispatchable_id = j.id AND d.environment_id = $2 AND d.origin = 'INDEX'
            LEFT JOIN job_versions w ON w.id = d.job_version_id
            LEFT JOIN schedule_sources s ON s.job_id = j.id AND s.environment_id = $2
            WHERE j.slug = $1 AND j.project_id = $3
            """,
            slug,
            self.environment_id,
            self.project_id,
        )

    def _queue_job(self, endpoint_id: UUID, sequence: int, item: IndexItem) -> QueueJob:
        args = registration_args(
            item.kind, item.payload, endpoint_id=endpoint_id, index_id=uuid4(), index_sequence=sequence
        )
        new = new_queue_job(
            KINDS[REGISTRATION_KINDS[item.kind]],
            cast("dict[str, Any]", parse_json(dump_json(args))),
            queue_job_id=new_uuid7(),
            lane=endpoint_lane(endpoint_id),
            environment_id=self.environment_id,
        )
        return QueueJob(
            id=new.id,
            environment_id=new.environment_id,
            kind=new.kind,
            args=new.args,
            queue=new.queue,
            lane=new.lane,
            priority=new.priority,
            attempt=1,
            max_attempts=new.max_attempts,
            unended=0,
        )


@asynccontextmanager
async def connected_tenant(database_url: str) -> AsyncIterator[Tenant]:
    """Connect to a migrated database and create a tenant there."""
    connection = await asyncpg.connect(database_url)
    try:
        tenant = Tenant(connection)
        await tenant.create()
        yield tenant
    finally:
        await connection.close()


@asynccontextmanager
async def second_connection(
    tenant: Tenant, database_url: str
) -> AsyncIterator[tuple[Tenant, Callable[[], Awaitable[bool]]]]:
    """Yield the tenant on another connection, and what tells whether that one waits for a lock."""
    connection = await asyncpg.connect(database_url)

    async def waits() -> bool:
        query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
        return bool(await tenant.connection.fetchval(query, connection.get_server_pid()))

    try:
        yield replace(tenant, connection=connection), waits
    finally:
        await connection.close()


def accepted(**lists: Any) -> list[IndexItem]:
    items = read_index_answer(answer(**lists)).items
    assert all(item.disposition is Disposition.ACCEPTED for item in items), items
    return list(items)
