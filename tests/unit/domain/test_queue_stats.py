"""What follows from what was counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.domain.queue_stats import Latency, QueuePause, StateSample, queue_stats

S = QueueJobState


def sample(queue: Queue, state: QueueJobState, count: int, **fields: object) -> StateSample:
    return StateSample(queue, state, count, **fields)  # type: ignore[arg-type]


def test_every_queue_has_its_own_numbers_and_empty_ones_are_there() -> None:
    latency = Latency(timedelta(milliseconds=2), timedelta(milliseconds=5), timedelta(milliseconds=9), measured=7)
    pause = QueuePause(Queue.EVENTS, None, datetime(2026, 1, 1, tzinfo=UTC))
    stats = {
        each.queue: each
        for each in queue_stats(
            [
                sample(Queue.DEFAULT, S.AVAILABLE, 3, oldest_seconds=4.5, unknown_kinds=1),
                sample(Queue.DEFAULT, S.SCHEDULED, 2, unknown_kinds=2),
                sample(Queue.EXECUTION, S.DISCARDED, 5, is_capped=True),
                sample(Queue.DEFAULT, S.DISCARDED, 1, per_second=0.5),
                sample(Queue.DEFAULT, S.COMPLETED, 600, per_second=10.0),
            ],
            latencies={Queue.DEFAULT: latency},
            open_lanes={Queue.EXECUTION: 6},
            pauses=[pause],
        )
    }
    assert list(stats) == list(Queue)
    default = stats[Queue.DEFAULT]
    assert default.counts == {S.AVAILABLE: 3, S.SCHEDULED: 2, S.DISCARDED: 1, S.COMPLETED: 600}
    assert (default.oldest_available_seconds, default.unknown_kinds, default.pickup) == (4.5, 3, latency)
    assert (default.completed_per_second, default.discarded_per_second) == (10.0, 0.5)
    assert stats[Queue.EXECUTION].capped == {S.DISCARDED}
    assert stats[Queue.EXECUTION].discarded_per_second == 0.0
    assert not default.capped
    assert stats[Queue.EXECUTION].open_lanes == 6
    assert stats[Queue.EVENTS].pauses == (pause,)
    assert not stats[Queue.MAINTENANCE].counts
