"""What becomes of the pair's throughput with years of rows, and with more workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks.figures import Row, Table
from benchmarks.rounds import take_turns
from benchmarks.sides.pair import Pair
from benchmarks.throughput import BOTH, BOTH_RATIO, CASES, DRAIN, DRAIN_RATIO, PAIR, Throughput, drained, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.sides.place import Place
    from benchmarks.sides.side import Side

_COLUMNS: Final = (DRAIN, BOTH, DRAIN_RATIO, BOTH_RATIO)
_LEAST: Final = 0.9
_LANES_SHARE: Final = 10
_DELAYED_SHARE: Final = 0.3
_AT_ONCE: Final = 100_000
_FINISHED: Final = """
INSERT INTO queue_jobs
    (id, environment_id, kind, args, queue, lane, priority, state, run_at, attempt, max_attempts,
     created_at, started_at, finalized_at)
SELECT
    gen_random_uuid(), md5((number % 1000)::text)::uuid, 'noop', '{"number": -1}', 'default', 'used-' || number % $3, 2,
    'COMPLETED',
    now(), 1, 3, now(), now(), now() - number % 3600 * interval '1 second'
FROM generate_series($1::bigint, $2::bigint) AS number
"""
_DELAYED: Final = """
INSERT INTO queue_jobs
    (id, environment_id, kind, args, queue, lane, priority, state, run_at, attempt, max_attempts)
SELECT
    gen_random_uuid(), md5((number % 1000)::text)::uuid, 'noop', '{"number": -1}', 'default', 'delayed-' || number, 2,
    'SCHEDULED',
    now() + interval '1 day' + number * interval '1 millisecond', 0, 3
FROM generate_series(1, $1::bigint) AS number
"""


class GrownPair(Pair):
    """The pair with a history: finished queue jobs, delayed ones, and lanes that were used once."""

    # Its history is what is measured.
    remove_all = "SELECT 1"

    def __init__(self, place: Place, *, finished: int, most_jobs: int, redis_number: int) -> None:
        super().__init__(place, name="pair, grown", redis_number=redis_number, most_jobs=most_jobs)
        self._finished = finished

    @property
    def history(self) -> str:
        """Return what the ledger holds already, in words."""
        return (
            f"grown: {self._finished:,} finished queue jobs, {int(self._finished * _DELAYED_SHARE):,} delayed ones and "
            f"{self._finished // _LANES_SHARE:,} lanes that were used, in 1,000 environments."
        )

    async def prepare(self) -> None:
        """Create and migrate the database, and write its history."""
        await super().prepare()
        connection = await asyncpg.connect(self.database_url)
        try:
            for first in range(1, self._finished + 1, _AT_ONCE):
                last = min(first + _AT_ONCE - 1, self._finished)
                await connection.execute(_FINISHED, first, last, max(1, self._finished // _LANES_SHARE))
            await connection.execute(_DELAYED, int(self._finished * _DELAYED_SHARE))
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()


class Variants:
    """The pair as it is, beside the pair with a history and the pair with more workers."""

    def __init__(self, pair: Side, *, jobs: int) -> None:
        """Compare with `pair`, which is prepared, and enqueue so many `jobs` in each case."""
        self._pair = pair
        self._throughput = Throughput(most_jobs=jobs)
        self._grown: list[GrownPair] = []
        self._with_more: list[Pair] = []

    async def add_grown(self, place: Place, *, finished: int, progress: Callable[[str], None]) -> None:
        """Add a pair whose ledger has so many finished rows."""
        progress(f"writing {finished:,} finished queue jobs")
        grown = GrownPair(place, finished=finished, most_jobs=self._pair.most_jobs, redis_number=3)
        await grown.prepare()
        self._grown.append(grown)

    def add_workers(self, place: Place, *, counts: Sequence[int]) -> None:
        """Add a pair with each number of workers, on the database that the pair has."""
        self._with_more += [
            Pair(place, name=f"pair, {count} workers", database=PAIR, workers=count, most_jobs=self._pair.most_jobs)
            for count in counts
        ]

    async def measure(self, *, rounds: int, progress: Callable[[str], None]) -> Sequence[Table]:
        """Give each its turns and return a table for each kind of them that was added."""
        sides = [self._pair, *self._grown, *self._with_more]
        if len(sides) == 1:
            return []
        await take_turns(sides, [self._throughput], rounds=rounds, progress=progress)
        tables = []
        if self._grown:
            history = [grown.history for grown in self._grown]
            notes = (*history, "Ratios to the empty ledger, in the same round.")
            tables.append(Table("growth", "Growth", _COLUMNS, self._rows(self._grown, least=_LEAST), notes))
        if self._with_more:
            notes = ("One server. Ratios to one worker, in the same round.",)
            tables.append(Table("workers", "More workers", _COLUMNS, self._rows(self._with_more), notes))
        return tables

    def _rows(self, others: Sequence[Pair], *, least: float | None = None) -> Sequence[Row]:
        rows = []
        for case in CASES:
            for side in (self._pair, *others):
                values = {
                    DRAIN: self._throughput.median(case, side.name, drained),
                    BOTH: self._throughput.median(case, side.name, together),
                }
                if side is not self._pair:
                    values[DRAIN_RATIO] = self._throughput.ratio(case, side.name, self._pair.name, drained)
                    values[BOTH_RATIO] = self._throughput.ratio(case, side.name, self._pair.name, together)
                promised = {BOTH_RATIO: least} if least is not None and side is not self._pair else {}
                rows.append(Row(f"{case.title}: {side.name}", values, least=promised))
        return rows
