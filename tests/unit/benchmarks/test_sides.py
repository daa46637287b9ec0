from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks.growth import Variants
from benchmarks.idle import SHARE, Idle
from benchmarks.pickup_rates import PickupRates
from benchmarks.sides.caller import Caller, Enqueued
from benchmarks.sides.commands import UNNUMBERED, Starts, batches, lane_of_each
from benchmarks.sides.place import database_name
from benchmarks.sides.side import Side
from benchmarks.throughput import BOTH, BOTH_RATIO, DRAIN, DRAIN_RATIO, ENQUEUE, Throughput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from services.embedded.process import ServerProcess


class ScriptedCaller:
    """Takes `enqueue_seconds` for every bulk, and answers a commit at each whole second."""

    def __init__(self, side: ScriptedSide) -> None:
        self._side = side

    async def enqueue(self, jobs: int, *, lanes: int) -> Enqueued:
        self._side.events.append(("enqueue", jobs, lanes, self._side.is_paused))
        started = self._side.now
        self._side.now += self._side.enqueue_seconds
        return Enqueued(started, self._side.now)

    async def enqueue_paced(self, pickups: int, *, per_second: float) -> Sequence[float]:
        self._side.events.append(("paced", pickups, per_second))
        return [float(number) for number in range(pickups)]


class ScriptedSide(Side):
    """A side of which every step takes as long as it is told to."""

    def __init__(
        self, name: str, *, enqueue_seconds: float = 1.0, drain_seconds: float = 1.0, most_jobs: int = 10**6
    ) -> None:
        super().__init__()
        self.name = name
        self.most_jobs = most_jobs
        self.enqueue_seconds = enqueue_seconds
        self.drain_seconds = drain_seconds
        self.now = 0.0
        self.is_paused = False
        self.events: list[tuple[object, ...]] = []
        self.starts_of_numbers: dict[int, float] = {}
        self.caller = cast("Caller", ScriptedCaller(self))

    async def prepare(self) -> None:
        raise NotImplementedError

    async def start_workers(self) -> Sequence[ServerProcess]:
        return []

    async def is_done(self) -> bool:
        return True

    async def forget(self) -> None:
        self.events.append(("forget",))

    async def settle(self) -> None:
        raise NotImplementedError

    async def done(self) -> float:
        self.now += self.drain_seconds
        return self.now

    def clock(self) -> float:
        return self.now

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.is_paused = True
        yield
        self.is_paused = False

    def started_at(self) -> dict[int, float]:
        started, self.starts_of_numbers = self.starts_of_numbers, {}
        return started

    def processor_seconds(self) -> float:
        self.now += 10.0
        return self.now / 40


async def test_rates_are_taken_of_the_same_jobs_held_back_and_let_go() -> None:
    side = ScriptedSide("pair", enqueue_seconds=2.0, drain_seconds=3.0)
    throughput = Throughput(most_jobs=600)
    await throughput.take(side)
    (row,) = throughput.tables()[0].rows
    # Drained: 3 s. Both at once: 2 s until all is enqueued and 3 s until all is done.
    assert (row.values[ENQUEUE], row.values[DRAIN], row.values[BOTH]) == (300, 200, 120)
    assert side.events[:3] == [("forget",), ("enqueue", 600, 100, True), ("enqueue", 600, 100, False)]
    assert [event[2] for event in side.events if event[0] == "enqueue"] == [100, 100, 1, 1, 10_000, 10_000]


async def test_ratio_compares_what_was_measured_in_the_same_round() -> None:
    throughput = Throughput(most_jobs=100)
    for pair_seconds, rival_seconds in ((1.0, 2.0), (8.0, 8.0), (1.0, 9.0)):
        await throughput.take(ScriptedSide("pair", drain_seconds=pair_seconds))
        await throughput.take(ScriptedSide("pgqueuer", drain_seconds=rival_seconds))
    rival = throughput.tables()[0].rows[1]
    # Of the ratios 2, 1 and 9, and not of the medians 1 and 8.
    assert rival.values[DRAIN_RATIO] == 2
    assert rival.values[BOTH_RATIO] == pytest.approx(1.5)
    assert rival.least == {BOTH_RATIO: 1}


async def test_side_that_the_pair_must_beat_by_more_is_missed() -> None:
    throughput = Throughput(most_jobs=100)
    await throughput.take(ScriptedSide("pair"))
    await throughput.take(ScriptedSide("arq, poll 10 ms", enqueue_seconds=3.5, drain_seconds=3.5))
    tables = {table.key: table.rows[1] for table in throughput.tables()}
    assert tables["throughput-a"].missed == [BOTH_RATIO]
    assert tables["throughput-c"].missed == []
    assert tables["throughput-a"].promise(BOTH_RATIO) == "≥ 4"


async def test_slow_side_is_given_fewer_jobs() -> None:
    side = ScriptedSide("procrastinate", most_jobs=10)
    throughput = Throughput(most_jobs=100)
    await throughput.take(ScriptedSide("pair"))
    await throughput.take(side)
    assert {event[1] for event in side.events if event[0] == "enqueue"} == {10}
    assert throughput.tables()[0].rows[1].values["jobs"] == 10


async def test_pickup_lasts_from_the_answered_commit_to_the_start() -> None:
    side = ScriptedSide("pair")
    measurement = PickupRates(pickups=3)

    async def forget() -> None:
        side.starts_of_numbers = {}

    side.forget = forget  # type: ignore[method-assign] # what an earlier measurement left
    done = side.done

    async def done_with_starts() -> float:
        # The second began before its caller had read the answer.
        side.starts_of_numbers = {0: 0.004, 1: 0.999, 2: 2.030}
        return await done()

    side.done = done_with_starts  # type: ignore[method-assign] # the jobs begin now
    await measurement.take(side)
    (row,) = measurement.tables()[0].rows
    assert row.values["p50 ms"] == pytest.approx(4)
    assert row.values["p99 ms"] == pytest.approx(30)
    assert row.missed == ["p99 ms"]
    assert ("paced", 3, 50) in side.events


async def test_idle_cost_is_the_share_of_a_core() -> None:
    measurement = Idle(watched=timedelta())
    for name in ("pair", "arq, poll 10 ms"):
        await measurement.take(ScriptedSide(name))
    pair, rival = measurement.tables()[0].rows
    # A quarter of a second of processor time in ten seconds.
    assert pair.values[SHARE] == pytest.approx(2.5)
    assert pair.missed == [SHARE]
    assert rival.missed == []


def test_jobs_take_the_lanes_in_turn_and_travel_in_bulks() -> None:
    lanes = lane_of_each(5, 2)
    assert lanes == ["lane-00000", "lane-00001", "lane-00000", "lane-00001", "lane-00000"]
    assert [len(batch) for batch in batches(lanes, 2)] == [2, 2, 1]


def test_only_numbered_jobs_leave_a_start_and_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    starts = Starts(str(path))
    for number in (7, UNNUMBERED, 8, 7):
        starts.note(number)
    side = ScriptedSide("pair")
    side.starts = path
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [int(number) for number, _ in lines] == [7, 8, 7]
    assert Side.started_at(side) == {7: float(lines[0][1]), 8: float(lines[1][1])}
    assert Side.started_at(side) == {}


def test_side_is_named_as_postgresql_can_take_it() -> None:
    assert database_name("River, tuned") == "river__tuned"


async def test_variants_of_the_pair_are_compared_with_it() -> None:
    assert await Variants(ScriptedSide("pair"), jobs=1).measure(rounds=1, progress=lambda _: None) == []
