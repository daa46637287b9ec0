"""What lists of dispatchers read where there are many, whether PostgreSQL has counted them or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest

from services.endpoints.domain.dispatcher import DispatcherOrigin
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.dispatchers import DispatcherFilter
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.dispatchers import PostgresDispatchers
from tests.support.ledger_plans import ExplainingConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

DISPATCHERS = 10_000
LISTENERS = 10
PAGE = 51
OURS, THEIRS = UUID(int=7), UUID(int=8)

# Theirs are older and all listen to `rare`; of ours every thousandth does.
_FILL = """
INSERT INTO event_dispatchers
    (id, origin, event_names, source, dispatchable_type, dispatchable_id, job_version_id, environment_id)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex(n + $2::int * (1 - e)), 12, '0'))::uuid,
    CASE WHEN n % 2 = 0 THEN 'API' ELSE 'INDEX' END,
    CASE WHEN e = 1 OR n % $1 = 0 THEN ARRAY['rare', 'other-' || n] ELSE ARRAY['common', 'other-' || n] END,
    'trigger.dev', 'JOB_VERSION', gen_random_uuid(), gen_random_uuid(), CASE e WHEN 0 THEN $3::uuid ELSE $4::uuid END
FROM generate_series(1, $2::int) AS n CROSS JOIN generate_series(0, 1) AS e
"""
_NAME = """
INSERT INTO event_dispatcher_names (environment_id, event_name, source, dispatcher_id)
SELECT d.environment_id, name, d.source, d.id FROM event_dispatchers d CROSS JOIN unnest(d.event_names) AS name
"""


@pytest.fixture(params=["analyzed", "never analyzed"])
async def many(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record], request: pytest.FixtureRequest
) -> AsyncIterator[ExplainingConnection]:
    """A connection for lists, to a database with many dispatchers in two environments."""
    await connection.execute("SET session_replication_role = replica")  # what they start does not matter
    await connection.execute(_FILL, DISPATCHERS // LISTENERS, DISPATCHERS, OURS, THEIRS)
    await connection.execute(_NAME)
    if request.param == "analyzed":
        await connection.execute("ANALYZE event_dispatchers, event_dispatcher_names")
    async with store.reading(Pool.READERS) as tx:
        yield ExplainingConnection(tx.connection, nouns=("dispatchers",))


async def listed(many: ExplainingConnection, after_id: UUID = NIL_UUID, **wanted: Any) -> tuple[int, float]:
    """Return how many dispatchers the first page holds and how many rows were read for it."""
    dispatchers = PostgresDispatchers(cast("asyncpg.Connection[asyncpg.Record]", many))
    page = (await dispatchers.list_dispatchers(DispatcherFilter(OURS, **wanted), limit=PAGE, after_id=after_id)).rows
    assert all(dispatcher.environment_id == OURS for dispatcher in page)
    assert [dispatcher.id for dispatcher in page] == sorted(dispatcher.id for dispatcher in page)
    return len(page), many.plans[-1].rows_of("event_dispatcher")


@pytest.mark.parametrize(
    "wanted", [{}, {"source": "trigger.dev"}, {"origin": DispatcherOrigin.API}], ids=["any", "source", "origin"]
)
async def test_ten_listeners_among_ten_thousand_cost_like_ten(
    many: ExplainingConnection, wanted: dict[str, Any]
) -> None:
    found, rows_read = await listed(many, event_name="rare", **wanted)
    assert found == LISTENERS
    assert rows_read <= 6 * LISTENERS


async def test_nobody_who_listens_costs_nothing(many: ExplainingConnection) -> None:
    assert await listed(many, event_name="nothing") == (0, 0)
    assert await listed(many, event_name="rare", source="shop") == (0, 0)


async def test_a_page_of_those_who_listen_to_one_event_of_one_source_costs_a_page(many: ExplainingConnection) -> None:
    middle = UUID(f"01900000-0000-7000-8000-{3 * DISPATCHERS // 2:012x}")
    for after_id in (NIL_UUID, middle):
        found, rows_read = await listed(many, after_id, event_name="common", source="trigger.dev")
        assert found == PAGE
        assert rows_read <= 6 * PAGE


async def test_a_page_of_those_who_listen_to_one_event_reads_only_their_names(many: ExplainingConnection) -> None:
    found, rows_read = await listed(many, event_name="common")
    assert found == PAGE
    assert rows_read <= 2 * DISPATCHERS + 6 * PAGE


@pytest.mark.parametrize("wanted", [{}, {"source": "trigger.dev"}, {"origin": DispatcherOrigin.INDEX}])
async def test_a_page_of_all_costs_a_page(many: ExplainingConnection, wanted: dict[str, Any]) -> None:
    middle = UUID(f"01900000-0000-7000-8000-{3 * DISPATCHERS // 2:012x}")
    for after_id in (NIL_UUID, middle):
        found, rows_read = await listed(many, after_id, **wanted)
        assert found == PAGE
        assert rows_read <= 6 * PAGE
