"""How many queue jobs that do nothing go through the pair and through other queues, in the same run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.sides.side import Side


@dataclass(frozen=True, slots=True)
class Case:
    """Jobs spread over this many lanes; `least` is by how much the pair must be faster than a side, by its name."""

    key: str
    lanes: int
    least_both: Mapping[str, float]
    least_drain: Mapping[str, float]

    @property
    def title(self) -> str:
        """Return the case in words."""
        return f"{self.lanes:,} lanes" if self.lanes > 1 else "one lane"


PAIR: Final = "pair"
CASES: Final = (
    Case("a", 100, {"pgqueuer": 1, "arq, poll 10 ms": 4, "procrastinate": 20}, {"River, tuned": 1}),
    Case("b", 1, {"pgqueuer": 1, "arq, poll 10 ms": 4, "procrastinate": 20}, {}),
    Case("c", 10_000, {"pgqueuer": 1, "arq, poll 10 ms": 3, "procrastinate": 20}, {}),
)
_COLUMNS: Final = ("jobs", "enqueue /s", "drain /s", "both /s", "drain ratio", "both ratio")


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs per second: enqueued while the workers stand still, drained after that, and both at once."""

    enqueue: float
    drain: float
    both: float


async def measure_side(side: Side, case: Case, *, jobs: int) -> Rates:
    """Measure one side, which has started, in one case."""
    await side.forget()
    with side.paused():
        enqueued = await side.caller.enqueue(jobs, lanes=case.lanes)
        begun = side.clock()
    drained = await side.done()
    together = await side.caller.enqueue(jobs, lanes=case.lanes)
    done = await side.done()
    return Rates(
        enqueue=jobs / (enqueued.ended - enqueued.started),
        drain=jobs / (drained - begun),
        both=jobs / (done - together.started),
    )


async def measure_throughput(
    sides: Sequence[Side], *, most_jobs: int, rounds: int, progress: Callable[[str], None], notes: Sequence[str]
) -> Sequence[Table]:
    """Give each side its turn in every round and return a table of medians for each case.

    A side gets `most_jobs`, or fewer when it is slow. Ratios compare what was measured in the same round.
    """
    rates: dict[tuple[str, str], list[Rates]] = defaultdict(list)
    for number in range(rounds):
        for side in sides:
            progress(f"throughput, round {number + 1} of {rounds}: {side.name}")
            await side.start()
            try:
                for case in CASES:
                    measured = await measure_side(side, case, jobs=min(most_jobs, side.most_jobs))
                    rates[case.key, side.name].append(measured)
            finally:
                await side.stop()
    return [
        Table(
            f"throughput-{case.key}",
            f"Throughput ({case.key}): {case.title}",
            _COLUMNS,
            [_row(side, case, rates, most_jobs) for side in sides],
            notes if case is CASES[-1] else (),
        )
        for case in CASES
    ]


def _row(side: Side, case: Case, rates: Mapping[tuple[str, str], Sequence[Rates]], most_jobs: int) -> Row:
    own = rates[case.key, side.name]
    values: dict[str, float] = {
        "jobs": min(most_jobs, side.most_jobs),
        "enqueue /s": round(statistics.median(one.enqueue for one in own)),
        "drain /s": round(statistics.median(one.drain for one in own)),
        "both /s": round(statistics.median(one.both for one in own)),
    }
    least: dict[str, float] = {}
    if side.name != PAIR:
        together = list(zip(rates[case.key, PAIR], own, strict=True))
        values["drain ratio"] = statistics.median(pair.drain / rival.drain for pair, rival in together)
        values["both ratio"] = statistics.median(pair.both / rival.both for pair, rival in together)
        least = {
            column: promised[side.name]
            for column, promised in (("drain ratio", case.least_drain), ("both ratio", case.least_both))
            if side.name in promised
        }
    return Row(side.name, values, least=least)
