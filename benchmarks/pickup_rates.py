"""How soon a job that was committed begins: at 50 jobs a second, on a system that does nothing else."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Latencies, Row, Table
from benchmarks.throughput import PAIR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.sides.side import Side

PER_SECOND: Final = 50
MOST: Final = {"p50 ms": 5.0, "p99 ms": 25.0}
_COLUMNS: Final = ("pickups", "p50 ms", "p95 ms", "p99 ms")


class PickupRates:
    """Enqueues one job after the other and looks when each began."""

    def __init__(self, *, pickups: int) -> None:
        """Enqueue `pickups` jobs in every round."""
        self._pickups = pickups
        self._seconds: dict[str, list[float]] = defaultdict(list)

    async def take(self, side: Side) -> None:
        """Measure a side, which has started."""
        await side.forget()
        side.started_at()
        committed = await side.caller.enqueue_paced(self._pickups, per_second=PER_SECOND)
        await side.done()
        started = side.started_at()
        # A worker may begin before the caller has read the answer to its commit.
        self._seconds[side.name] += [max(0.0, started[number] - at) for number, at in enumerate(committed)]

    def tables(self) -> Sequence[Table]:
        """Return the latencies of every side."""
        ours_first = sorted(
            self._seconds, key=lambda name: (not name.startswith(PAIR), name if name.startswith(PAIR) else "")
        )
        rows = [_row(name, self._seconds[name]) for name in ours_first]
        notes = (
            f"{PER_SECOND} single jobs a second. From the answer to the caller's commit until the handler starts.",
        )
        return [Table("pickup-rates", f"Pickup at {PER_SECOND} jobs a second", _COLUMNS, rows, notes)]


def _row(name: str, seconds: Sequence[float]) -> Row:
    latencies = Latencies(seconds)
    values: Mapping[str, float] = {
        "pickups": len(seconds),
        "p50 ms": latencies.milliseconds(0.50),
        "p95 ms": latencies.milliseconds(0.95),
        "p99 ms": latencies.milliseconds(0.99),
    }
    return Row(name, values, MOST if name.startswith(PAIR) else {})
