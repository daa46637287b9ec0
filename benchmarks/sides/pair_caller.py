"""Enqueues through the product's own ledger, in a process of its own: `python -m benchmarks.sides.pair_caller`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import structlog
import uvloop

from benchmarks.sides.commands import DATABASE_VARIABLE, REDIS_VARIABLE, UNNUMBERED, batches, obey
from benchmarks.sides.noop import noop_queue_job
from services.endpoints.queue.connection import open_redis
from services.endpoints.queue.wake_ups import RedisWakeUps
from services.endpoints.store.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Sequence


class PairEnqueuer:
    """One transaction and one statement for each batch of a bulk, as the product's own callers do."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def enqueue(self, lanes: Sequence[str]) -> None:
        """Enqueue one unnumbered job in each of `lanes`."""
        for batch in batches(lanes):
            queue_jobs = [noop_queue_job(lane, UNNUMBERED) for lane in batch]
            async with self._store.transaction() as tx:
                await tx.ledger.enqueue(queue_jobs)

    async def enqueue_one(self, number: int) -> None:
        """Enqueue one numbered job."""
        async with self._store.transaction() as tx:
            await tx.ledger.enqueue([noop_queue_job(f"pickup-{number % 100}", number)])


async def _main() -> None:
    redis = open_redis(os.environ[REDIS_VARIABLE])
    wake_ups = RedisWakeUps(redis=redis)
    store = PostgresStore(database_url=os.environ[DATABASE_VARIABLE], on_ledger_change=wake_ups.notify)
    await store.open()
    publishing = asyncio.create_task(wake_ups.run())
    await wake_ups.subscribed()
    try:
        await obey(PairEnqueuer(store))
    finally:
        await wake_ups.close()
        await publishing
        await store.close()
        await redis.aclose()


if __name__ == "__main__":
    # The standard output belongs to the answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(_main())
