"""A column's type may change under servers that run: what they prepared for the old one is prepared anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.errors import ConflictError
from services.endpoints.domain.identifiers import NIL_UUID

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.store.postgres import PostgresStore


async def read(tx: Transaction) -> None:
    assert await tx.tenancy.get_organization(NIL_UUID) is None


async def test_transaction_that_meets_a_changed_column_is_done_again(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await store.transact(read)
    await connection.execute("ALTER TABLE organizations ALTER COLUMN title TYPE varchar(1000)")

    await store.transact(read)


async def test_who_cannot_begin_again_is_told_to_try_again(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await store.transact(read)
    await connection.execute("ALTER TABLE organizations ALTER COLUMN title TYPE varchar(1000)")

    async with store.transaction() as tx:
        with pytest.raises(ConflictError):
            await read(tx)
    async with store.transaction() as tx:
        await read(tx)
