"""A ledger of a million rows, and the plans of the statements that the product sends while it works on it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID

from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.plans import Plans
from services.endpoints.store.postgres import PostgresTransaction
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg

_Result = TypeVar("_Result")

ENVIRONMENTS: Final = 100
ORGANIZATIONS: Final = 10
LANES: Final = 5_000
_ROUND: Final = 20_000

_TENANTS: Final = f"""
INSERT INTO organizations (id, slug, title)
SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'org-' || n, 'Org'
FROM generate_series(0, {ORGANIZATIONS - 1}) AS n;
INSERT INTO projects (id, slug, name, organization_id)
SELECT id, slug, 'Project', id FROM organizations;
INSERT INTO runtime_environments (id, slug, api_key_hash, api_key_ciphertext, organization_id, project_id)
SELECT
    ('00000000-0000-0000-0001-' || lpad(to_hex(n), 12, '0'))::uuid, 'env-' || n, int4send(n), int4send(n),
    organizations.id, organizations.id
FROM generate_series(0, {ENVIRONMENTS - 1}) AS n
JOIN organizations ON organizations.slug = 'org-' || n % {ORGANIZATIONS};
"""

# Rows of all ages, mixed as they come: of each $2 rows one is of this state.
_FILL: Final = """
INSERT INTO queue_jobs
    (id, environment_id, kind, args, queue, lane, priority, state, run_at, attempt, max_attempts, created_at,
    started_at, finalized_at)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex($1::int + n), 12, '0'))::uuid,
    ('00000000-0000-0000-0001-' || lpad(to_hex(CASE WHEN $6 THEN $5 ELSE n % $5 END), 12, '0'))::uuid,
    CASE WHEN n % 50 = 0 THEN 'indexEndpoint' ELSE 'registerJob' END,
    '{"name": "one of many"}',
    CASE WHEN n % 50 = 0 THEN 'execution' ELSE 'default' END,
    CASE WHEN $6 THEN 'tenant-' ELSE 'endpoint-' END || n % $4,
    1 + n % 4,
    $3,
    CASE WHEN $3 = 'SCHEDULED' THEN now() + n * interval '1 second' ELSE now() - n * interval '1 millisecond' END,
    CASE WHEN $3 IN ('SCHEDULED', 'AVAILABLE') THEN 0 ELSE 1 END,
    3,
    now() - interval '1 day',
    CASE WHEN $3 NOT IN ('SCHEDULED', 'AVAILABLE') THEN now() - n * interval '1 millisecond' END,
    CASE WHEN $3 NOT IN ('SCHEDULED', 'AVAILABLE') THEN now() - n * interval '10 milliseconds' END
FROM generate_series(1, $2::int) AS n
"""


@dataclass(frozen=True)
class Rows:
    """How many rows of a state, over how many lanes; `environment` None spreads them over all."""

    state: str
    count: int
    lanes: int = LANES
    environment: int | None = None


FINISHED: Final = (
    Rows("COMPLETED", 670_000),
    Rows("SCHEDULED", 300_000),
    Rows("DISCARDED", 20_000),
    Rows("CANCELLED", 9_000),
    Rows("AVAILABLE", 1_000, lanes=100),
)
BACKLOG: Final = (
    Rows("COMPLETED", 300_000),
    Rows("SCHEDULED", 300_000),
    Rows("AVAILABLE", 200_000, lanes=200, environment=7),
    Rows("AVAILABLE", 200_000, lanes=LANES),
)


def environment(number: int) -> UUID:
    return UUID(f"00000000-0000-0000-0001-{number:012x}")


async def fill(connection: asyncpg.Connection[asyncpg.Record], mix: tuple[Rows, ...]) -> None:
    """Write the rows first and their indexes afterwards; statistics are left as those of an empty table."""
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(_TENANTS)
    await connection.execute("ANALYZE queue_jobs")
    indexes = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'queue_jobs' AND indexname <> 'queue_jobs_pkey'"
    )
    for index in indexes:
        await connection.execute(f'DROP INDEX "{index["indexname"]}"')
    begin = 0
    for rows in mix:
        number = ENVIRONMENTS if rows.environment is None else rows.environment
        await connection.execute(_FILL, begin, rows.count, rows.state, rows.lanes, number, rows.environment is not None)
        begin += rows.count
    await connection.execute("SET maintenance_work_mem = '256MB'")
    for index in indexes:
        await connection.execute(index["indexdef"])


@dataclass(frozen=True, repr=False)
class Plan:
    """What one execution of a statement did."""

    block: str
    root: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        found = [self.root]
        for node in found:
            found += node.get("Plans", ())
        return found

    def __repr__(self) -> str:
        scans = [
            f"{node['Node Type']} {node.get('Index Name', node.get('Relation Name'))}: {node['Actual Loops']} x"
            f" {node['Actual Rows']}, {node.get('Rows Removed by Filter', 0)} thrown away"
            for node in self.nodes
            if "Scan" in node["Node Type"]
        ]
        return f"{self.block} read {self.rows_read:.0f} rows and {self.pages} pages: {'; '.join(scans)}"

    @property
    def scans_all(self) -> bool:
        """Tell whether the table is read from end to end."""
        return any(
            node["Node Type"].endswith("Seq Scan") and node["Relation Name"] == "queue_jobs" for node in self.nodes
        )

    @property
    def rows_read(self) -> float:
        """Count the rows that scans of `queue_jobs` and its indexes handed on or threw away."""
        return self.rows_of("queue_jobs")

    def rows_of(self, table: str) -> float:
        """Count the rows that scans of a table and its indexes handed on or threw away."""
        rows: float = sum(
            node["Actual Loops"]
            * (
                node["Actual Rows"]
                + node.get("Rows Removed by Filter", 0)
                + node.get("Rows Removed by Index Recheck", 0)
            )
            for node in self.nodes
            if "Scan" in node["Node Type"]
            and (node.get("Relation Name") or node.get("Index Name", "")).startswith(table)
        )
        return rows

    @property
    def pages(self) -> int:
        """Count the pages that were looked at, over and over ones included."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])


@dataclass
class ExplainingConnection:
    """Explains each statement of some nouns, prepared and planned as its connection does, then lets it run."""

    connection: asyncpg.Connection[asyncpg.Record]
    nouns: tuple[str, ...] = ("ledger", "queue_control")
    plans: list[Plan] = field(default_factory=list)
    explains: bool = True
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._lock:
            await self._explain(statement, arguments)
            return await self.connection.fetch(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        async with self._lock:
            await self._explain(statement, arguments)
            return await self.connection.execute(statement, *arguments)

    def transaction(self) -> Any:
        return self.connection.transaction()

    def is_closed(self) -> bool:
        return self.connection.is_closed()

    async def _explain(self, statement: str, arguments: tuple[object, ...]) -> None:
        noun, block = _BLOCKS.get(statement.partition("\n")[0], ("", ""))
        if noun not in self.nouns or not self.explains:
            return
        parameters = (await self.connection.prepare(statement)).get_parameters()
        types = [
            f"{one.name[:-2] if one.kind == 'array' else one.name}{'[]' * (one.kind == 'array')}" for one in parameters
        ]
        values = ""
        if types:
            quoted = ", ".join(f"quote_nullable(${n}::{kind})" for n, kind in enumerate(types, start=1))
            row = await self.connection.fetchrow(f"SELECT {quoted}", *arguments)
            values = "(" + ", ".join(f"{value}::{kind}" for value, kind in zip(row or (), types, strict=True)) + ")"
        savepoint = self.connection.transaction()
        await savepoint.start()
        try:
            await self.connection.execute(f"PREPARE explained AS {statement}")
            try:
                explained = await self.connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained{values}"
                )
            finally:
                await self.connection.execute("DEALLOCATE explained")
        finally:
            await savepoint.rollback()
        self.plans.append(Plan(block, json.loads(explained)[0]["Plan"]))


# By the sentence that each begins with: filters that nobody asked for are not those of the file.
_BLOCKS: Final = {
    text.partition("\n")[0]: (noun, name)
    for noun in ("catalog", "dispatchers", "displaced", "endpoints", "events", "ledger", "queue_control")
    for name, text in load(noun).items()
}


async def keep_plans(connection: asyncpg.Connection[asyncpg.Record], scope: str = "SESSION") -> None:
    """Let a connection plan as those of the product do."""
    for name, value in Plans.KEPT.value.items():
        await connection.execute(f"SET {scope} {name} = {value}")


class OneConnectionStore:
    """A store whose every transaction is a savepoint of one."""

    def __init__(self, connection: ExplainingConnection) -> None:
        self.connection = connection

    @asynccontextmanager
    async def reading(self, _pool: Pool = Pool.READERS) -> AsyncIterator[PostgresTransaction]:
        connection = cast("asyncpg.Connection[asyncpg.Record]", self.connection)
        # For each borrower anew: one may have asked for other plans until its transaction ends.
        await keep_plans(connection, "LOCAL")
        yield PostgresTransaction(connection)

    @asynccontextmanager
    async def transaction(self, pool: Pool = Pool.CALLERS) -> AsyncIterator[PostgresTransaction]:
        async with self.reading(pool) as tx, tx.savepoint():
            yield tx

    async def transact(
        self, work: Callable[[PostgresTransaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS
    ) -> _Result:
        async with self.transaction(pool) as tx:
            return await work(tx)

    async def in_one_statement(
        self, work: Callable[[PostgresTransaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS
    ) -> _Result:
        async with self.reading(pool) as tx:
            return await work(tx)
