"""Writes down how attempts ended, and what follows from it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog

from services.endpoints.domain.attempt import AttemptFailedError, RetryPolicy, SnoozedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.errors import ServerOverloadedError
from services.endpoints.domain.ports.ledger import NO_LANES
from services.endpoints.operations.attempts import completed_queue_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.errors import StatementTooSlowError
    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.ledger import Failure, Lanes
    from services.endpoints.domain.ports.observer import LedgerObserver
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.domain.retry import Backoff
    from services.endpoints.operations.finality import Finality

_log = structlog.get_logger(__name__)


class Endings:
    """Ends attempts in the transaction of their effects."""

    def __init__(self, *, finality: Finality, backoff: Backoff, observer: LedgerObserver, jitter: Jitter) -> None:
        """Hold the ports; `backoff` says when a failed attempt is repeated."""
        self._finality = finality
        self._policy = RetryPolicy(backoff)
        self._observer = observer
        self._jitter = jitter

    async def close(
        self,
        tx: Transaction,
        completed: Sequence[QueueJob],
        failures: Sequence[Failure],
        *,
        isolating: bool = False,
        closing: Lanes = NO_LANES,
    ) -> None:
        """Store attempts that ended, close lanes, and run what follows from a final state."""
        final = [completed_queue_job(queue_job) for queue_job in completed]
        if completed:
            await tx.ledger.complete(completed, closing=closing)
        elif closing.names:
            await tx.ledger.close_lanes(closing.queue, closing.names)
        if failures:
            final += await tx.ledger.fail(failures)
        tx.after_commit(lambda: self._count(completed, failures))
        await self._finality.settle(tx, final, isolating=isolating)

    def too_slow(self, queue_job: QueueJob, error: StatementTooSlowError) -> Failure:
        """Return the failure of an attempt that is by itself: nobody else's work it could be, and its lane waits."""
        _log.warning("attempt_too_slow", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)
        message = "A statement of the attempt took longer than the database lets any take."
        return self.failure(queue_job, AttemptFailedError(message, reason=AttemptReason.TOOK_TOO_LONG))

    def failure(self, queue_job: QueueJob, error: Exception) -> Failure:
        """Return what is stored of an attempt that ended with an error; what nobody named is logged."""
        if not isinstance(error, AttemptFailedError | SnoozedError | ServerOverloadedError):
            _log.error("attempt_failed", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)
        return self._policy.after(queue_job, error, jitter=self._jitter())

    def _count(self, completed: Sequence[QueueJob], failures: Sequence[Failure]) -> None:
        ended = Counter((queue_job.kind, "completed") for queue_job in completed)
        ended.update((failure.kind, "failed" if failure.counts_attempt else "snoozed") for failure in failures)
        for (kind, result), attempts in ended.items():
            self._observer.count_attempts(kind, result, attempts)
