"""How many queue jobs go into one transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.endpoints.domain.pace import Pace
from services.endpoints.domain.queue_job import Queue

AIM = timedelta(milliseconds=75)


def test_first_batch_takes_as_many_as_one_call_may() -> None:
    assert Pace(50, 200, AIM).size(Queue.DEFAULT) == 200


def test_it_is_slow_while_batches_of_any_queue_are_cut() -> None:
    pace = Pace(50, 200, AIM)
    assert not pace.is_slow
    pace.learn(Queue.EVENTS, queue_jobs=200, took=2 * AIM)
    pace.learn(Queue.DEFAULT, queue_jobs=200, took=AIM)
    assert pace.is_slow
    for _ in range(3):
        pace.learn(Queue.EVENTS, queue_jobs=pace.size(Queue.EVENTS), took=timedelta(milliseconds=1))
    assert not pace.is_slow


def test_batches_shrink_until_they_take_as_long_as_they_should() -> None:
    pace, each = Pace(50, 200, AIM), timedelta(milliseconds=0.75)
    sizes = []
    for _ in range(8):
        pace.learn(Queue.DEFAULT, queue_jobs=pace.size(Queue.DEFAULT), took=each * pace.size(Queue.DEFAULT))
        sizes.append(pace.size(Queue.DEFAULT))
    assert sizes[:2] == [150, 125]
    assert sizes[-1] == pytest.approx(100, abs=2)


def test_batches_grow_again_when_work_is_light() -> None:
    pace = Pace(50, 200, AIM)
    for took in (10.0, 0.001, 0.001, 0.001):
        pace.learn(Queue.DEFAULT, queue_jobs=pace.size(Queue.DEFAULT), took=timedelta(seconds=took))
    assert pace.size(Queue.DEFAULT) == 200


def test_slow_batches_leave_a_turn_for_every_lane_of_a_message() -> None:
    pace = Pace(50, 200, AIM)
    for _ in range(10):
        pace.learn(Queue.DEFAULT, queue_jobs=pace.size(Queue.DEFAULT), took=timedelta(minutes=1))
    assert pace.size(Queue.DEFAULT) == 50


def test_small_batches_and_other_queues_say_nothing() -> None:
    pace = Pace(50, 200, AIM)
    pace.learn(Queue.DEFAULT, queue_jobs=1, took=timedelta(seconds=1))
    pace.learn(Queue.EVENTS, queue_jobs=200, took=timedelta(seconds=1))
    assert pace.size(Queue.DEFAULT) == 200
