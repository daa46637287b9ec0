"""What the ledger's work leaves to callers: everything but one transaction at a time while they are many."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest_asyncio

from services.endpoints.domain.callers import MANY, Callers
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.postgres import PostgresStore
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def callers() -> Callers:
    return Callers()


@pytest_asyncio.fixture
async def store(database_url: str, callers: Callers) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None, callers=callers)
    await store.open()
    yield store
    await store.close()


class Work:
    """Transactions of several pools, each held until the test lets go."""

    def __init__(self, store: PostgresStore, pools: list[Pool]) -> None:
        self.inside: list[Pool] = []
        self.go_on = asyncio.Semaphore(0)
        self._tasks = [asyncio.create_task(self._hold(store, pool)) for pool in pools]

    async def _hold(self, store: PostgresStore, pool: Pool) -> None:
        async with store.transaction(pool) as tx:
            await tx.ledger.now()
            self.inside.append(pool)
            await self.go_on.acquire()

    def has_begun(self, count: int) -> bool:
        return len(self.inside) == count

    async def ended(self) -> None:
        for _ in self._tasks:
            self.go_on.release()
        await asyncio.gather(*self._tasks)


async def test_with_few_callers_transactions_go_side_by_side(store: PostgresStore) -> None:
    work = Work(store, [Pool.CALLS, Pool.CALLS, Pool.CALL_BACKS, Pool.CALL_BACKS])
    await eventually(lambda: len(work.inside) == 4)
    await work.ended()


async def test_with_many_callers_work_for_the_ledger_goes_one_by_one(store: PostgresStore, callers: Callers) -> None:
    with ExitStack() as calls:
        for _ in range(MANY):
            calls.enter_context(callers.calling())
        work = Work(store, [Pool.CALLS, Pool.CALL_BACKS, Pool.CALL_BACKS])
        others = Work(store, [Pool.CALLERS, Pool.CALLERS, Pool.READERS, Pool.RELAY])
        await eventually(lambda: len(others.inside) == 4)
        for done in (1, 2):
            await eventually(partial(work.has_begun, done))
            async with store.transaction() as tx:
                await tx.ledger.now()
            assert len(work.inside) == done
            work.go_on.release()
        await work.ended()
        await others.ended()
