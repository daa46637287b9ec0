"""What doing nothing costs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Row, Table
from benchmarks.throughput import PAIR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from benchmarks.sides.side import Side

SHARE: Final = "% of a core"
_MOST: Final = {SHARE: 2.0}


class Idle:
    """Watches how much processor time a side takes while nothing is asked of it."""

    def __init__(self, *, watched: timedelta) -> None:
        """Watch for so long, in a side's first round only."""
        self._watched = watched
        self._shares: dict[str, float] = {}

    async def take(self, side: Side) -> None:
        """Measure a side, which has started and has nothing to do."""
        if side.name in self._shares:
            return
        before, since = side.processor_seconds(), side.clock()
        await asyncio.sleep(self._watched.total_seconds())
        used, passed = side.processor_seconds() - before, side.clock() - since
        self._shares[side.name] = 100 * used / passed

    def tables(self) -> Sequence[Table]:
        """Return the share of a core that each side's workers took."""
        rows = [
            Row(name, {SHARE: share}, _MOST if name.startswith(PAIR) else {}) for name, share in self._shares.items()
        ]
        notes = (
            "Processor time of the pair's server and worker, or of the side's worker; PostgreSQL and Redis aside.",
        )
        return [Table("idle", "Idle cost", (SHARE,), rows, notes)]
