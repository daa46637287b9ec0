"""Counts every registration that was ever committed, and holds an index in the middle of its registrations."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[asyncpg.Record]

_GATE: Final = 770_001

# Statement triggers run in the registering transaction: what rolls back leaves no trace, as it should.
_COUNT: Final = """
CREATE TABLE committed_registrations (job_version_id uuid NOT NULL);
CREATE FUNCTION count_registration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO committed_registrations SELECT id FROM written;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON job_versions
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_registration();
CREATE TRIGGER count_updated AFTER UPDATE ON job_versions
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_registration();
"""

_GATED: Final = """
CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM job_versions) >= {open_until} THEN
        PERFORM pg_advisory_xact_lock_shared({gate});
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER wait_at_the_gate BEFORE INSERT ON job_versions
    FOR EACH STATEMENT EXECUTE FUNCTION wait_at_the_gate();
"""


class Registrations:
    """Looks at the registrations of one test database."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def close_gate(self, *, after: int) -> None:
        """Let every batch wait that begins when `after` or more jobs are registered, until `open_gate`.

        A batch waits at most as long as the service's own lock timeout.
        """
        await self.connection.execute("SELECT pg_advisory_lock($1)", _GATE)
        await self.connection.execute(_GATED.format(open_until=after, gate=_GATE))

    async def batch_waits_at_gate(self) -> None:
        """Return once a batch has begun its work and waits at the gate."""
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::bigint AND NOT granted"
        await eventually(lambda: self.connection.fetchval(waiting, _GATE), within=timedelta(seconds=15))

    async def open_gate(self) -> None:
        await self.connection.execute("SELECT pg_advisory_unlock($1)", _GATE)

    async def registered(self) -> int:
        """Return how many job versions there are."""
        return int(await self.connection.fetchval("SELECT count(*) FROM job_versions"))

    async def is_over(self) -> bool:
        """Tell whether the ledger has nothing left to do but upkeep, and every lane is idle."""
        row = await self.connection.fetchrow(
            "SELECT (SELECT count(*) FROM queue_jobs WHERE finalized_at IS NULL AND queue <> 'maintenance') AS waiting,"
            " (SELECT count(*) FROM queue_lanes WHERE queue <> 'maintenance') AS lanes"
        )
        assert row is not None
        assert dict(row) == {"waiting": 0, "lanes": 0}, dict(row)
        return True

    async def summary(self) -> dict[str, Any]:
        """Return what all indexes together left behind."""
        row = await self.connection.fetchrow(
            "SELECT (SELECT count(*) FROM jobs) AS jobs,"
            " (SELECT count(*) FROM job_versions) AS job_versions,"
            " (SELECT count(*) FROM job_versions WHERE state = 'ACTIVE') AS active,"
            " (SELECT count(*) FROM committed_registrations) AS registrations,"
            " (SELECT count(DISTINCT job_version_id) FROM committed_registrations) AS registered_once,"
            " (SELECT array_agg(DISTINCT state) FROM endpoint_index_items) AS item_states,"
            " (SELECT count(*) FROM endpoint_index_items) AS items,"
            " (SELECT array_agg(state ORDER BY id) FROM endpoint_indexes) AS indexes,"
            " (SELECT array_agg(DISTINCT state) FROM queue_jobs WHERE queue <> 'maintenance') AS queue_job_states,"
            " (SELECT count(*) FROM queue_jobs WHERE kind = 'registerJob') AS register_jobs,"
            " (SELECT count(*) FROM queue_lanes WHERE queue <> 'maintenance') AS lanes,"
            " (SELECT count(*) FROM queue_jobs WHERE attempt > max_attempts) AS over_their_limit"
        )
        assert row is not None
        return dict(row)

    async def index_attempts_and_rescues(self) -> int:
        """Return how many calls of INDEX_ENDPOINT the ledger admits to."""
        total = "SELECT sum(attempt + rescues) FROM queue_jobs WHERE kind = 'indexEndpoint'"
        return int(await self.connection.fetchval(total))


def exactly(jobs: int) -> dict[str, Any]:
    """Return the summary after one index registered this many jobs, each exactly once."""
    return {
        "jobs": jobs,
        "job_versions": jobs,
        "active": jobs,
        "registrations": jobs,
        "registered_once": jobs,
        "item_states": ["REGISTERED"],
        "items": jobs,
        "indexes": ["SUCCEEDED"],
        "queue_job_states": ["COMPLETED"],
        "register_jobs": jobs,
        "lanes": 0,
        "over_their_limit": 0,
    }


@asynccontextmanager
async def counted_registrations(database_url: str) -> AsyncIterator[Registrations]:
    """Count registrations in this database from now on."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_COUNT)
        yield Registrations(connection)
    finally:
        await connection.close()
