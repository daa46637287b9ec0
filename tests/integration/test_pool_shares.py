"""A tenant whose calls take long leaves the others connections to the database."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import pytest

from services.endpoints.domain.current_tenant import note_tenant
from services.endpoints.domain.errors import NoConnectionFreeError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store import postgres
from services.endpoints.store.postgres import PoolSettings, PostgresStore
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECONDS = timedelta(seconds=5)
CONNECTIONS = 6
SHARE = 4


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    settings = PoolSettings(CONNECTIONS, statement_timeout=SECONDS, lock_timeout=SECONDS)
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None, pools=dict.fromkeys(Pool, settings))
    await store.open()
    yield store
    await store.close()


class Borrower:
    """Holds connections for a tenant, or for the service itself, until told to stop."""

    def __init__(self, store: PostgresStore, tenant: str | None = None) -> None:
        self.held = 0
        self._store = store
        self._tenant = tenant
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._enough.set()
        await asyncio.gather(*self._tasks)

    def borrow(self, connections: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._hold(), context=Context()) for _ in range(connections)]
        self._tasks += tasks
        return tasks

    async def _hold(self) -> None:
        if self._tenant is not None:
            note_tenant(self._tenant)
        async with self._store.reading():
            self.held += 1
            await self._enough.wait()


async def test_a_tenant_has_two_thirds_of_a_pool_and_another_one_has_the_rest(store: PostgresStore) -> None:
    async with AsyncExitStack() as stack:
        greedy, other, service = [
            await stack.enter_async_context(Borrower(store, tenant)) for tenant in ("greedy", "other", None)
        ]
        greedy.borrow(CONNECTIONS)
        await eventually(lambda: greedy.held == SHARE)
        other.borrow(1)
        service.borrow(1)
        await eventually(lambda: (other.held, service.held) == (1, 1))
        assert greedy.held == SHARE
        assert next(each.waiting for each in store.pool_readings() if each.name == Pool.READERS.value) == 2
        await stack.pop_all().aclose()

    assert greedy.held == CONNECTIONS
    async with Borrower(store, "greedy") as again:
        again.borrow(SHARE)
        await eventually(lambda: again.held == SHARE)


async def test_the_service_itself_has_all_of_a_pool(store: PostgresStore) -> None:
    async with Borrower(store) as service:
        service.borrow(CONNECTIONS)
        await eventually(lambda: service.held == CONNECTIONS)


async def test_who_waits_too_long_for_its_share_is_told_that_it_is_its_own(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Borrower(store, "greedy") as greedy:
        greedy.borrow(SHARE)
        await eventually(lambda: greedy.held == SHARE)
        monkeypatch.setattr(postgres, "_ACQUIRE_WITHIN", timedelta(milliseconds=50))
        late = Borrower(store, "greedy")
        (refused,) = late.borrow(1)
        await asyncio.wait([refused])
        error = refused.exception()

    assert isinstance(error, NoConnectionFreeError)
    assert "for this tenant" in error.message
