"""What the steps of an attempt hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from services.endpoints.domain.ports.ledger import FinalQueueJob
from services.endpoints.domain.queue_job import QueueJobState

if TYPE_CHECKING:
    from services.endpoints.domain.ports.ledger import Failure
    from services.endpoints.domain.queue_job import QueueJob


class Way(Enum):
    """How lanes are run: all effects together, each failure isolated, or a suspect lane by itself."""

    TOGETHER = "together"
    ISOLATING = "isolating"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Call:
    """A call in flight."""

    queue_job: QueueJob
    claim: int
    begun: Any


class BeginFailedError(Exception):
    """A call could not even be prepared."""

    def __init__(self, queue_job: QueueJob, failure: Failure) -> None:
        """Say what is to be stored."""
        super().__init__()
        self.queue_job = queue_job
        self.failure = failure


class FencedError(Exception):
    """A newer owner has the lane: nothing of this attempt may be written."""


def require_held(held: bool) -> None:  # noqa: FBT001 - the answer of the statement before
    """Go on only while this server's claim holds.

    Raises:
        FencedError: a newer owner has the lane.
    """
    if not held:
        raise FencedError


def completed_queue_job(queue_job: QueueJob) -> FinalQueueJob:
    """Return what becomes of a queue job that is done."""
    return FinalQueueJob(
        queue_job.id, queue_job.kind, queue_job.args, queue_job.environment_id, QueueJobState.COMPLETED
    )
