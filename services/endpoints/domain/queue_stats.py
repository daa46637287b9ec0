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

_SHORTEST_SECONDS: Final = 0.001


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

    `finished` of them became final within the last minute, the first of these `finished_within_seconds` ago.
    """

    queue: Queue
    state: QueueJobState
    count: int
    is_capped: bool = False
    oldest_seconds: float | None = None
    unknown_kinds: int = 0
    finished: int = 0
    finished_within_seconds: float | None = None


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
                completed_per_second=rate(samples, queue, QueueJobState.COMPLETED),
                discarded_per_second=rate(samples, queue, QueueJobState.DISCARDED),
                pickup=latencies.get(queue),
                pauses=tuple(pause for pause in pauses if pause.queue is queue),
            )
        )
    return stats


def rate(samples: Sequence[StateSample], queue: Queue, state: QueueJobState) -> float:
    """Return how many queue jobs of `queue` reached `state` per second, over the last minute.

    Where not all of the last minute was counted, over the time that was: 600 in a whole minute are 10 per second; the
    last 2,000 of a state, the first of them 4 seconds ago and 500 of them of this queue, are 125 per second.
    """
    of_state = [sample for sample in samples if sample.state is state]
    finished = sum(sample.finished for sample in of_state if sample.queue is queue)
    seconds = RATE_WINDOW.total_seconds()
    if any(sample.is_capped for sample in of_state):
        since = [each.finished_within_seconds for each in of_state if each.finished_within_seconds is not None]
        counts_all_of_the_window = any(sample.finished < sample.count for sample in of_state)
        if since and not counts_all_of_the_window:
            seconds = max([*since, _SHORTEST_SECONDS])
    return finished / seconds
