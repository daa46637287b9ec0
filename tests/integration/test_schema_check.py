"""A server works with the schema it was written for and with newer ones, and waits for it otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.store.migrations import runner
from services.endpoints.store.postgres import PostgresStore
from services.endpoints.store.schema import NEWEST_REVISION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def store(empty_database_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database_url=empty_database_url, on_ledger_change=lambda: None)
    yield store
    await store.close()


async def test_newest_revision_is_the_migrations_own(empty_database_url: str) -> None:
    assert (await runner.status(empty_database_url)).head == NEWEST_REVISION


async def test_database_without_a_schema_or_with_an_older_one_is_not_opened(
    store: PostgresStore, empty_database_url: str
) -> None:
    with pytest.raises(DatabaseUnavailableError, match="migrate up"):
        await store.open()
    await runner.upgrade(empty_database_url, "0001")
    with pytest.raises(DatabaseUnavailableError, match="schema 0001"):
        await store.open()
    with pytest.raises(DatabaseUnavailableError, match="not open"):
        async with store.reading():
            pass

    await runner.upgrade(empty_database_url)
    await store.open()


async def test_database_with_a_newer_schema_is_served(store: PostgresStore, empty_database_url: str) -> None:
    await runner.upgrade(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()

    await store.open()

    async with store.reading() as tx:
        assert await tx.ledger.now()
