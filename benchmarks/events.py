"""How fast events are taken in, and how soon what they start is there."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import event_service_pb2

from benchmarks.figures import Latencies, Row, Table
from services.endpoints.domain.filter import compile_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.tenant import Tenant
    from services.endpoints.domain.json_text import JsonValue

_BATCH: Final = 1_000
_MANY: Final = 32
_SEVERAL: Final = 4
_LEAST_SENT: Final = 1_000.0
_LEAST_TOGETHER: Final = 15_000.0
_LARGEST_AUDIENCE: Final = 10_000
_MOST_FAN_OUT_MS: Final = 3_000.0
_MOST_DUE_MS: Final = 100.0
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=5)
_RUNS: Final = "SELECT count(*) FROM job_runs WHERE event_record_id = $1"
_LATE: Final = """
SELECT extract(epoch FROM job_runs.created_at - events.deliver_at)::float8 AS seconds
FROM events JOIN job_runs ON job_runs.event_record_id = events.id
WHERE events.name = $1
"""
_FILTERS: Final[dict[str, JsonValue]] = {
    "one field": {"plan": ["pro", "team"]},
    "three fields, two deep": {"plan": ["pro"], "user": {"name": [{"$startsWith": "A"}], "id": [{"$gt": 1}]}},
    "an array of objects": {"orders": {"total": [{"$between": [90, 100]}]}},
}
_PAYLOAD: Final[JsonValue] = {
    "plan": "pro",
    "user": {"id": 9007199254740993, "name": "Ada"},
    "orders": [{"total": total} for total in range(100)],
}
_MATCHES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: single events by one caller and by 32, batches, delayed events, sizes of audiences."""

    alone: int
    together: int
    batches: int
    delayed: int
    audiences: Sequence[int]


class Events:
    """Measures events from a caller's side."""

    def __init__(self, tenant: Tenant, *, extent: Extent) -> None:
        self._tenant = tenant
        self._extent = extent

    async def measure(self, progress: Callable[[str], None]) -> Sequence[Table]:
        """Return a table of taking in, one of fan-out and one of matching."""
        return [await self._taken_in(progress), await self._fanned_out(progress), _matched()]

    async def _taken_in(self, progress: Callable[[str], None]) -> Table:
        rows = []
        for callers, count in ((1, self._extent.alone), (_MANY, self._extent.together)):
            progress(f"SendEvent, {callers} callers")
            least = {"events/s": _LEAST_SENT} if callers == _MANY else {}
            rows.append(await self._sent(f"SendEvent, {callers} callers", callers, count, size=1, least=least))
        for callers in (1, _SEVERAL):
            name = f"SendEvents of {_BATCH:,}, {callers} callers"
            progress(name)
            least = {"events/s": _LEAST_TOGETHER} if callers == _SEVERAL else {}
            rows.append(await self._sent(name, callers, self._extent.batches, size=_BATCH, least=least))
        return Table(
            "events",
            "Taking events in",
            ("events/s", "p50 ms", "p99 ms"),
            rows,
            ("Nobody listens to them; each is delivered all the same, and counted until its call is answered.",),
        )

    async def _sent(self, name: str, callers: int, count: int, *, size: int, least: dict[str, float]) -> Row:
        """Send `count` requests of `size` events by as many callers."""
        tenant = self._tenant
        requests = iter([tenant.send_request() if size == 1 else self._batch(size) for _ in range(count)])
        durations: list[float] = []

        async def send() -> None:
            for request in requests:
                began = time.perf_counter()
                if isinstance(request, event_service_pb2.SendEventRequest):
                    await tenant.events.SendEvent(request, metadata=tenant.service)
                else:
                    await tenant.events.SendEvents(request, metadata=tenant.service)
                durations.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(callers)))
        lasted = time.perf_counter() - began
        await tenant.idle()
        latencies = Latencies(durations)
        values = {
            "events/s": count * size / lasted,
            "p50 ms": latencies.milliseconds(0.5),
            "p99 ms": latencies.milliseconds(0.99),
        }
        return Row(name, values, least=least)

    def _batch(self, size: int) -> event_service_pb2.SendEventsRequest:
        events = [self._tenant.new_event("nobody.listens") for _ in range(size)]
        return event_service_pb2.SendEventsRequest(environment_id=self._tenant.environment_id, events=events)

    async def _fanned_out(self, progress: Callable[[str], None]) -> Table:
        rows = []
        for jobs in self._extent.audiences:
            progress(f"an audience of {jobs:,}")
            name = await self._tenant.audience(jobs)
            await self._tenant.idle()
            seconds = [await self._until_all_run(name, jobs) for _ in range(3)]
            median = 1000 * statistics.median(seconds)
            most = {"all runs ms": _MOST_FAN_OUT_MS} if jobs == _LARGEST_AUDIENCE else {}
            rows.append(
                Row(f"1 event, {jobs:,} dispatchers", {"all runs ms": median, "runs/s": 1000 * jobs / median}, most)
            )
        progress("delayed events")
        rows.append(await self._when_due())
        return Table(
            "fan-out",
            "From SendEvent to the last run",
            ("all runs ms", "runs/s", "p50 ms", "p99 ms"),
            rows,
            (
                "Every second dispatcher has a filter. Medians of three events.",
                "due: from the time that the sender named until the run is written, one event at a time.",
            ),
        )

    async def _until_all_run(self, name: str, jobs: int) -> float:
        """Return how many seconds after the call all runs of a new event exist."""
        database = self._tenant.bench.database
        began = time.perf_counter()
        event = UUID(await self._tenant.send(name))
        while await database.fetchval(_RUNS, event) < jobs:  # noqa: ASYNC110 - another process makes them
            await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        lasted = time.perf_counter() - began
        await self._tenant.idle()
        return lasted

    async def _when_due(self) -> Row:
        name = await self._tenant.audience(1)
        await self._tenant.idle()
        for number in range(self._extent.delayed):
            await self._tenant.send(name, Duration(nanos=(100 + number % 50) * 1_000_000))
            await self._tenant.idle()
        late = [row["seconds"] for row in await self._tenant.bench.database.fetch(_LATE, name)]
        if min(late) < 0:
            raise RuntimeError("An event was delivered before its time.")
        latencies = Latencies(late)
        values = {"p50 ms": latencies.milliseconds(0.5), "p99 ms": latencies.milliseconds(0.99)}
        return Row("due → run", values, {"p99 ms": _MOST_DUE_MS})


def _matched() -> Table:
    rows = []
    for name, document in _FILTERS.items():
        matches = compile_filter(document).matches
        if not matches(_PAYLOAD):
            raise RuntimeError(f"The filter {json.dumps(document)} should match.")
        began = time.perf_counter()
        for _ in itertools.repeat(None, _MATCHES):
            matches(_PAYLOAD)
        rows.append(Row(name, {"µs": 1e6 * (time.perf_counter() - began) / _MATCHES}))
    return Table("matching", "Matching one payload with one filter", ("µs",), rows)
