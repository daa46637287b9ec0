"""How long every unary method takes, alone and among many callers."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import grpc

from benchmarks.cases import JOBS_OF_A_NEW_ENDPOINT, PAGE_SIZE, cases, prepare
from benchmarks.figures import Latencies, Row, Table
from benchmarks.methods import unary_methods

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from google.protobuf.message import Message

    from benchmarks.cases import Case
    from benchmarks.methods import UnaryMethod
    from benchmarks.tenant import Metadata, Tenant

MANY: Final = 32
_P50, _P95 = 0.50, 0.95
_COLUMNS: Final = ("calls/s", "p50 ms", "p95 ms", "p95 beyond ms")
_CREATE_ENDPOINT: Final = "CreateEndpoint"
_CREATE_MOST: Final = 100
_MOST: Final = 50
_NO_ROOM_AGAIN_AFTER: Final = timedelta(seconds=1)


async def measure_calls(
    tenant: Tenant,
    *,
    own_answer: float,
    jobs: int,
    alone: int,
    together: int,
    only: Collection[str],
    progress: Callable[[str], None],
) -> Sequence[Table]:
    """Call every unary method `alone` times by one caller and `together` times by 32, and return a table of each.

    `own_answer` is how long the customer takes to answer a PING, in milliseconds: it is taken from what a method
    takes that pings. `jobs` is the size of the endpoint that is read. `only` names methods, or is empty for all.

    Raises:
        KeyError: a method of the contract has no case.
        grpc.aio.AioRpcError: a call failed for another reason than too little room, so its time says nothing.
    """
    fixture = await prepare(tenant, jobs=jobs, callers=MANY)
    # What autovacuum does within minutes of the first index; before it, every plan is a guess.
    await tenant.bench.database.execute("ANALYZE")
    by_method = cases(tenant, fixture)
    rows: dict[int, list[Row]] = {1: [], MANY: []}
    for method in unary_methods().values():
        if only and method.name not in only:
            continue
        progress(method.name)
        case = by_method[method.name]
        beyond = own_answer if case.pings else 0.0
        for callers, calls in ((1, alone), (MANY, together)):
            rows[callers].append(await _measure(tenant, method, case, callers=callers, calls=calls, beyond=beyond))
            await tenant.idle()
    notes = (
        "Each caller sends its next call when the last is answered; all share one connection.",
        "A call that the server had no room for is sent again; its time counts from the first.",
        f"beyond: without the customer's own answer to a PING ({own_answer:.1f} ms), for the methods that ping.",
        f"CreateEndpoint: a new endpoint of {JOBS_OF_A_NEW_ENDPOINT} jobs, indexed and registered meanwhile.",
        f"Lists: pages of {PAGE_SIZE}. At the end there are {await tenant.sizes()}.",
    )
    return [
        Table("calls-1", "Unary calls, 1 caller", _COLUMNS, rows[1]),
        Table(f"calls-{MANY}", f"Unary calls, {MANY} callers", _COLUMNS, rows[MANY], notes),
    ]


async def timed_calls(
    send: Callable[[Message], Awaitable[object]], requests: Sequence[Message], callers: int
) -> Latencies:
    """Send every request once, by this many callers at a time, and return how long each took."""
    remaining = iter(requests)
    seconds: list[float] = []
    await asyncio.gather(*(_caller(send, remaining, seconds) for _ in range(callers)))
    return Latencies(seconds)


async def _caller(
    send: Callable[[Message], Awaitable[object]], remaining: Iterator[Message], seconds: list[float]
) -> None:
    for request in remaining:
        started = time.perf_counter()
        await send(request)
        seconds.append(time.perf_counter() - started)


async def _measure(tenant: Tenant, method: UnaryMethod, case: Case, *, callers: int, calls: int, beyond: float) -> Row:
    send = _sender(method.on(tenant.bench.channel), case.credential)
    # Connections of the pools are opened and statements prepared before anything is measured.
    await timed_calls(send, await case.requests(min(callers, calls)), callers)
    requests = await case.requests(calls)
    started = time.perf_counter()
    latencies = await timed_calls(send, requests, callers)
    elapsed = time.perf_counter() - started
    p95 = latencies.milliseconds(_P95)
    values: Mapping[str, float] = {
        "calls/s": calls / elapsed,
        "p50 ms": latencies.milliseconds(_P50),
        "p95 ms": p95,
        "p95 beyond ms": p95 - beyond,
    }
    if method.name == _CREATE_ENDPOINT:
        targets = {"p95 beyond ms": _CREATE_MOST} if callers == MANY else {}
    else:
        targets = {"p95 beyond ms": _MOST}
    return Row(method.name, values, targets)


def _sender(
    call: grpc.aio.UnaryUnaryMultiCallable[Message, Message], credential: Metadata
) -> Callable[[Message], Awaitable[object]]:
    async def send(request: Message) -> Message:
        while True:
            try:
                return await call(request, metadata=credential)
            except grpc.aio.AioRpcError as error:
                # A machine that stands still for seconds makes calls wait too long for a connection.
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            await asyncio.sleep(_NO_ROOM_AGAIN_AFTER.total_seconds())

    return send
