"""How long it takes from CreateEndpoint until everything an endpoint offers is registered."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.figures import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.floor import Customer
    from benchmarks.tenant import Tenant

_MOST: Final = {1000: {"beyond ms": 1000.0}}
_COLUMNS: Final = ("call ms", "fetched ms", "registered ms", "own ms", "beyond ms", "jobs/s")
_TIMES: Final = """
SELECT
    extract(epoch FROM max(finalized_at) FILTER (WHERE kind = 'indexEndpoint'))::float8 AS fetched,
    extract(epoch FROM max(finalized_at) FILTER (WHERE kind = 'registerJob'))::float8 AS registered
FROM queue_jobs
WHERE lane = 'endpoint-' || $1
"""


@dataclass(frozen=True, slots=True)
class _Registration:
    """Seconds from the call: until its answer, until the index is stored, until the caller sees all registered."""

    call: float
    fetched: float
    registered: float
    seen: float


async def measure_registrations(
    tenant: Tenant, reached: Customer, *, sizes: Sequence[int], times: int, progress: Callable[[str], None]
) -> Table:
    """Register endpoints of these sizes, each `times` times (the largest once), and return the medians."""
    rows = []
    for jobs in sizes:
        progress(f"{jobs:,} jobs")
        repeats = 1 if jobs == max(sizes) and times > 1 else times
        registrations = [await _register(tenant, jobs) for _ in range(repeats)]
        rows.append(await _row(tenant, reached, jobs, registrations))
    return Table(
        "registrations",
        "From CreateEndpoint to the last registration",
        _COLUMNS,
        rows,
        (
            "call: until CreateEndpoint answered. fetched: until the index was stored with one queue job for each job.",
            "registered: until a caller that watches the index knows.",
            "own: the customer's own answers to PING and INDEX_ENDPOINT together. Medians.",
        ),
    )


async def _register(tenant: Tenant, jobs: int) -> _Registration:
    await tenant.idle()
    clock = time.time()
    started = time.perf_counter()
    created = await tenant.create_endpoint(jobs)
    answered = time.perf_counter()
    await tenant.finished(created.index_id)
    seen = time.perf_counter()
    times = await tenant.bench.database.fetchrow(_TIMES, created.endpoint.id)
    if times is None:
        raise RuntimeError("The ledger has forgotten the endpoint.")
    return _Registration(answered - started, times["fetched"] - clock, times["registered"] - clock, seen - started)


async def _row(tenant: Tenant, reached: Customer, jobs: int, registrations: Sequence[_Registration]) -> Row:
    url = tenant.offer_url(jobs, name="own")
    own = sum(
        [(await reached.own_answer(url, action, times=5)).milliseconds(0.5) for action in ("PING", "INDEX_ENDPOINT")]
    )
    seen = 1000 * statistics.median(one.seen for one in registrations)
    return Row(
        f"{jobs:,} jobs",
        {
            "call ms": 1000 * statistics.median(one.call for one in registrations),
            "fetched ms": 1000 * statistics.median(one.fetched for one in registrations),
            "registered ms": seen,
            "own ms": own,
            "beyond ms": seen - own,
            "jobs/s": 1000 * jobs / seen,
        },
        _MOST.get(jobs, {}),
    )
