"""Request ids on PostgreSQL; the statements are in `sql/requests.sql`."""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import FieldViolation, InvalidRequestError, Reason
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import changed_rows, load

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

_SQL: Final = load("requests")


class PostgresRequests:
    """Statements about request ids on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def claim(self, principal: str, method: str, request_id: UUID, request_hash: bytes) -> UUID | None:
        """Return what this request made before."""
        with translated():
            # The row is read in a statement after the lock: a snapshot older than the lock would miss it.
            await self._connection.execute(_SQL["lock"], f"request {principal} {method} {request_id}")
            row = await self._connection.fetchrow(_SQL["get"], principal, method, request_id)
        if row is None:
            return None
        if not compare_digest(row["request_hash"], request_hash):
            description = "was used within the last 24 hours with another request; make a new one for each request"
            raise InvalidRequestError([FieldViolation("request_id", description)], reason=Reason.REQUEST_ID_REUSED)
        resource_id: UUID = row["resource_id"]
        return resource_id

    async def flag(self, principal: str, method: str, request_id: UUID) -> bool:
        """Return the flag of a request that came before."""
        with translated():
            return bool(await self._connection.fetchval(_SQL["flag"], principal, method, request_id))

    async def record(
        self,
        principal: str,
        method: str,
        request_id: UUID,
        request_hash: bytes,
        resource_id: UUID,
        *,
        flag: bool = False,
    ) -> None:
        """Remember what the claimed request made."""
        values = (principal, method, request_id, request_hash, resource_id, flag)
        with translated():
            await self._connection.execute(_SQL["record"], *values)

    async def delete_expired(self, *, limit: int) -> int:
        """Delete request ids past their 24 hours."""
        with translated():
            status = await self._connection.execute(_SQL["delete_expired"], limit)
        return changed_rows(status)
