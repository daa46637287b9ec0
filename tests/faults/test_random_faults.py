"""No work is lost and none is done twice, whatever happens to whom, in an order drawn by a seed.

`KONGFLOW_FAULTS_SEED` repeats a run. Size and number of the lanes stand here and nowhere else.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fault_rounds import RECOVERY_LIMIT, LaneSize, run_lane
from tests.support.fault_schedule import KINDS, schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fault_rounds import LaneCounts

pytestmark = pytest.mark.bounded

# Each lane has PostgreSQL, Redis, two servers and two workers of its own; together they do what is promised.
LANES = 2
FAULTS = 200
QUEUE_JOBS = 100_000
WHOLE = LaneSize(
    rounds=20,
    faults_per_round=7,
    large_endpoints=6,
    jobs=300,
    small_endpoints=8,
    requests_per_endpoint=3,
    events=200,
)
BOUNDED = LaneSize(
    rounds=1,
    faults_per_round=9,
    large_endpoints=3,
    jobs=200,
    small_endpoints=4,
    requests_per_endpoint=3,
    events=100,
)


def seed_of(lane: int) -> int:
    """Return the seed that was asked for, or a new one; each lane has its own."""
    return int(os.environ.get("KONGFLOW_FAULTS_SEED") or random.SystemRandom().randrange(1_000_000)) + lane


def assert_nothing_is_lost_or_doubled(counts: LaneCounts) -> None:
    print(counts.text())
    assert counts.wrong == [], counts.text()
    assert (counts.lost, counts.doubled_effects) == (0, 0)
    assert counts.worst_recovery_seconds <= RECOVERY_LIMIT.total_seconds()


async def test_a_few_random_faults_lose_and_double_nothing(directory: Path) -> None:
    counts = await run_lane(seed_of(0), BOUNDED, directory)
    assert_nothing_is_lost_or_doubled(counts)
    assert counts.faults == BOUNDED.faults_per_round


@pytest.mark.whole
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("lane", range(LANES))
async def test_random_faults_lose_and_double_nothing(
    lane: int, directory: Path, record_property: Callable[[str, Any], None]
) -> None:
    counts = await run_lane(seed_of(lane), WHOLE, directory)
    record_property("faults", counts.as_dict())
    assert_nothing_is_lost_or_doubled(counts)
    assert counts.faults * LANES >= FAULTS
    assert counts.queue_jobs * LANES >= QUEUE_JOBS


def test_a_seed_repeats_its_schedule() -> None:
    assert schedule(7, rounds=3, faults_per_round=5) == schedule(7, rounds=3, faults_per_round=5)
    assert schedule(7, rounds=3, faults_per_round=5) != schedule(8, rounds=3, faults_per_round=5)


def test_a_whole_lane_meets_every_kind_of_fault() -> None:
    drawn = schedule(7, rounds=WHOLE.rounds, faults_per_round=WHOLE.faults_per_round)
    assert {fault.kind for faults in drawn for fault in faults} == set(KINDS)
