"""Events on PostgreSQL; the statements are in `sql/events.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


class PostgresEvents:
    """The statements on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
