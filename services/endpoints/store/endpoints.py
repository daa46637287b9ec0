"""Endpoints on PostgreSQL; the statements are in `sql/endpoints.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint import Endpoint, EndpointState
from services.endpoints.domain.ports.endpoints import SealedCredential
from services.endpoints.domain.tenancy import Environment, EnvironmentType
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

_SQL: Final = load("endpoints")


class PostgresEndpoints:
    """Statements about endpoints on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def credential(self, environment_id: UUID) -> SealedCredential | None:
        """Read an environment with its sealed API key."""
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
        return SealedCredential(environment, row["api_key_ciphertext"])

    async def get(self, endpoint_id: UUID) -> Endpoint | None:
        """Read one endpoint."""
        return _endpoint(await self._row("get", endpoint_id))

    async def get_by_slug(self, environment_id: UUID, slug: str) -> Endpoint | None:
        """Read the endpoint of a slug."""
        return _endpoint(await self._row("get_by_slug", environment_id, slug))

    async def list_endpoints(self, environment_id: UUID, *, limit: int, after_slug: str) -> list[Endpoint]:
        """Read an environment's endpoints by slug."""
        with translated():
            rows = await self._connection.fetch(_SQL["list_endpoints"], environment_id, after_slug, limit)
        return [endpoint for row in rows if (endpoint := _endpoint(row)) is not None]

    async def insert(
        self, *, endpoint_id: UUID, slug: str, url: str, hook_identifier: str, environment: Environment
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

    async def delete(self, endpoint_id: UUID) -> bool:
        """Delete an endpoint."""
        with translated():
            return await self._connection.execute(_SQL["delete"], endpoint_id) == "DELETE 1"

    async def _row(self, block: str, *arguments: object) -> asyncpg.Record | None:
        with translated():
            return await self._connection.fetchrow(_SQL[block], *arguments)


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
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
