"""What callers and the store see when PostgreSQL gives way, hangs, or ends their sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.store.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.endpoints.store.postgres import PostgresTransaction

pytestmark = pytest.mark.bounded


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_session_ended_in_a_transaction_is_unavailable_and_the_next_one_works(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def end_own_session(tx: PostgresTransaction) -> None:
        session = await tx.connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("SELECT pg_terminate_backend($1)", session)
        await tx.ledger.now()

    with pytest.raises(DatabaseUnavailableError) as raised:
        await store.transact(end_own_session)

    assert raised.value.retry_after
    async with store.transaction() as tx:
        assert await tx.ledger.now()
