"""What this machine takes for the parts that are not ours: the floor under every other figure."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.calls import MANY, timed_calls
from benchmarks.figures import Latencies, Row, Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.tenant import Tenant

_COLUMNS: Final = ("callers", "p50 ms", "p95 ms")


class Customer:
    """Calls the customer's endpoint as the protocol does, with nothing of ours between."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, url: str, action: str) -> None:
        """Send one action and read the whole answer."""
        headers = {"x-trigger-action": action, "x-trigger-api-key": "tr_dev_floor", "x-trigger-endpoint-id": "floor"}
        async with self._session.post(url, headers=headers) as response:
            response.raise_for_status()
            await response.read()

    async def own_answer(self, url: str, action: str, *, times: int) -> Latencies:
        """Return how long the customer's own answers take, one after another."""
        await self.call(url, action)
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            await self.call(url, action)
            seconds.append(time.perf_counter() - started)
        return Latencies(seconds)

    async def release(self, customer_url: str) -> None:
        """Let every held call end."""
        async with self._session.post(f"{customer_url}/release") as response:
            response.raise_for_status()

    async def arrivals(self, customer_url: str, name: str) -> list[float]:
        """Return when each INDEX_ENDPOINT for the endpoint of this name arrived, in seconds since 1970."""
        async with self._session.get(f"{customer_url}/arrivals/{name}") as response:
            return [float(arrived) for arrived in await response.json()]


@asynccontextmanager
async def customer() -> AsyncIterator[Customer]:
    """Open connections to the customer's endpoint."""
    async with aiohttp.ClientSession() as session:
        yield Customer(session)


async def measure_floor(tenant: Tenant, reached: Customer, *, times: int) -> tuple[Table, float]:
    """Return the floor, and the customer's own answer to a PING in milliseconds: its median."""
    health = health_pb2_grpc.HealthStub(tenant.bench.channel).Check
    check = health_pb2.HealthCheckRequest()
    ping = await reached.own_answer(tenant.offer_url(1, name="floor"), "PING", times=times)
    rows = [
        _row("the customer's own answer to a PING", 1, ping),
        _row("gRPC health check", 1, await timed_calls(health, [check] * times, 1)),
        _row("gRPC health check", MANY, await timed_calls(health, [check] * times * 4, MANY)),
        _row("PostgreSQL commit of one row", 1, await _commits(tenant, times=times)),
    ]
    return Table("floor", "Floor of this machine", _COLUMNS, rows), ping.milliseconds(0.5)


async def _commits(tenant: Tenant, *, times: int) -> Latencies:
    await tenant.bench.database.execute("CREATE TABLE floor (number integer)")
    seconds = []
    for number in range(times):
        started = time.perf_counter()
        await tenant.bench.database.execute("INSERT INTO floor (number) VALUES ($1)", number)
        seconds.append(time.perf_counter() - started)
    await tenant.bench.database.execute("DROP TABLE floor")
    return Latencies(seconds)


def _row(name: str, callers: int, latencies: Latencies) -> Row:
    return Row(
        name,
        {"callers": callers, "p50 ms": latencies.milliseconds(0.5), "p95 ms": latencies.milliseconds(0.95)},
    )
