"""Suspect lanes: something in them may kill the process that runs it.

Such a lane is held by a claim, and what begins in it is counted by a commit of its own before anything is done.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from itertools import takewhile
from typing import TYPE_CHECKING

import structlog

from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError, KongflowError
from services.endpoints.domain.ports.ledger import Failure
from services.endpoints.operations.attempts import FencedError, require_held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.store import Pool, Store, Transaction
    from services.endpoints.domain.queue_job import Queue, QueueJob
    from services.endpoints.operations.endings import Endings

_log = structlog.get_logger(__name__)


class Suspects:
    """Takes suspect lanes, and counts what begins in them until it has ended."""

    def __init__(self, *, store: Store, pool: Pool, endings: Endings, settings: LedgerSettings) -> None:
        """Hold the ports; all goes over connections of `pool`."""
        self._store = store
        self._pool = pool
        self._endings = endings
        self._settings = settings

    async def take(self, queue: Queue, lane: str) -> int | None:
        """Take a RUNG lane and return the claim; None when it is not RUNG any more."""

        async def work(tx: Transaction) -> int | None:
            if not await tx.ledger.lock_rung_lanes(queue, [lane]):
                return None
            return await tx.ledger.take_lane(queue, lane, lease=self._settings.lease)

        return await self._store.transact(work, self._pool)

    async def release(self, claim: int) -> None:
        """Make the lane of a claim idle."""
        await self._store.transact(lambda tx: tx.ledger.release(claim), self._pool)

    async def begin(self, queue: Queue, lane: str, claim: int, *, most: int = 1) -> Sequence[QueueJob]:
        """Count that attempts begin: of one queue job that once began without an end, or of several that never did.

        Raises:
            FencedError: a newer owner has the lane.
        """
        return await self._store.transact(lambda tx: self._begin(tx, queue, lane, claim, most), self._pool)

    @asynccontextmanager
    async def ending(self, queue_jobs: Sequence[QueueJob]) -> AsyncIterator[None]:
        """Take back that attempts began when they have ended, if not well: only what never ends counts as poison."""
        try:
            yield
        except (ConflictError, DatabaseUnavailableError, FencedError):
            ids = [queue_job.id for queue_job in queue_jobs]
            with suppress(KongflowError):
                await self._store.transact(lambda tx: tx.ledger.end_alone(ids), self._pool)
            raise

    async def _begin(self, tx: Transaction, queue: Queue, lane: str, claim: int, most: int) -> Sequence[QueueJob]:
        require_held(await tx.ledger.lock_claim(claim))
        while pulled := await tx.ledger.pull(queue, [lane], limit=most):
            first = pulled[0]
            if first.unended < self._settings.max_unended_attempts:
                innocent = list(takewhile(lambda queue_job: not queue_job.unended, pulled))
                await tx.ledger.begin_alone([queue_job.id for queue_job in innocent or [first]])
                return innocent or [first]
            message = f"{first.unended} attempts began and never ended."
            _log.error("queue_job_poisoned", queue_job_id=str(first.id), kind=first.kind)
            poisoned = Failure(first.id, first.kind, AttemptReason.POISONED, message, retry_in=None)
            await self._endings.close(tx, [], [poisoned], isolating=True)
        return ()
