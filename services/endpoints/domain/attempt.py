"""How one attempt of a queue job ends, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.errors import DatabaseDefectError, ServerOverloadedError
from services.endpoints.domain.ports.ledger import Failure

if TYPE_CHECKING:
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.domain.retry import Backoff

MAX_MESSAGE_LENGTH: Final = 2_000


class AttemptFailedError(Exception):
    """An attempt failed for a reason its handler can name.

    `is_retryable` False means that repeating cannot help. `retry_after` is the least delay the other side asked for.
    """

    def __init__(
        self, message: str, *, reason: str, is_retryable: bool = True, retry_after: timedelta | None = None
    ) -> None:
        """Hold the sentence that is stored and the data that decides."""
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.is_retryable = is_retryable
        self.retry_after = retry_after


class SnoozedError(Exception):
    """An attempt cannot be made now and is made after `delay`, as if it had not begun; `reason` is stored."""

    def __init__(self, message: str, *, reason: str, delay: timedelta) -> None:
        """Hold the sentence that is stored and the data that decides."""
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.delay = delay


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides what follows a failed attempt."""

    backoff: Backoff

    def after(self, queue_job: QueueJob, error: Exception, *, jitter: float) -> Failure:
        """Return the failure to store: repeated with a delay, or discarded; snoozed, it counts no attempt.

        `queue_job.attempt` is the attempt that failed, counted from 1. An error that no handler named is a defect of
        ours or of the data; it is repeated like any other and stored by its type's name only, since its text may hold
        a payload. What this server had no room for is no attempt at all.
        """
        if isinstance(error, ServerOverloadedError):
            error = SnoozedError(error.message, reason=AttemptReason.SERVER_OVERLOADED, delay=self.backoff.base)
        if isinstance(error, SnoozedError):
            message = error.message[:MAX_MESSAGE_LENGTH]
            return Failure(
                queue_job.id, queue_job.kind, error.reason, message, retry_in=error.delay, counts_attempt=False
            )
        known = error if isinstance(error, AttemptFailedError) else None
        name = error.name if isinstance(error, DatabaseDefectError) else type(error).__name__
        is_last = queue_job.attempt >= queue_job.max_attempts or (known is not None and not known.is_retryable)
        delay = max(
            self.backoff.delay(attempt=queue_job.attempt, jitter=jitter),
            (known.retry_after if known else None) or timedelta(),
        )
        return Failure(
            queue_job_id=queue_job.id,
            kind=queue_job.kind,
            reason=known.reason if known else AttemptReason.INTERNAL,
            message=(known.message if known else f"The handler failed with {name}.")[:MAX_MESSAGE_LENGTH],
            retry_in=None if is_last else delay,
        )


def unknown_kind(queue_job: QueueJob, *, delay: timedelta) -> Failure:
    """Return the failure of a kind this version does not know: it waits for a version that does, no attempt counted."""
    return Failure(
        queue_job_id=queue_job.id,
        kind=queue_job.kind,
        reason=AttemptReason.UNKNOWN_KIND,
        message=f"No server of this version knows the kind {queue_job.kind!r}.",
        retry_in=delay,
        counts_attempt=False,
    )
