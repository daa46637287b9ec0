"""What the statements about endpoints' health read among 30,000 endpoints, with the plans that the product keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from services.endpoints.domain.ports.store import Pool
from services.endpoints.operations.endpoint_health import LEFT_ALONE
from services.endpoints.operations.endpoint_upkeep import MAX_INDEXES_AT_ONCE, MAX_PROBES_AT_ONCE
from services.endpoints.store.queries import load
from tests.support.ledger_plans import Rows, fill

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

ENDPOINTS = 30_000
LANES = 5_000
WAIT_IN_A_LANE = ENDPOINTS // LANES
FEW = 4
ONE_MINUTE = timedelta(minutes=1)

# Of ten endpoints one fails; some probes are due, half of them asked for. Half of all are indexed by schedule.
# One in three is owed an index.
_FILL = """
INSERT INTO endpoints
    (id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, state, consecutive_failures,
    next_probe_at, probe_queue_job_id, next_index_at, owed_index_at)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'endpoint-' || n, 'http://127.0.0.1/', 'hookhookho',
    gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
    CASE WHEN n % 10 = 0 THEN 'FAILING' ELSE 'HEALTHY' END,
    CASE WHEN n % 10 = 0 THEN 3 ELSE 0 END,
    CASE WHEN n % 10 = 0 THEN now() + (n - $1::int / 5) * interval '1 second' END,
    CASE WHEN n % 20 = 0 THEN gen_random_uuid() END,
    CASE WHEN n % 2 = 0 THEN now() + (n - $1::int / 5) * interval '1 second' END,
    CASE WHEN n % 3 = 0 THEN now() + (n - $1::int / 5) * interval '1 second' END
FROM generate_series(1, $1::int) AS n
"""
_ASK = """
UPDATE queue_jobs SET errors = jsonb_build_array(jsonb_build_object('reason', $1::text))
WHERE lane = 'endpoint-7' AND state = 'SCHEDULED' AND id IN (
    SELECT id FROM queue_jobs WHERE lane = 'endpoint-7' ORDER BY id LIMIT 3
)
"""
_FAILING = UUID("01900000-0000-7000-8000-00000000000a")


@dataclass(frozen=True)
class Explained:
    """What one execution of a statement read."""

    root: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        found = [self.root]
        for node in found:
            found += node.get("Plans", ())
        return found

    @property
    def scans_all(self) -> bool:
        return any(node["Node Type"] in {"Seq Scan", "Bitmap Heap Scan"} for node in self.nodes)

    @property
    def rows_read(self) -> float:
        """Count the rows that scans of tables handed on or threw away."""
        rows: float = sum(
            node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
            for node in self.nodes
            if "Relation Name" in node and "Scan" in node["Node Type"]
        )
        return rows


async def explain(
    store: PostgresStore, pool: Pool, noun: str, block: str, arguments: dict[str, object]
) -> tuple[str, Explained]:
    """Run a statement as a connection of `pool` does, with a plan for any arguments; undo what it did.

    `arguments` are by the type of each.
    """
    async with store.transaction(pool) as tx:
        connection = tx.connection
        mode: str = await connection.fetchval("SHOW plan_cache_mode")
        row = await connection.fetchrow(
            "SELECT " + ", ".join(f"quote_nullable(${n}::{kind.split()[0]})" for n, kind in enumerate(arguments, 1)),
            *arguments.values(),
        )
        values = ", ".join(f"{value}::{kind.split()[0]}" for value, kind in zip(row or (), arguments, strict=True))
        savepoint = connection.transaction()
        await savepoint.start()
        await connection.execute(f"PREPARE explained AS {load(noun)[block]}")
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE explained ({values})")
        await connection.execute("DEALLOCATE explained")
        await savepoint.rollback()
    return mode, Explained(json.loads(plan)[0]["Plan"])


@pytest.fixture(params=["analyzed", "never analyzed"])
async def crowd(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record], request: pytest.FixtureRequest
) -> PostgresStore:
    """A store with 30,000 endpoints and as many queue jobs that wait."""
    await connection.execute("SET session_replication_role = replica")  # whose they are does not matter
    await connection.execute(_FILL, ENDPOINTS)
    await fill(connection, (Rows("SCHEDULED", ENDPOINTS, lanes=LANES),))
    await connection.execute(_ASK, LEFT_ALONE)
    if request.param == "analyzed":
        await connection.execute("ANALYZE endpoints, queue_jobs")
    return store


async def test_health_of_one_among_many_is_kept_for_the_price_of_one(crowd: PostgresStore) -> None:
    one = {"uuid": _FAILING}
    rows: list[tuple[Pool, str, str, dict[str, object], int]] = [
        # Each is found by the index of those that are due, and locked by its id.
        (Pool.RELAY, "endpoints", "due_probes", {"bigint": MAX_PROBES_AT_ONCE}, 2 * MAX_PROBES_AT_ONCE),
        (
            Pool.RELAY,
            "endpoints",
            "due_indexes",
            {"bigint": MAX_INDEXES_AT_ONCE},
            MAX_INDEXES_AT_ONCE,
        ),
        (Pool.RELAY, "endpoints", "owed_indexes", {"bigint": MAX_INDEXES_AT_ONCE}, MAX_INDEXES_AT_ONCE),
        (Pool.RELAY, "endpoints", "is_index_owed", dict(one), 1),
        (Pool.RELAY, "endpoints", "owe_index", {**one, "interval": ONE_MINUTE}, 1),
        (Pool.CALLS, "endpoints", "owe_no_index", dict(one), 1),
        (Pool.CALLS, "endpoints", "claim_probe", {**one, "interval": ONE_MINUTE}, 1),
        (Pool.CALLS, "endpoints", "hold_wait", dict(one), 1),
        (Pool.CALLERS, "endpoints", "hasten_probe", {**one, "interval": ONE_MINUTE}, 1),
        (Pool.RELAY, "endpoints", "is_index_due", dict(one), 1),
        (Pool.RELAY, "endpoints", "note_probes", {"uuid[] endpoints": [_FAILING], "uuid[] jobs": [_FAILING]}, 1),
        (Pool.CALLS, "endpoints", "forget_probe", {**one, "uuid job": _FAILING}, 1),
        (Pool.CALLS, "endpoints", "lock_health", dict(one), 1),
        (
            Pool.CALLS,
            "endpoints",
            "set_health",
            {
                **one,
                "text before": "FAILING",
                "text after": "FAILING",
                "integer": 4,
                "text why": "It is away.",
                "interval": ONE_MINUTE,
                "interval quiet": None,
                "boolean": True,
            },
            1,
        ),
        (
            Pool.CALLS,
            "ledger",
            "hasten",
            {"text lane": "endpoint-7", "text reason": LEFT_ALONE},
            WAIT_IN_A_LANE + FEW,
        ),
    ]
    for pool, noun, block, arguments, most in rows:
        mode, plan = await explain(crowd, pool, noun, block, arguments)
        assert (block, mode, plan.scans_all) == (block, "force_generic_plan", False), plan.root
        assert 1 <= plan.rows_read <= most, (block, plan.rows_read, plan.root)
