"""What a prune reads where there is much to keep, with plans made for any arguments."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.queries import load
from tests.support.ledger_plans import keep_plans

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

EVENTS = 50_000
ENDPOINTS = 2_000
KEPT = 10
LIMIT = 100
LOOKED_AT = 10 * LIMIT
AGE = "'7 days'"

_EVENTS = """
INSERT INTO events
    (id, event_id, name, source, payload, context, state, queue_job_id, environment_id, organization_id, project_id,
    updated_at, delivered_at)
SELECT gen_random_uuid(), n::text, 'n', 's', '{}', '{}', 'DELIVERED', gen_random_uuid(), $2, $2, $2,
    now() - n * interval '4 seconds', now()
FROM generate_series(1, $1::integer) AS n
"""
_INDEXES = """
INSERT INTO endpoint_indexes (id, endpoint_id, state, queue_job_id, created_at)
SELECT gen_random_uuid(), md5((n % $1)::text)::uuid, 'SUCCEEDED', gen_random_uuid(), now() - n * $3::interval
FROM generate_series(1, $1::integer * $2::integer) AS n
"""


@pytest.fixture
async def upkeep(connection: asyncpg.Connection[asyncpg.Record]) -> asyncpg.Connection[asyncpg.Record]:
    """A connection that plans as a prune's does, and asks for no parents."""
    await connection.execute("SET session_replication_role = replica")
    await keep_plans(connection)
    return connection


async def _plan(
    connection: asyncpg.Connection[asyncpg.Record], noun: str, block: str, *arguments: object
) -> dict[str, Any]:
    """Run a block with a plan made before the arguments were known; return what it did."""
    await connection.execute(f"PREPARE explained AS {load(noun)[block]}")
    try:
        explained = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained({', '.join(map(str, arguments))})"
        )
    finally:
        await connection.execute("DEALLOCATE explained")
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


def _rows_read(node: dict[str, Any]) -> float:
    """Count the rows that scans of tables and their indexes handed on or threw away."""
    rows: float = sum(map(_rows_read, node.get("Plans", ())))
    if "Relation Name" in node or "Index Name" in node:
        rows += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return rows


@pytest.mark.parametrize("is_analyzed", [True, False])
async def test_prune_reads_no_event_that_ended_of_late(
    upkeep: asyncpg.Connection[asyncpg.Record], is_analyzed: bool
) -> None:
    await upkeep.execute(_EVENTS, EVENTS, "00000000-0000-0000-0000-000000000007")
    if is_analyzed:
        await upkeep.execute("ANALYZE events")

    plan = await _plan(upkeep, "dispatch", "lock_old_events", AGE, LIMIT)

    assert _rows_read(plan) == 0, plan
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 20, plan
    # The oldest of them ended more than two days ago.
    plan = await _plan(upkeep, "dispatch", "lock_old_events", "'2 days'", LIMIT)
    assert plan["Actual Rows"] == LIMIT
    assert _rows_read(plan) <= 3 * LIMIT, plan


@pytest.mark.parametrize("is_analyzed", [True, False])
async def test_prune_looks_at_so_many_indexes_however_many_are_kept(
    upkeep: asyncpg.Connection[asyncpg.Record], store: PostgresStore, is_analyzed: bool
) -> None:
    await upkeep.execute(_INDEXES, ENDPOINTS, KEPT, timedelta(seconds=1))
    if is_analyzed:
        await upkeep.execute("ANALYZE endpoint_indexes")

    young = await _plan(upkeep, "indexes", "look_at_old", AGE, "NULL", KEPT, LOOKED_AT, LIMIT)
    assert _rows_read(young) == 0, young
    assert young["Shared Hit Blocks"] + young["Shared Read Blocks"] <= 20, young

    await upkeep.execute("UPDATE endpoint_indexes SET created_at = created_at - interval '8 days'")
    old = await _plan(upkeep, "indexes", "look_at_old", AGE, "NULL", KEPT, LOOKED_AT, LIMIT)
    # Each is compared with at most so many of its endpoint.
    assert _rows_read(old) <= LOOKED_AT * (1 + KEPT), old
    assert old["Shared Hit Blocks"] + old["Shared Read Blocks"] <= LOOKED_AT * (4 + KEPT), old

    after, prunes = None, 0
    while after is not None or not prunes:
        async with store.transaction(Pool.CALL_BACKS) as tx:
            deleted, after = await tx.indexes.delete_old(
                older_than=timedelta(days=7), keep_last=KEPT, limit=LIMIT, after=after
            )
        assert deleted == 0
        prunes += 1
    # The last one finds that there are no more.
    assert prunes == ENDPOINTS * KEPT / LOOKED_AT + 1
