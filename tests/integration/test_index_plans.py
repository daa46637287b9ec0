"""What a batch of results reads of a large index, when the statistics have not seen one yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.endpoints.domain.endpoint_index import ABSENT
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    import asyncpg

ITEMS = 5000
BATCH = 200
SETTLED = 900
ITEMS_OF_SMALL = 10

_INSERT = """
INSERT INTO endpoint_index_items (index_id, ordinal, kind, key, state)
SELECT $1, number, 'JOB', 'job-' || number, $2 FROM generate_series(1, $3) AS number
"""


async def test_storing_results_reads_their_items_and_not_all_that_wait(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await connection.execute("SET session_replication_role = replica")  # the index they belong to does not matter
    for _ in range(20):
        await connection.execute(_INSERT, uuid4(), "REGISTERED", 20)
    await connection.execute("ANALYZE endpoint_index_items")
    index_id = uuid4()
    await connection.execute(_INSERT, index_id, "PENDING", ITEMS)
    plan = await connection.fetchval(
        "EXPLAIN (ANALYZE, FORMAT JSON) " + load("indexes")["set_items"],
        [index_id] * BATCH,
        ["JOB"] * BATCH,
        [f"job-{number}" for number in range(1, BATCH + 1)],
        ["REGISTERED"] * BATCH,
        [None] * BATCH,
    )
    counted = await connection.fetchval(
        "SELECT count(*) FROM endpoint_index_items WHERE index_id = $1 AND state = 'REGISTERED'", index_id
    )
    assert counted == BATCH
    # A plain join compares every result with every item that waits: 1,000,000 rows.
    assert _rows_handled(json.loads(plan)[0]["Plan"]) < 2 * ITEMS + 10 * BATCH


async def test_settling_small_indexes_reads_their_items_and_not_those_of_all(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await connection.execute("SET session_replication_role = replica")
    for _ in range(2):
        await connection.execute(_INSERT, uuid4(), "REGISTERED", 500)
    await connection.execute("ANALYZE endpoint_index_items, endpoint_indexes")
    for _ in range(SETTLED):
        await connection.execute(_INSERT, uuid4(), "REGISTERED", ITEMS_OF_SMALL)
    await connection.execute(
        "INSERT INTO endpoint_indexes (id, endpoint_id, source, state, queue_job_id)"
        " SELECT DISTINCT index_id, index_id, 'API', 'REGISTERING', index_id FROM endpoint_index_items"
    )
    wanted = await connection.fetchval("SELECT array_agg(id) FROM (SELECT id FROM endpoint_indexes LIMIT $1)", BATCH)
    plan = await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + load("indexes")["settle"], wanted, ABSENT)
    settled = await connection.fetchval("SELECT count(*) FROM endpoint_indexes WHERE state = 'SUCCEEDED'")
    assert settled == BATCH
    # Read for each, all items are a hundred times as many.
    assert _rows_handled(json.loads(plan)[0]["Plan"]) < 10 * BATCH * ITEMS_OF_SMALL


def _rows_handled(node: dict[str, Any]) -> float:
    rows = node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0) + node.get("Rows Removed by Filter", 0)
    children: float = sum(_rows_handled(child) for child in node.get("Plans", ()))
    return float(node["Actual Loops"] * rows) + children
