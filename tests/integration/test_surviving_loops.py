"""A table that is missing for a while, as while somebody repairs a database, ends no server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from services.endpoints.app import run
from services.endpoints.operations.relay import Relay
from services.endpoints.store.schema import require_schema
from tests.support.eventually import eventually
from tests.support.pair import endpoints_settings, running_pair

if TYPE_CHECKING:
    from datetime import timedelta

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


async def test_defect_of_a_loop_is_told_at_once_and_ends_the_server(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_self: object) -> timedelta:
        raise TypeError("a defect")

    monkeypatch.setattr(Relay, "run_once", fail)
    settings = endpoints_settings(database_url=database_url, redis_url=redis_url)
    with capture_logs() as logs, pytest.raises(TypeError):
        await run(settings, asyncio.Event())

    events = [line["event"] for line in logs]
    assert events.index("server_fails") < events.index("draining")
