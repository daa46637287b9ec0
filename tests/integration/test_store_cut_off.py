"""A connection that is lost where nothing is left to do on it changes nobody's answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError
from services.endpoints.store.postgres import PostgresStore
from tests.support.eventually import eventually
from tests.support.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True)
class Wire:
    """A store, and the proxy between it and its database."""

    store: PostgresStore
    proxy: TcpProxy

    async def give_way(self, *, depth: int, answered_bytes: int) -> None:
        """Fail in `depth` savepoints, and cut the connection while what was begun is undone."""
        async with AsyncExitStack() as stack:
            tx = await stack.enter_async_context(self.store.transaction())
            await tx.ledger.now()
            for _ in range(depth):
                await stack.enter_async_context(tx.savepoint())
            self.proxy.cut_after(answered_bytes)
            raise ConflictError("They had to give way.", retry_after=timedelta())

    async def lose_before_a_savepoint(self) -> None:
        """Begin a savepoint on a connection that was lost while nothing went over it."""
        async with self.store.transaction() as tx:
            await tx.ledger.now()
            self.proxy.refuse()
            await eventually(lambda: all(pool.size == 0 for pool in self.store.pool_readings()))
            async with tx.savepoint():
                pytest.fail("There is nothing to begin it on.")


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    port = urlsplit(database_url).port
    assert port is not None
    async with TcpProxy(upstream_port=port) as proxy:
        url = database_url.replace(f":{port}/", f":{proxy.port}/")
        store = PostgresStore(database_url=url, on_ledger_change=lambda: None)
        await store.open()
        yield Wire(store, proxy)
        await store.close()


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("answered_bytes", [0, 10])
async def test_rollback_that_is_cut_off_keeps_the_reason_for_it(wire: Wire, depth: int, answered_bytes: int) -> None:
    with pytest.raises(ConflictError, match="give way"):
        await wire.give_way(depth=depth, answered_bytes=answered_bytes)

    wire.proxy.heal()
    async with wire.store.transaction() as tx:
        await tx.ledger.now()


async def test_savepoint_after_the_connection_was_lost_tells_that_the_database_is_away(wire: Wire) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await wire.lose_before_a_savepoint()


async def test_call_that_is_cancelled_as_its_transaction_begins_is_nobodys_trouble(wire: Wire) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    async with wire.store.transaction() as tx:
        await tx.ledger.now()
    wire.proxy.black_hole()
    beginning = asyncio.create_task(AsyncExitStack().enter_async_context(wire.store.transaction()))
    await eventually(lambda: any(pool.in_use for pool in wire.store.pool_readings()))
    beginning.cancel()
    wire.proxy.heal()
    with pytest.raises(asyncio.CancelledError):
        await beginning

    async with wire.store.transaction() as tx:
        await tx.ledger.now()
    assert told == []


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_connection_that_cannot_be_given_back_fails_nothing_that_was_done(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    given_back: list[Any] = []
    release = asyncpg.Pool.release

    async def fail_to_release(pool: Any, lent: Any, **options: Any) -> None:
        given_back.append(lent)
        await release(pool, lent, **options)
        raise error

    monkeypatch.setattr(asyncpg.Pool, "release", fail_to_release)
    async with store.transaction() as tx:
        await tx.ledger.now()
    assert len(given_back) == 1
