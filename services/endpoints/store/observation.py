"""What operators watch of PostgreSQL: lag, snapshots, and the pools of connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.observer import DatabaseReading
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from services.endpoints.store.postgres import PostgresStore

_SQL: Final = load("observation")


async def observe_database(store: PostgresStore) -> DatabaseReading:
    """Read what operators watch.

    Raises:
        DatabaseUnavailableError: PostgreSQL is away.
    """
    async with store.reading(Pool.READERS) as tx:
        with translated():
            lags = await tx.connection.fetch(_SQL["ring_lag"])
            snapshot = await tx.connection.fetchval(_SQL["oldest_snapshot"])
            states = await tx.connection.fetch(_SQL["endpoint_states"])
    return DatabaseReading(
        ring_lag_seconds={row["queue"]: row["seconds"] for row in lags},
        oldest_snapshot_seconds=snapshot,
        endpoints={row["state"]: row["endpoints"] for row in states},
    )
