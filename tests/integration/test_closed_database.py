"""A database that lets nobody in, for the time of some maintenance, is away like one that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.store.postgres import PostgresStore

if TYPE_CHECKING:
    from services.embedded.postgres import EmbeddedPostgres


async def let_in(server: EmbeddedPostgres, database_url: str, *, anybody: bool) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    operator = await asyncpg.connect(server.url_of("postgres"))
    try:
        await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {anybody}")
        if not anybody:
            await operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await operator.close()


async def test_database_that_closes_is_away_until_it_opens(postgres: EmbeddedPostgres, database_url: str) -> None:
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
    await store.open()
    await let_in(postgres, database_url, anybody=False)
    try:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError):
                await store.why_not_serving()
    finally:
        await let_in(postgres, database_url, anybody=True)
    assert await store.why_not_serving() is None
    await store.close()


async def test_closed_database_is_waited_for(postgres: EmbeddedPostgres, database_url: str) -> None:
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
    await let_in(postgres, database_url, anybody=False)
    try:
        with pytest.raises(DatabaseUnavailableError):
            await store.open()
    finally:
        await let_in(postgres, database_url, anybody=True)
    await store.open()
    await store.close()
