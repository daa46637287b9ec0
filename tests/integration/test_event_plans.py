"""What reading events by time reads where there are many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest

from services.endpoints.domain.ports.events import EventFilter
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.events import PostgresEvents, _id_bounds
from tests.integration.test_endpoint_health_plans import explain
from tests.support.ledger_plans import ExplainingConnection

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

MANY = 20_000
MOST = 1_001
PAGE = 51
START = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)

# One after the other over 30 days, each with an id that begins with its time; every hundredth has a name of its own.
_FILL = """
INSERT INTO events
    (id, event_id, name, source, payload, context, queue_job_id, environment_id, organization_id, project_id,
    created_at)
SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
    'event-' || n, CASE WHEN n % 100 = 0 THEN 'rare' ELSE 'user.created' END, 'trigger.dev', '{}', '{}',
    gen_random_uuid(), $1, gen_random_uuid(), gen_random_uuid(), at
FROM generate_series(1, $2::int) AS n
CROSS JOIN LATERAL (SELECT $3::timestamptz + $4::interval * n / $2 AS at) AS written
"""


@pytest.fixture(params=["analyzed", "never analyzed", "analyzed when there was one"])
async def environment_id(connection: asyncpg.Connection[asyncpg.Record], request: pytest.FixtureRequest) -> UUID:
    """An environment with 20,000 events of 30 days."""
    environment_id = uuid4()
    # Whose they are does not matter, nor whose their copies are.
    await connection.execute("ALTER TABLE events DISABLE TRIGGER ALL; ALTER TABLE queue_jobs DISABLE TRIGGER ALL")
    if request.param == "analyzed when there was one":
        await connection.execute(_FILL, uuid4(), 1, START, MONTH)
        await connection.execute("ANALYZE events")
        await connection.execute("DELETE FROM events")
    await connection.execute(_FILL, environment_id, MANY, START, MONTH)
    if request.param == "analyzed":
        await connection.execute("ANALYZE events")
    return environment_id


async def test_a_replay_reads_the_oldest_of_its_time_and_no_others(store: PostgresStore, environment_id: UUID) -> None:
    ranges: list[tuple[datetime, str | None, int, int]] = [
        (START, None, MOST, MOST),
        (START + MONTH / 2, None, MOST, MOST),
        (START + MONTH * 0.999, None, MANY // 1000, MANY // 1000),
        (START, "user.created", MOST, MOST * 100 // 99 + 1),
    ]
    for created_from, name, found, read in ranges:
        arguments: dict[str, Any] = {
            "uuid": environment_id,
            "text name": name,
            "text source": None,
            "timestamptz from": created_from,
            "timestamptz before": START + MONTH,
            "bigint": MOST,
        }
        mode, plan = await explain(store, Pool.CALLERS, "events", "matching", arguments)
        assert mode == "force_generic_plan"
        assert plan.root["Actual Rows"] == found, plan.root
        assert plan.rows_read <= read, plan.root


async def test_a_list_reads_little_more_than_its_page(store: PostgresStore, environment_id: UUID) -> None:
    for created_from, created_before in ((START, START + MONTH), (START + MONTH * 0.99, START + MONTH), (None, None)):
        bounds = _id_bounds(EventFilter(environment_id, created_from=created_from, created_before=created_before))
        arguments: dict[str, Any] = {
            "uuid": environment_id,
            "text name": None,
            "text source": None,
            "text state": None,
            "text account": None,
            "timestamptz from": created_from,
            "timestamptz before": created_before,
            "uuid first": bounds[0],
            "uuid last": bounds[1],
            "bigint": PAGE,
        }
        _, plan = await explain(store, Pool.LISTS, "events", "list_events", arguments)
        assert plan.root["Actual Rows"] == PAGE, plan.root
        assert plan.rows_read <= PAGE + 1, plan.root


@pytest.mark.parametrize("environment_id", ["analyzed"], indirect=True)
async def test_a_list_of_who_has_none_reads_nothing_of_what_others_have(
    store: PostgresStore, environment_id: UUID
) -> None:
    async with store.reading(Pool.LISTS) as tx:
        explaining = ExplainingConnection(tx.connection, nouns=("events",))
        events = PostgresEvents(cast("asyncpg.Connection[asyncpg.Record]", explaining), changed=lambda: None)
        assert await events.list_events(EventFilter(uuid4()), limit=PAGE, before=None) == []
        assert len(await events.list_events(EventFilter(environment_id, name="rare"), limit=PAGE, before=None)) == PAGE
    of_nobody, of_a_name = (plan.rows_of("events") for plan in explaining.plans)
    assert (of_nobody, of_a_name) == (0, PAGE), explaining.plans


async def test_events_that_are_named_are_read_and_no_others(
    store: PostgresStore, environment_id: UUID, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    names = [f"event-{number}" for number in (1, MANY // 2, MANY)]
    ids = await connection.fetchval("SELECT array_agg(id) FROM events WHERE event_id = ANY($1::text[])", names)
    numbers = list(range(len(ids)))
    copied = {
        "uuid": environment_id,
        "integer[] places": numbers,
        "uuid[] ids": [uuid4() for _ in ids],
        "text[] event ids": [f"copy-{number}" for number in numbers],
        "uuid[] queue jobs": [uuid4() for _ in ids],
        "text[] lanes": ["lane" for _ in ids],
        "uuid[] originals": ids,
        "text kind": "deliverEvent",
        "text queue": "default",
        "smallint": 3,
        "text trace": None,
    }
    for block, arguments in (
        ("find", {"uuid": environment_id, "text[]": names}),
        ("read_sizes", {"uuid": environment_id, "text[]": names}),
        ("of_ids", {"uuid": environment_id, "uuid[]": ids}),
        ("replay", copied),
    ):
        _, plan = await explain(store, Pool.CALLERS, "events", block, arguments)
        assert plan.rows_read == len(names), (block, plan.root)
