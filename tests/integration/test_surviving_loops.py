"""A table that is missing for a while, as while somebody repairs a database, ends no server."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
from structlog.testing import capture_logs

from services.endpoints.store.schema import require_schema
from tests.support.eventually import eventually
from tests.support.pair import running_pair

if TYPE_CHECKING:
    import pytest

LOOPS = {"relay", "rescue"}


async def test_server_goes_on_when_its_tables_are_back(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    with capture_logs() as logs:
        async with running_pair(database_url=database_url, redis_url=redis_url, workers=0):
            await connection.execute("ALTER TABLE queue_lanes RENAME TO queue_lanes_away")
            await eventually(lambda: {line.get("loop") for line in logs} >= LOOPS)
            await connection.execute("ALTER TABLE queue_lanes_away RENAME TO queue_lanes")
            await eventually(lambda: {line["loop"] for line in logs if line["event"] == "loop_goes_on"} >= LOOPS)

    told = [line for line in logs if line["event"] == "loop_waits"]
    assert Counter(line["loop"] for line in told) == dict.fromkeys(LOOPS, 1)
    assert {line["message"] for line in told} == {"PostgreSQL answered with 42P01, UndefinedTableError."}


async def test_server_that_starts_bears_what_the_database_answers_until_it_is_well(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [asyncpg.InternalServerError("cache lookup failed") for _ in range(2)]

    async def require(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        if errors:
            raise errors.pop()
        await require_schema(connection)

    monkeypatch.setattr("services.endpoints.store.postgres.require_schema", require)
    with capture_logs() as logs:
        async with running_pair(database_url=database_url, redis_url=redis_url, workers=0):
            pass

    (told,) = (line for line in logs if line["event"] == "loop_waits" and line["loop"] == "database")
    assert told["message"] == "PostgreSQL answered with XX000, InternalServerError."
