"""How many queue jobs that do nothing go through the pair and through other queues, in the same run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.sides.side import Side


@dataclass(frozen=True, slots=True)
class Case:
    """Jobs spread over this many lanes; how many times as fast as a side, by its name, the pair must at least be."""

    key: str
    lanes: int
    least_drain: Mapping[str, float] = field(default_factory=dict)
    least_both: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the case in words."""
        return f"({self.key}) {self.lanes:,} lanes" if self.lanes > 1 else f"({self.key}) one lane"


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs per second: enqueued while the workers stand still, drained after that, and both at once."""

    enqueue: float
    drain: float
    both: float


PAIR: Final = "pair"
CASES: Final = (
    Case("a", 100, {"River, tuned": 1}, {"pgqueuer": 1, "arq, poll 10 ms": 4, "procrastinate": 20}),
    Case("b", 1, {}, {"pgqueuer": 1, "arq, poll 10 ms": 4, "procrastinate": 20}),
    Case("c", 10_000, {}, {"pgqueuer": 1, "arq, poll 10 ms": 3, "procrastinate": 20}),
)
ENQUEUE, DRAIN, BOTH = "enqueue /s", "drain /s", "both /s"
DRAIN_RATIO, BOTH_RATIO = "drain ratio", "both ratio"
_COLUMNS: Final = ("jobs", ENQUEUE, DRAIN, BOTH, DRAIN_RATIO, BOTH_RATIO)
_NOTES: Final = (
    "Jobs that do nothing. enqueue: while the workers are held still.",
    "drain: from letting them go to the last one done. both: the same jobs again, with the workers at work meanwhile.",
    "ratio: how many times as fast as this side the pair was in the same round. Medians of the rounds.",
    "Only the pair keeps the jobs of a lane in turn: the others may run all at once.",
)


def enqueued(rates: Rates) -> float:
    """Return how fast jobs were enqueued."""
    return rates.enqueue


def drained(rates: Rates) -> float:
    """Return how fast jobs were drained."""
    return rates.drain


def together(rates: Rates) -> float:
    """Return how fast jobs were enqueued and drained at once."""
    return rates.both


class Throughput:
    """Gives each side the same jobs in every case."""

    def __init__(self, *, most_jobs: int, notes: Sequence[str] = ()) -> None:
        """Enqueue `most_jobs`, or fewer where a side is slow."""
        self._most_jobs = most_jobs
        self._notes = notes
        self._sides: dict[str, int] = {}
        self._rates: dict[tuple[str, str], list[Rates]] = defaultdict(list)

    async def take(self, side: Side) -> None:
        """Measure a side, which has started, in every case."""
        jobs = min(self._most_jobs, side.most_jobs)
        self._sides[side.name] = jobs
        for case in CASES:
            self._rates[case.key, side.name].append(await _rates(side, case, jobs))

    def tables(self) -> Sequence[Table]:
        """Return a table of medians for each case, with the pair's ratios to every other side."""
        return [
            Table(
                f"throughput-{case.key}",
                f"Throughput {case.title}",
                _COLUMNS,
                [self._row(name, case) for name in self._sides],
                (*_NOTES, *self._notes) if case is CASES[-1] else (),
            )
            for case in CASES
        ]

    def median(self, case: Case, side: str, what: Callable[[Rates], float]) -> float:
        """Return the median of what a side did in a case, in whole jobs per second."""
        return round(statistics.median(map(what, self._rates[case.key, side])))

    def ratio(self, case: Case, side: str, to: str, what: Callable[[Rates], float]) -> float:
        """Return the median, over the rounds, of how many times as fast as `to` a side was."""
        pairs = zip(self._rates[case.key, side], self._rates[case.key, to], strict=True)
        return statistics.median(what(ours) / what(theirs) for ours, theirs in pairs)

    def _row(self, name: str, case: Case) -> Row:
        values = {
            "jobs": float(self._sides[name]),
            ENQUEUE: self.median(case, name, enqueued),
            DRAIN: self.median(case, name, drained),
            BOTH: self.median(case, name, together),
        }
        if name == PAIR:
            return Row(name, values)
        values[DRAIN_RATIO] = self.ratio(case, PAIR, name, drained)
        values[BOTH_RATIO] = self.ratio(case, PAIR, name, together)
        promised = ((DRAIN_RATIO, case.least_drain), (BOTH_RATIO, case.least_both))
        return Row(name, values, least={column: least[name] for column, least in promised if name in least})


async def _rates(side: Side, case: Case, jobs: int) -> Rates:
    await side.forget()
    with side.paused():
        first = await side.caller.enqueue(jobs, lanes=case.lanes)
    released = side.clock()
    first_done = await side.done()
    second = await side.caller.enqueue(jobs, lanes=case.lanes)
    second_done = await side.done()
    return Rates(
        enqueue=jobs / (first.ended - first.started),
        drain=jobs / (first_done - released),
        both=jobs / (second_done - second.started),
    )
