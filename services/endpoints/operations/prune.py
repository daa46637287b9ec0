"""Upkeep: deletes what has been kept long enough, a bounded bite at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.catalog import PRUNE, new_queue_job
from services.endpoints.domain.lanes import MAINTENANCE_LANE
from services.endpoints.domain.ports.ledger import UniqueKey
from services.endpoints.domain.ports.store import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.endpoints.domain.ledger_settings import Retention
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.queue_job import NewQueueJob, QueueJob
    from services.endpoints.operations.rounds import Rounds

_log = structlog.get_logger(__name__)

_KEY: Final = "prune"


class Prune:
    """The handler of `prune`."""

    def __init__(self, *, retention: Retention, new_id: NewId) -> None:
        """Hold how long what is kept."""
        self._retention = retention
        self._new_id = new_id
        self._looked_to: datetime | None = None

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:
        """Delete old rows, at most `max_rows_at_once` of each table, however many queue jobs ask for it.

        Where that was not enough for one of them, another `prune` follows at once, in a transaction of its own: what
        was finished faster than a bite per period takes away goes as well. Old indexes may be the newest of their
        endpoints, which stay, so each `prune` looks at the next so many of them, and begins anew after the last.
        """
        limit = self._retention.max_rows_at_once
        ledger_rows = await tx.ledger.delete_old(self._retention)
        index_rows, looked_to = await tx.indexes.delete_old(
            older_than=self._retention.indexes,
            keep_last=self._retention.indexes_kept,
            limit=limit,
            after=self._looked_to,
        )
        deleted = {
            "ledger_rows": ledger_rows,
            "index_rows": index_rows,
            "event_rows": await tx.dispatch.delete_old_events(older_than=self._retention.events, limit=limit),
            "request_ids": await tx.requests.delete_expired(limit=limit),
        }
        goes_on = max(deleted.values()) >= limit
        if goes_on:
            await tx.ledger.enqueue([_new_prune(self._new_id)])

        def note() -> None:
            self._looked_to = looked_to
            _log.info("pruned", asked=len(queue_jobs), goes_on=goes_on, **deleted)

        tx.after_commit(note)

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Do nothing: the next one comes by the clock."""


def _new_prune(new_id: NewId) -> NewQueueJob:
    return new_queue_job(PRUNE, {}, queue_job_id=new_id(), lane=MAINTENANCE_LANE)


class Upkeep:
    """Asks for a `prune` every few minutes, once for all servers."""

    def __init__(self, *, store: Store, new_id: NewId, retention: Retention) -> None:
        """Hold the ports."""
        self._store = store
        self._new_id = new_id
        self._retention = retention

    async def run_once(self) -> bool:
        """Enqueue a `prune` unless one was enqueued within the period; return whether it was."""

        async def work(tx: Transaction) -> bool:
            await tx.ledger.serialize(_KEY)
            now, window = await tx.ledger.clock_and_window(_KEY, "")
            if window is not None and window.expires_at > now:
                return False
            queue_job = _new_prune(self._new_id)
            unique = UniqueKey(_KEY, "", queue_job.id, self._retention.prune_every)
            await tx.ledger.enqueue([queue_job], unique=unique)
            return True

        return await self._store.transact(work, Pool.RELAY)

    async def run(self, rounds: Rounds) -> None:
        """Ask at the start and then every period, until cancelled."""
        while True:
            await rounds.complete(self.run_once)
            await asyncio.sleep(self._retention.prune_every.total_seconds())
