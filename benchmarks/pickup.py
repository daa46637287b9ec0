"""How soon work that was committed begins, on a system that does nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Latencies, Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.floor import Customer
    from benchmarks.tenant import Tenant

_COLUMNS: Final = ("p50 ms", "p99 ms")
_MOST: Final = {"p50 ms": 5.0, "p99 ms": 25.0}
_STARTED: Final = """
SELECT extract(epoch FROM started_at - created_at)::float8 AS seconds
FROM queue_jobs
WHERE lane = 'endpoint-' || $1 AND kind = $2 AND id <> ALL($3::uuid[])
"""


async def measure_pickup(tenant: Tenant, reached: Customer, *, times: int) -> Table:
    """Index an endpoint of one changing job `times` times, always waiting for the end, and return the latencies."""
    created = await tenant.create_endpoint(1, changing=True)
    await tenant.finished(created.index_id)
    await tenant.idle()
    known = [row["id"] for row in await tenant.bench.database.fetch("SELECT id FROM queue_jobs")]
    before = len(await reached.arrivals(tenant.bench.customer_url, created.endpoint.slug))
    answered: list[float] = []
    for _ in range(times):
        requested = await tenant.force_index(created.endpoint.id)
        answered.append(time.time())
        await tenant.finished(requested.index.id)
        await tenant.idle()
    arrived = (await reached.arrivals(tenant.bench.customer_url, created.endpoint.slug))[before:]
    indexes = await tenant.bench.database.fetch(_STARTED, created.endpoint.id, "indexEndpoint", known)
    registrations = await tenant.bench.database.fetch(_STARTED, created.endpoint.id, "registerJob", known)
    reaches = [there - here for there, here in zip(arrived, answered, strict=True)]
    return Table(
        "handlers",
        "Pickup of the product's own handlers on an idle system",
        _COLUMNS,
        [
            _row("indexEndpoint: written → handler starts", [row["seconds"] for row in indexes], _MOST),
            _row("indexEndpoint: answered → at the customer", reaches),
            _row("registerJob: written → its batch is done", [row["seconds"] for row in registrations]),
        ],
        (
            "written: the queue job's row, before its commit, so the commit is counted too.",
            "handler starts: the first transaction of the attempt is at work.",
        ),
    )


def _row(name: str, seconds: Sequence[float], targets: Mapping[str, float] | None = None) -> Row:
    latencies = Latencies(seconds)
    values = {"p50 ms": latencies.milliseconds(0.5), "p99 ms": latencies.milliseconds(0.99)}
    return Row(name, values, targets or {})
