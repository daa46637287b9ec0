"""The queues in numbers: what is counted, how far, and what follows from the counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.queue_job import Queue, QueueJobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

# Of one state at most so many queue jobs are read, so that the numbers cost the same however long the ledger is.
MAX_COUNTED: Final = 10_000
MAX_COMPLETED_COUNTED: Final = 2_000
RATE_WINDOW: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class QueuePause:
    """A queue, or one lane of it, that nothing is taken from; `lane` None is the whole queue.

    `paused_by` is the name of the principal, empty for those who need not know; `reason` may be empty.
    """

    queue: Queue
    lane: str | None
    created_at: datetime
    paused_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took, by how many took no longer; `measured` is at least 1."""

    p50: timedelta
    p95: timedelta
    p99: timedelta
    measured: int


@dataclass(frozen=True, slots=True)
class StateSample:
    """What was read of one state in one queue; `is_capped` when no more of the state was read.

    So many of them became final `per_second`, over `RATE_WINDOW`; where not all of it was counted, over the time that
    was: 600 in a whole minute are 10, the last 500 of which the first became final 4 seconds ago are 125.
    """

    queue: Queue
    state: QueueJobState
    count: int
    is_capped: bool = False
    oldest_seconds: float | None = None
    unknown_kinds: int = 0
    per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue at a glance; ages in seconds by the database's clock.

    Of the states in `capped` no more queue jobs were counted, so there may be more.
    """

    queue: Queue
    counts: Mapping[QueueJobState, int]
    oldest_available_seconds: float
    open_lanes: int
    unknown_kinds: int
    capped: frozenset[QueueJobState] = frozenset()
    completed_per_second: float = 0.0
    discarded_per_second: float = 0.0
    pickup: Latency | None = None
    pauses: tuple[QueuePause, ...] = field(default=())


def queue_stats(
    samples: Sequence[StateSample],
    *,
    latencies: Mapping[Queue, Latency],
    open_lanes: Mapping[Queue, int],
    pauses: Sequence[QueuePause],
) -> list[QueueStats]:
    """Return every queue's numbers, empty queues included."""
    stats = []
    for queue in Queue:
        own = [sample for sample in samples if sample.queue is queue]
        stats.append(
            QueueStats(
                queue=queue,
                counts={sample.state: sample.count for sample in own if sample.count},
                oldest_available_seconds=max((sample.oldest_seconds or 0.0 for sample in own), default=0.0),
                open_lanes=open_lanes.get(queue, 0),
                unknown_kinds=sum(sample.unknown_kinds for sample in own),
                capped=frozenset(sample.state for sample in own if sample.is_capped),
                completed_per_second=sum(each.per_second for each in own if each.state is QueueJobState.COMPLETED),
                discarded_per_second=sum(each.per_second for each in own if each.state is QueueJobState.DISCARDED),
                pickup=latencies.get(queue),
                pauses=tuple(pause for pause in pauses if pause.queue is queue),
            )
        )
    return stats
