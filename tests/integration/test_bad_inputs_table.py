"""The whole table of bad inputs against running services: the status, the reason and the fields of each refused row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support import bad_call_rows, bad_endpoint_rows, bad_event_rows
from tests.support.bad_inputs import Ground, Row, bad_input_ground
from tests.support.rpc import refused
from tests.support.servers import fresh_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.embedded.postgres import EmbeddedPostgres
    from services.embedded.redis import EmbeddedRedis

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad inputs")]

ROWS = (*bad_endpoint_rows.ROWS, *bad_event_rows.ROWS, *bad_call_rows.ROWS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> AsyncIterator[Ground]:
    async with fresh_database(postgres) as url, bad_input_ground(database_url=url, redis_url=redis.url) as ground:
        yield ground


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.name}")
async def test_refused_row(ground: Ground, row: Row) -> None:
    async with ground.nothing_stored():
        refusal = await refused(row.call(ground))
    assert (refusal.code, refusal.reason, tuple(refusal.fields)) == (row.code, row.reason, row.fields)
    assert refusal.domain == "kongflow.v1"
    assert ("google.rpc.BadRequest" in refusal.details) is bool(row.fields)
    assert refusal.message.isprintable()
    assert len(refusal.message) <= 1000
