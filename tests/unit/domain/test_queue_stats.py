"""What follows from what was counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.domain.queue_stats import Latency, QueuePause, StateSample, queue_stats, rate

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
                sample(Queue.DEFAULT, S.DISCARDED, 1),
            ],
            latencies={Queue.DEFAULT: latency},
            open_lanes={Queue.EXECUTION: 6},
            pauses=[pause],
        )
    }
    assert list(stats) == list(Queue)
    default = stats[Queue.DEFAULT]
    assert default.counts == {S.AVAILABLE: 3, S.SCHEDULED: 2, S.DISCARDED: 1}
    assert (default.oldest_available_seconds, default.unknown_kinds, default.pickup) == (4.5, 3, latency)
    assert stats[Queue.EXECUTION].capped == {S.DISCARDED}
    assert not default.capped
    assert stats[Queue.EXECUTION].open_lanes == 6
    assert stats[Queue.EVENTS].pauses == (pause,)
    assert not stats[Queue.MAINTENANCE].counts


@pytest.mark.parametrize(
    ("samples", "per_second"),
    [
        ([], 0.0),
        ([sample(Queue.DEFAULT, S.COMPLETED, 900, finished=600, finished_within_seconds=59.0)], 10.0),
        # All that was counted is of the last minute: it tells about the time that it took.
        (
            [
                sample(Queue.DEFAULT, S.COMPLETED, 500, is_capped=True, finished=500, finished_within_seconds=3.0),
                sample(Queue.EXECUTION, S.COMPLETED, 1500, finished=1500, finished_within_seconds=4.0),
            ],
            125.0,
        ),
        # Some of it is older: the whole minute was counted.
        (
            [
                sample(Queue.DEFAULT, S.COMPLETED, 500, is_capped=True, finished=60, finished_within_seconds=50.0),
                sample(Queue.EXECUTION, S.COMPLETED, 1500, finished=1500, finished_within_seconds=4.0),
            ],
            1.0,
        ),
        ([sample(Queue.DEFAULT, S.COMPLETED, 5, is_capped=True, finished=5, finished_within_seconds=0.0)], 5000.0),
    ],
)
def test_rate_is_over_the_last_minute_or_over_what_was_counted_of_it(
    samples: list[StateSample], per_second: float
) -> None:
    assert rate(samples, Queue.DEFAULT, S.COMPLETED) == per_second
