"""What happens to connections while the store closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.store.postgres import PostgresStore
from tests.support.machine_time import machine_time
from tests.support.proxy import TcpProxy

if TYPE_CHECKING:
    import asyncpg


async def test_connection_lent_out_at_the_close_goes_back_and_lets_it_end(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
    await store.open()
    async with store.reading() as tx:
        closing = asyncio.create_task(store.close())
        await tx.ledger.now()
        with pytest.raises(DatabaseUnavailableError, match="not open"):
            async with store.reading():
                pass
        assert not closing.done()
        began = machine_time()
    await closing

    assert machine_time() - began < 1
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kongflow readers'")
        == 0
    )


async def test_silent_database_holds_up_the_close_of_all_pools_no_longer_than_that_of_one(database_url: str) -> None:
    port = urlsplit(database_url).port
    assert port is not None
    async with TcpProxy(upstream_port=port) as proxy:
        url = database_url.replace(f":{port}/", f":{proxy.port}/")
        store = PostgresStore(database_url=url, on_ledger_change=lambda: None)
        await store.open()
        proxy.black_hole()
        began = machine_time()
        await store.close()

        assert machine_time() - began < 4
