"""What came of events on PostgreSQL; the statements are in `sql/explanations.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.explanation import InvocationCounts
from services.endpoints.domain.run import Invocation, InvocationState
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    import asyncpg

_SQL: Final = load("explanations")


class PostgresExplanations:
    """The statements on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def invocations(self, event_record_id: UUID, dispatcher_ids: Collection[UUID]) -> dict[UUID, Invocation]:
        """Read what came of giving an event to dispatchers."""
        with translated():
            rows = await self._connection.fetch(_SQL["invocations"], event_record_id, list(dispatcher_ids))
        return {row["dispatcher_id"]: _invocation(row) for row in rows}

    async def count_invocations(self, event_record_id: UUID) -> InvocationCounts:
        """Count what came of an event."""
        with translated():
            row = await self._connection.fetchrow(_SQL["count_invocations"], event_record_id)
        if row is None:
            return InvocationCounts()
        return InvocationCounts(
            pending=row["pending"],
            completed=row["completed"],
            skipped=row["skipped"],
            failed=row["failed"],
            runs=row["runs"],
        )


def _invocation(row: asyncpg.Record) -> Invocation:
    return Invocation(
        event_record_id=row["event_record_id"],
        dispatcher_id=row["dispatcher_id"],
        queue_job_id=row["queue_job_id"],
        state=InvocationState(row["state"]),
        run_count=row["run_count"],
        reason=row["reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
