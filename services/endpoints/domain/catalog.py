"""The catalog of queue jobs: one entry per kind. A new kind is one entry here and one handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.queue_job import NewQueueJob, Priority, Queue
from services.endpoints.domain.tenancy import EnvironmentType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Kind:
    """How queue jobs of one kind are carried; `calls_out` means a customer's endpoint is called."""

    name: str
    queue: Queue
    priority: Priority
    max_attempts: int
    calls_out: bool = False
    development_max_attempts: int | None = None

    def attempts_in(self, environment_type: EnvironmentType) -> int:
        """Return how many attempts a queue job of this kind has in such an environment."""
        if environment_type is EnvironmentType.DEVELOPMENT and self.development_max_attempts is not None:
            return self.development_max_attempts
        return self.max_attempts


INDEX_ENDPOINT: Final = Kind(
    "indexEndpoint", Queue.EXECUTION, Priority.NORMAL, max_attempts=5, calls_out=True, development_max_attempts=1
)
PROBE_ENDPOINT: Final = Kind("probeEndpoint", Queue.EXECUTION, Priority.LOW, max_attempts=3, calls_out=True)
REGISTER_JOB: Final = Kind("registerJob", Queue.DEFAULT, Priority.NORMAL, max_attempts=3)
REGISTER_SOURCE: Final = Kind("registerSource", Queue.DEFAULT, Priority.NORMAL, max_attempts=3)
REGISTER_DYNAMIC_TRIGGER: Final = Kind("registerDynamicTrigger", Queue.DEFAULT, Priority.NORMAL, max_attempts=3)
REGISTER_DYNAMIC_SCHEDULE: Final = Kind("registerDynamicSchedule", Queue.DEFAULT, Priority.NORMAL, max_attempts=3)
DELIVER_EVENT: Final = Kind("deliverEvent", Queue.EVENTS, Priority.NORMAL, max_attempts=5)
INVOKE_DISPATCHER: Final = Kind("events.invokeDispatcher", Queue.EVENTS, Priority.NORMAL, max_attempts=5)
PRUNE: Final = Kind("prune", Queue.MAINTENANCE, Priority.VERY_LOW, max_attempts=3)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        INDEX_ENDPOINT,
        PROBE_ENDPOINT,
        REGISTER_JOB,
        REGISTER_SOURCE,
        REGISTER_DYNAMIC_TRIGGER,
        REGISTER_DYNAMIC_SCHEDULE,
        DELIVER_EVENT,
        INVOKE_DISPATCHER,
        PRUNE,
    )
}

CALLING_QUEUES: Final = frozenset(kind.queue for kind in KINDS.values() if kind.calls_out)


def new_queue_job(
    kind: Kind,
    args: Mapping[str, Any],
    *,
    queue_job_id: UUID,
    lane: str,
    environment_id: UUID = NIL_UUID,
    max_attempts: int | None = None,
    priority: Priority | None = None,
    run_at: datetime | None = None,
    trace_context: str | None = None,
) -> NewQueueJob:
    """Return a queue job of `kind` with the catalog's defaults.

    `run_at` None means now, and `trace_context` None the trace in which it is enqueued.
    """
    return NewQueueJob(
        id=queue_job_id,
        environment_id=environment_id,
        kind=kind.name,
        args=args,
        queue=kind.queue,
        lane=lane,
        priority=priority or kind.priority,
        max_attempts=max_attempts or kind.max_attempts,
        run_at=run_at,
        trace_context=trace_context,
    )
