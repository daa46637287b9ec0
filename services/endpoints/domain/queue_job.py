"""A queue job: one unit of KongFlow's own asynchronous work, and the words of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any
    from uuid import UUID


class Queue(Enum):
    """Which workers take a queue job; a lane belongs to one queue."""

    DEFAULT = "default"
    EXECUTION = "execution"
    EVENTS = "events"
    MAINTENANCE = "maintenance"


class Priority(IntEnum):
    """Which queue job of a lane goes first; a smaller number goes first."""

    HIGH = 1
    NORMAL = 2
    LOW = 3
    VERY_LOW = 4


class QueueJobState(Enum):
    """Where a queue job stands; `transitions.py` is the only place that names a next state."""

    SCHEDULED = "SCHEDULED"
    AVAILABLE = "AVAILABLE"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    DISCARDED = "DISCARDED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more happens without an operator."""
        return self in {QueueJobState.COMPLETED, QueueJobState.DISCARDED, QueueJobState.CANCELLED}


class NewQueueJob(NamedTuple):
    """What an enqueue writes; `run_at` None means now, by the database's clock."""

    id: UUID
    environment_id: UUID
    kind: str
    args: Mapping[str, Any]
    queue: Queue
    lane: str
    priority: Priority
    max_attempts: int
    run_at: datetime | None = None
    trace_context: str | None = None


class QueueJob(NamedTuple):
    """One queue job as a handler sees it; `attempt` counts from 1 while it runs.

    `unended` counts the attempts of a suspect lane that began and never ended: the processes that died of it, maybe.
    """

    id: UUID
    environment_id: UUID
    kind: str
    args: Mapping[str, Any]
    queue: Queue
    lane: str
    priority: Priority
    attempt: int
    max_attempts: int
    unended: int
    trace_context: str | None = None


@dataclass(frozen=True, slots=True)
class QueueJobError:
    """One failed attempt: when, why by name, and in words."""

    time: datetime
    attempt: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class QueueJobRecord:
    """One row of `queue_jobs`, as operators read it; `args_json` is None in lists."""

    id: UUID
    environment_id: UUID
    kind: str
    args_json: str | None
    queue: Queue
    lane: str
    priority: Priority
    state: QueueJobState
    run_at: datetime
    attempt: int
    max_attempts: int
    rescues: int
    errors: tuple[QueueJobError, ...]
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finalized_at: datetime | None
