"""The queue job that does nothing, as the ledger's callers write it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.queue_job import NewQueueJob, Priority, Queue

NOOP: Final = "noop"
ENVIRONMENT: Final = UUID("01890000-0000-7000-8000-00000000be4c")


def noop_queue_job(lane: str, number: int) -> NewQueueJob:
    """Return a queue job of the benchmarks' own kind."""
    return NewQueueJob(
        id=new_uuid7(),
        environment_id=ENVIRONMENT,
        kind=NOOP,
        args={"number": number},
        queue=Queue.DEFAULT,
        lane=lane,
        priority=Priority.NORMAL,
        max_attempts=3,
    )
