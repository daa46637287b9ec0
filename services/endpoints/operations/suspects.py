"""Suspect lanes: something in them may kill the process that runs it.

Such a lane is held by a claim, and what begins in it is counted by a commit of its own before anything is done.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final

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

_LEASES_TO_TAKE_BACK: Final = 3
_TAKE_BACK_AGAIN_AFTER: Final = timedelta(milliseconds=500)


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
        return await self._store.transact(
            lambda tx: tx.ledger.take_lane(queue, lane, lease=self._settings.lease), self._pool
        )

    async def release(self, claim: int) -> None:
        """Make the lane of a claim idle."""
        await self._store.transact(lambda tx: tx.ledger.release(claim), self._pool)

    @asynccontextmanager
    async def attempting(
        self, queue: Queue, lane: str, claim: int, *, most: int = 1
    ) -> AsyncIterator[Sequence[QueueJob]]:
        """Count that attempts begin: of one queue job that once began without an end, or of several that never did.

        Where the block ends, the attempts have ended, too. If not well, or because this server stops, that they began
        is taken back: only what ended with its process counts as poison.

        Raises:
            FencedError: a newer owner has the lane.
        """
        begun: Sequence[QueueJob] = ()

        async def begin(tx: Transaction) -> None:
            nonlocal begun
            begun = ()
            begun = await self._begin(tx, queue, lane, claim, most)

        try:
            await self._store.transact(begin, self._pool)
            yield begun
        except (ConflictError, DatabaseUnavailableError, FencedError):
            await self._take_back(begun, patience=self._settings.lease * _LEASES_TO_TAKE_BACK)
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Who cancels does so again before long; what has begun by then goes on until the store closes.
                await asyncio.shield(asyncio.create_task(self._take_back(begun, patience=timedelta())))
            raise

    async def _take_back(self, begun: Sequence[QueueJob], *, patience: timedelta) -> None:
        """Take back that attempts began, if that was committed; ask a database that is away for `patience`."""
        give_up = time.monotonic() + patience.total_seconds()
        ids = [queue_job.id for queue_job in begun]
        while ids:
            try:
                await self._store.transact(lambda tx: tx.ledger.end_alone(ids, before=begun[0].unended), self._pool)
            except KongflowError as error:
                if time.monotonic() >= give_up:
                    _log.warning("attempts_not_taken_back", queue_jobs=len(ids), reason=error.reason.value)
                    return
                _log.info("attempts_taken_back_later", queue_jobs=len(ids), reason=error.reason.value)
            else:
                return
            await asyncio.sleep(_TAKE_BACK_AGAIN_AFTER.total_seconds())

    async def _begin(self, tx: Transaction, queue: Queue, lane: str, claim: int, most: int) -> Sequence[QueueJob]:
        require_held(await tx.ledger.lock_claim(claim))
        while pulled := (await tx.ledger.pull(queue, [lane], limit=most, claim=claim)).queue_jobs:
            first = pulled[0]
            if first.unended < self._settings.max_unended_attempts:
                innocent = list(takewhile(lambda queue_job: not queue_job.unended, pulled))
                await tx.ledger.begin_alone([queue_job.id for queue_job in innocent or [first]])
                return innocent or [first]
            message = f"{first.unended} attempts began and never ended."
            tx.after_commit(partial(_log.error, "queue_job_poisoned", queue_job_id=str(first.id), kind=first.kind))
            poisoned = Failure(first.id, first.kind, AttemptReason.POISONED, message, retry_in=None)
            await self._endings.close(tx, [], [poisoned], isolating=True)
        return ()
