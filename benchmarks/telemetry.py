"""What telemetry costs: the pair with all of it beside the pair with none, in the same rounds."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc
from kongflow.v1 import event_service_pb2
from kongflow.v1.event_service_pb2_grpc import EventServiceStub

from benchmarks.figures import Row, Table
from benchmarks.rounds import take_turns
from benchmarks.sides.observed_pair import SCRAPED_EVERY, ObservedPair, SilentPair
from benchmarks.throughput import CASES, Throughput, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kongflow.v1.event_service_pb2_grpc import EventServiceAsyncStub

    from benchmarks.sides.place import Place
    from benchmarks.sides.side import Side

_SILENT, _OBSERVED, _RATIO = "silent /s", "observed /s", "ratio"
_LEAST: Final = 0.9
_CALLERS: Final = 32
_DONE_WITHIN: Final = timedelta(minutes=3)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)
_UNDELIVERED: Final = "SELECT EXISTS (SELECT FROM events WHERE state = 'PENDING')"


@dataclass(frozen=True, slots=True)
class TelemetryExtent:
    """How many rounds, and in each how many queue jobs per case and how many events.

    A tenth is looked for on machines whose speed changes by more than that from one second to the next, so that many
    rounds are taken; each is long enough that what is read every few seconds does not fill it.
    """

    rounds: int
    jobs: int
    events: int


class Telemetry:
    """Gives both pairs the same queue jobs and the same events."""

    def __init__(self, place: Place, extent: TelemetryExtent) -> None:
        """Prepare both."""
        self._extent = extent
        self._silent = SilentPair(place, most_jobs=extent.jobs)
        self._observed = ObservedPair(place, most_jobs=extent.jobs)
        self._throughput = Throughput(most_jobs=extent.jobs)
        self._sending = _Sending({pair.name: pair for pair in (self._silent, self._observed)}, events=extent.events)

    async def measure(self, *, progress: Callable[[str], None]) -> Table:
        """Give both their turns and return how they compare.

        Raises:
            RuntimeError: what was to be observed was not: the ratio would say nothing.
        """
        for pair in (self._silent, self._observed):
            progress(f"preparing {pair.name}")
            await pair.prepare()
        await take_turns(
            [self._silent, self._observed],
            [self._throughput, self._sending],
            rounds=self._extent.rounds,
            progress=progress,
        )
        if not self._observed.scrapes or not self._observed.spans_received_bytes:
            raise RuntimeError("Nothing was scraped or no spans came.")
        return Table(
            "telemetry",
            "Telemetry",
            (_SILENT, _OBSERVED, _RATIO),
            self._rows(),
            (
                "Queue jobs that do nothing: enqueued and drained at once. SendEvent: until all are delivered.",
                f"observed: JSON logs, both processes scraped every {SCRAPED_EVERY.total_seconds():g} s, some traces.",
                "silent: logs of errors only; the counters themselves cannot be switched off.",
                "Medians of the rounds; ratios within each round.",
            ),
        )

    def _rows(self) -> Sequence[Row]:
        silent, observed = self._silent.name, self._observed.name
        rows = [
            Row(
                f"no-ops {case.title}",
                {
                    _SILENT: self._throughput.median(case, silent, together),
                    _OBSERVED: self._throughput.median(case, observed, together),
                    _RATIO: self._throughput.ratio(case, observed, silent, together),
                },
                least={_RATIO: _LEAST},
            )
            for case in CASES
        ]
        without, with_all = self._sending.rates[silent], self._sending.rates[observed]
        values = {
            _SILENT: round(statistics.median(without)),
            _OBSERVED: round(statistics.median(with_all)),
            _RATIO: statistics.median(on / off for on, off in zip(with_all, without, strict=True)),
        }
        return [*rows, Row(f"SendEvent, {_CALLERS} callers", values, least={_RATIO: _LEAST})]


class _Sending:
    """Sends events as callers do, by gRPC, and waits until they are delivered; keeps the rates of each side."""

    def __init__(self, pairs: dict[str, SilentPair | ObservedPair], *, events: int) -> None:
        self._pairs = pairs
        self._events = events
        self.rates: defaultdict[str, list[float]] = defaultdict(list)

    async def take(self, side: Side) -> None:
        """Measure one side once, after a few calls that connect everything and are traced for certain."""
        pair = self._pairs[side.name]
        async with grpc.aio.insecure_channel(pair.grpc_target) as channel:
            await self._send(pair, EventServiceStub(channel), _CALLERS, traced=True)
            began = time.perf_counter()
            await self._send(pair, EventServiceStub(channel), self._events)
            self.rates[side.name].append(self._events / (time.perf_counter() - began))

    def tables(self) -> Sequence[Table]:
        """Return nothing: the rates are shown beside those of the queue jobs."""
        return []

    async def _send(
        self, pair: SilentPair | ObservedPair, stub: EventServiceAsyncStub, count: int, *, traced: bool = False
    ) -> None:
        development = pair.development
        assert development is not None  # noqa: S101 - a pair that has started has one
        traceparent = (("traceparent", f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"),) if traced else ()
        metadata = (("authorization", f"Bearer {development.service_token}"), *traceparent)
        requests = iter(
            [
                event_service_pb2.SendEventRequest(
                    environment_id=development.environment_id,
                    event=event_service_pb2.NewEvent(
                        name="nobody.listens", event_id=str(uuid4()), payload_json='{"plan":"pro"}'
                    ),
                )
                for _ in range(count)
            ]
        )

        async def send() -> None:
            for request in requests:
                await stub.SendEvent(request, metadata=metadata)

        await asyncio.gather(*(send() for _ in range(_CALLERS)))
        connection = await pair.connected()
        async with asyncio.timeout(_DONE_WITHIN.total_seconds()):
            while await connection.fetchval(_UNDELIVERED):  # noqa: ASYNC110 - another process delivers them
                await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
