"""Endpoints on PostgreSQL; the statements are in `sql/endpoints.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint import Endpoint, EndpointState
from services.endpoints.domain.endpoint_health import Health
from services.endpoints.domain.ports.endpoints import DueEndpoint, HeldHealth, SealedCredential
from services.endpoints.domain.tenancy import Environment, EnvironmentType
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID

    import asyncpg

_SQL: Final = load("endpoints")


class PostgresEndpoints:
    """Statements about endpoints on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def credential(self, environment_id: UUID) -> SealedCredential | None:
        """Read an environment with its sealed API keys and signing secrets."""
        row = await self._row("credential", environment_id)
        if row is None:
            return None
        environment = Environment(
            id=row["id"],
            slug=row["slug"],
            type=EnvironmentType(row["type"]),
            organization_id=row["organization_id"],
            project_id=row["project_id"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        secrets = (row["signing_secret_ciphertext"], row["previous_signing_secret_ciphertext"])
        return SealedCredential(
            environment,
            row["api_key_ciphertext"],
            tuple(secret for secret in secrets if secret is not None),
            row["previous_api_key_ciphertext"],
        )

    async def get(self, endpoint_id: UUID) -> Endpoint | None:
        """Read one endpoint."""
        return _endpoint(await self._row("get", endpoint_id))

    async def get_by_slug(self, environment_id: UUID, slug: str) -> Endpoint | None:
        """Read the endpoint of a slug."""
        return _endpoint(await self._row("get_by_slug", environment_id, slug))

    async def list_endpoints(
        self, environment_id: UUID, *, limit: int, after_slug: str, state: EndpointState | None = None
    ) -> list[Endpoint]:
        """Read an environment's endpoints by slug."""
        rows = await self._rows("list_endpoints", environment_id, after_slug, limit, state.value if state else None)
        return [endpoint for row in rows if (endpoint := _endpoint(row)) is not None]

    async def insert(
        self,
        *,
        endpoint_id: UUID,
        slug: str,
        url: str,
        hook_identifier: str,
        environment: Environment,
        next_index_in: timedelta | None = None,
    ) -> Endpoint:
        """Insert an endpoint."""
        with translated():
            row = await self._connection.fetchrow(
                _SQL["insert"],
                endpoint_id,
                slug,
                url,
                hook_identifier,
                environment.id,
                environment.organization_id,
                environment.project_id,
                next_index_in,
            )
        endpoint = _endpoint(row)
        assert endpoint is not None  # noqa: S101 - INSERT … RETURNING without ON CONFLICT always returns its row
        return endpoint

    async def set_url(self, endpoint_id: UUID, url: str) -> Endpoint | None:
        """Give an endpoint another url."""
        return _endpoint(await self._row("set_url", endpoint_id, url))

    async def draw_sequence(self, endpoint_id: UUID) -> int | None:
        """Draw the next number of the endpoint's indexes."""
        row = await self._row("draw_sequence", endpoint_id)
        return None if row is None else int(row["index_sequence"])

    async def lock_health(self, endpoint_id: UUID) -> HeldHealth | None:
        """Lock what is known of an endpoint's health."""
        row = await self._row("lock_health", endpoint_id)
        if row is None:
            return None
        health = Health(
            EndpointState(row["state"]), row["consecutive_failures"], row["state_reason"], quiet_for=row["quiet_for"]
        )
        return HeldHealth(row["url"], health)

    async def set_health(
        self, endpoint_id: UUID, *, before: EndpointState, health: Health, index_now: bool = False
    ) -> None:
        """Store an endpoint's health."""
        await self._execute(
            "set_health",
            endpoint_id,
            before.value,
            health.state.value,
            health.consecutive_failures,
            health.reason,
            health.next_probe_in,
            health.quiet_for,
            index_now,
        )

    async def claim_probe(self, endpoint_id: UUID, *, put_off: timedelta) -> bool:
        """Take the one call that an unhealthy endpoint is due."""
        return await self._row("claim_probe", endpoint_id, put_off) is not None

    async def hasten_probe(self, endpoint_id: UUID, *, within: timedelta) -> None:
        """Let the probe of an endpoint that fails be due soon."""
        await self._execute("hasten_probe", endpoint_id, within)

    async def hold_wait(self, endpoint_id: UUID) -> tuple[EndpointState, timedelta | None] | None:
        """Lock how long an endpoint is to be left alone."""
        row = await self._row("hold_wait", endpoint_id)
        return None if row is None else (EndpointState(row["state"]), row["wait"])

    async def due_probes(self, *, limit: int) -> list[DueEndpoint]:
        """Lock endpoints whose probe is due."""
        return [DueEndpoint(row["id"], row["environment_id"]) for row in await self._rows("due_probes", limit)]

    async def note_probes(self, queue_job_ids: Mapping[UUID, UUID]) -> None:
        """Note which queue jobs will probe locked endpoints."""
        await self._execute("note_probes", list(queue_job_ids), list(queue_job_ids.values()))

    async def forget_probe(self, endpoint_id: UUID, *, queue_job_id: UUID) -> None:
        """Let the next probe be asked for."""
        await self._execute("forget_probe", endpoint_id, queue_job_id)

    async def due_indexes(self, *, limit: int) -> list[DueEndpoint]:
        """Read endpoints that are due to be indexed anew by schedule."""
        return [_due_index(row) for row in await self._rows("due_indexes", limit)]

    async def owed_indexes(self, *, limit: int) -> list[DueEndpoint]:
        """Read endpoints whose owed index is to be asked for."""
        return [_due_index(row) for row in await self._rows("owed_indexes", limit)]

    async def is_index_owed(self, endpoint_id: UUID) -> bool:
        """Tell whether an endpoint's owed index is to be asked for."""
        return await self._row("is_index_owed", endpoint_id) is not None

    async def owe_index(self, endpoint_id: UUID, *, asked_in: timedelta) -> None:
        """Have an index of an endpoint asked for until it has answered one."""
        await self._execute("owe_index", endpoint_id, asked_in)

    async def owe_no_index(self, endpoint_id: UUID) -> None:
        """Have the index that an endpoint was owed not asked for again."""
        await self._execute("owe_no_index", endpoint_id)

    async def is_index_due(self, endpoint_id: UUID) -> bool:
        """Tell whether an endpoint is due to be indexed anew by schedule."""
        return await self._row("is_index_due", endpoint_id) is not None

    async def schedule_index(self, endpoint_id: UUID, *, next_in: timedelta) -> None:
        """Put a due index off by a period."""
        await self._execute("schedule_index", endpoint_id, next_in)

    async def has_long_history(self, endpoint_id: UUID, *, rows: int) -> bool:
        """Tell whether more would go with an endpoint than these rows."""
        row = await self._row("has_long_history", endpoint_id, rows)
        return row is not None and bool(row["is_long"])

    async def delete(self, endpoint_id: UUID) -> bool:
        """Delete an endpoint."""
        with translated():
            return await self._connection.execute(_SQL["delete"], endpoint_id) == "DELETE 1"

    async def _execute(self, block: str, *arguments: object) -> None:
        with translated():
            await self._connection.execute(_SQL[block], *arguments)

    async def _rows(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(_SQL[block], *arguments)

    async def _row(self, block: str, *arguments: object) -> asyncpg.Record | None:
        with translated():
            return await self._connection.fetchrow(_SQL[block], *arguments)


def _due_index(row: asyncpg.Record) -> DueEndpoint:
    return DueEndpoint(row["id"], row["environment_id"], row["slug"])


def _endpoint(row: asyncpg.Record | None) -> Endpoint | None:
    if row is None:
        return None
    return Endpoint(
        id=row["id"],
        slug=row["slug"],
        url=row["url"],
        indexing_hook_identifier=row["indexing_hook_identifier"],
        environment_id=row["environment_id"],
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        index_sequence=row["index_sequence"],
        state=EndpointState(row["state"]),
        consecutive_failures=row["consecutive_failures"],
        state_reason=row["state_reason"],
        state_changed_at=row["state_changed_at"],
        next_probe_at=row["next_probe_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        quiet_until=row["quiet_until"],
    )
