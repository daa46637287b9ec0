"""What a neighbour notices of a tenant whose endpoints hang or whose backlog is long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from kongflow.v1 import endpoint_service_pb2

from benchmarks.figures import Latencies, Row, Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    import asyncpg

    from benchmarks.floor import Customer
    from benchmarks.tenant import Tenant

_COLUMNS: Final = ("call p50", "call p99", "work p50", "work p99", "done p99")
_MOST: Final = {"call p99": 150.0, "work p99": 150.0}
_NEIGHBOURS: Final = 40
_EVERY: Final = timedelta(milliseconds=50)
_AT_ONCE: Final = 16
_PATIENCE: Final = timedelta(minutes=2)

_ENDED: Final = """
SELECT
    kind, extract(epoch FROM started_at - run_at)::float8 AS begun,
    extract(epoch FROM finalized_at - run_at)::float8 AS done
FROM queue_jobs
WHERE lane = ANY($1) AND created_at > $2 AND started_at IS NOT NULL AND finalized_at IS NOT NULL
"""
# Registrations as an index enqueues them, each another job of its endpoint.
_BACKLOG: Final = """
INSERT INTO queue_jobs (id, environment_id, kind, args, queue, lane, priority, max_attempts, state)
SELECT
    gen_random_uuid(), endpoints.environment_id, 'registerJob',
    jsonb_build_object(
        'job', jsonb_build_object(
            'id', endpoints.slug || '-' || number, 'name', 'Job', 'version', '1.0.0',
            'event', jsonb_build_object('name', jsonb_build_array('thing.happened'), 'title', 'Event',
                'source', 'trigger.dev', 'icon', 'bolt', 'examples', jsonb_build_array()),
            'trigger', jsonb_build_object('type', 'static', 'title', 'Event', 'rule', jsonb_build_object(
                'event', jsonb_build_array('thing.happened'), 'source', 'trigger.dev', 'payload', '{}'::jsonb)),
            'integrations', '{}'::jsonb, 'startPosition', 'latest', 'enabled', true, 'preprocessRuns', false
        ),
        'endpointId', endpoints.id, 'indexId', gen_random_uuid(), 'indexSequence', 1
    ),
    'default', 'endpoint-' || endpoints.id, 2, 3, 'AVAILABLE'
FROM endpoints
CROSS JOIN generate_series(1, $2::integer) AS number
WHERE endpoints.id = ANY($1::uuid[])
"""
_UNFINISHED: Final = """
SELECT count(*) FROM queue_jobs WHERE lane = ANY($1) AND state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING')
"""
_HAS_REGISTRATIONS: Final = "SELECT EXISTS (SELECT FROM queue_jobs WHERE lane = $1 AND queue = 'default')"
_CANCEL_BACKLOG: Final = """
UPDATE queue_jobs SET state = 'CANCELLED', finalized_at = clock_timestamp()
WHERE id IN (
    SELECT id FROM queue_jobs WHERE environment_id = $1 AND state = 'AVAILABLE' FOR UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much trouble is made, and for how long neighbours are watched."""

    black_holes: int
    hung: int
    registrations: int
    lanes: int
    registrations_per_lane: int
    watched: timedelta


class Isolation:
    """One tenant makes trouble, and `_NEIGHBOURS` endpoints of another are indexed in turn meanwhile."""

    def __init__(self, tenant: Tenant, reached: Customer, *, extent: Extent) -> None:
        self._tenant = tenant
        self._reached = reached
        self._extent = extent

    async def measure(self, progress: Callable[[str], None]) -> Table:
        """Measure the neighbours alone and beside each trouble."""
        extent = self._extent
        neighbours = [(await self._tenant.create_endpoint(1, changing=True)).endpoint.id for _ in range(_NEIGHBOURS)]
        await self._tenant.idle()
        troubles: Sequence[tuple[str, Callable[[str], Awaitable[None]]]] = (
            ("nobody else", self._nothing),
            ("one endpoint that hangs", lambda environment: self._hang(environment, 1)),
            (f"{extent.black_holes} black holes", lambda environment: self._hang(environment, extent.black_holes)),
            (f"{extent.hung} hung endpoints", lambda environment: self._hang(environment, extent.hung)),
            (f"an endpoint of {extent.registrations:,} jobs", self._register),
            (f"{extent.lanes} lanes of {extent.registrations_per_lane:,} jobs", self._pile_up),
        )
        rows = []
        for name, trouble in troubles:
            progress(f"isolation: {name}")
            environment_id = await self._tenant.new_environment()
            await trouble(environment_id)
            rows.append(await self._watch(name, neighbours))
            await self._tenant.bench.database.execute(_CANCEL_BACKLOG, environment_id)
            await self._reached.release(self._tenant.bench.customer_url)
            await self._tenant.idle()
        return Table(
            "isolation",
            "Pickup beside another tenant's trouble, in ms",
            _COLUMNS,
            rows,
            (
                f"{_NEIGHBOURS} endpoints are indexed in turn, one every {_EVERY / timedelta(milliseconds=1):g} ms.",
                "call: indexEndpoint, from due to begun. work: registerJob, from due to begun. done: to its end.",
            ),
        )

    async def _watch(self, name: str, neighbours: Sequence[str]) -> Row:
        since = await self._tenant.bench.database.fetchval("SELECT clock_timestamp()")
        asking: set[asyncio.Task[object]] = set()
        for number in range(self._extent.watched // _EVERY):
            task = asyncio.create_task(self._tenant.force_index(neighbours[number % len(neighbours)]))
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(_EVERY.total_seconds())
        await asyncio.gather(*asking)
        rows = await self._finished(neighbours, since)
        calls = Latencies([row["begun"] for row in rows if row["kind"] == "indexEndpoint"])
        batches = [row for row in rows if row["kind"] == "registerJob"]
        begun, done = Latencies([row["begun"] for row in batches]), Latencies([row["done"] for row in batches])
        values = {
            "call p50": calls.milliseconds(0.5),
            "call p99": calls.milliseconds(0.99),
            "work p50": begun.milliseconds(0.5),
            "work p99": begun.milliseconds(0.99),
            "done p99": done.milliseconds(0.99),
        }
        return Row(name, values, _MOST)

    async def _finished(self, neighbours: Sequence[str], since: datetime) -> list[asyncpg.Record]:
        """Wait until everything of the neighbours has ended, however long it takes, and return it."""
        lanes = [f"endpoint-{endpoint_id}" for endpoint_id in neighbours]
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            while await self._tenant.bench.database.fetchval(_UNFINISHED, lanes):  # noqa: ASYNC110 - others finish it
                await asyncio.sleep(_EVERY.total_seconds())
        return await self._tenant.bench.database.fetch(_ENDED, lanes, since)

    async def _nothing(self, _environment_id: str) -> None:
        """Make no trouble."""

    async def _hang(self, environment_id: str, endpoints: int) -> None:
        """Have this many endpoints indexed that never answer."""
        ids = await self._stored(environment_id, endpoints, offer="holds/1")
        await asyncio.gather(*(self._tenant.force_index(endpoint_id) for endpoint_id in ids))

    async def _register(self, environment_id: str) -> None:
        """Have one large endpoint registered, and wait until its registrations are enqueued."""
        (endpoint_id,) = await self._stored(environment_id, 1, offer=f"offers/{self._extent.registrations}")
        await self._tenant.force_index(endpoint_id)
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            while not await self._tenant.bench.database.fetchval(_HAS_REGISTRATIONS, f"endpoint-{endpoint_id}"):  # noqa: ASYNC110 - a worker enqueues them
                await asyncio.sleep(_EVERY.total_seconds())

    async def _pile_up(self, environment_id: str) -> None:
        """Enqueue registrations in many lanes at once."""
        ids = await self._stored(environment_id, self._extent.lanes, offer="offers/1")
        for start in range(0, len(ids), _AT_ONCE):
            await self._tenant.bench.database.execute(
                _BACKLOG, ids[start : start + _AT_ONCE], self._extent.registrations_per_lane
            )

    async def _stored(self, environment_id: str, count: int, *, offer: str) -> Sequence[str]:
        """Store endpoints and return their ids."""
        few = asyncio.Semaphore(_AT_ONCE)

        async def store() -> str:
            slug = self._tenant.new_slug("troubled")
            async with few:
                response = await self._tenant.endpoints.UpsertEndpoint(
                    endpoint_service_pb2.UpsertEndpointRequest(
                        environment_id=environment_id,
                        slug=slug,
                        url=f"{self._tenant.bench.customer_url}/{offer}/{slug}",
                    ),
                    metadata=self._tenant.service,
                )
            return response.endpoint.id

        return await asyncio.gather(*(store() for _ in range(count)))
