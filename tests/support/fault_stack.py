"""Everything a fault can hit: PostgreSQL, Redis, two servers and two workers, with a proxy before each dependency."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import grpc
from redis.asyncio import Redis

from services.embedded.postgres import EmbeddedPostgres
from services.endpoints.app import Listening
from services.endpoints.store.migrations import runner
from services.worker.message import queue_key
from tests.support.endpoint_farm import EndpointFarm
from tests.support.eventually import eventually
from tests.support.fault_audit import AUDIT
from tests.support.pair import Pair, serving
from tests.support.ports import free_ports
from tests.support.processes import CHANNEL_OPTIONS, ServiceProcess, server_environment
from tests.support.proxy import TcpProxy
from tests.support.redis_process import RedisProcess
from tests.support.servers import THROWAWAY_SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from tests.support.endpoint_farm import FarmEndpoint
    from tests.support.pair import Tenant

# The machine does not crash, but PostgreSQL does: what it has answered must be with the kernel.
POSTGRES_SETTINGS: Final = {**THROWAWAY_SETTINGS, "synchronous_commit": "on", "max_connections": "100"}
SERVERS: Final = 2
WORKERS: Final = 2


class Postgres:
    """A PostgreSQL that may crash and come back on the same port."""

    def __init__(self, directory: Path) -> None:
        self._server = EmbeddedPostgres(directory, port=free_ports(1)[0], settings=POSTGRES_SETTINGS)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    async def start(self) -> None:
        await self._server.start()

    async def crash(self) -> None:
        """End it as `pg_ctl stop -m immediate` does."""
        os.kill(self._server.pid, signal.SIGQUIT)
        await self._server.ended()
        await self._server.stop()

    async def stop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        await self._server.stop()

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement on the tests' own connection, past every proxy."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self.url)
            return await self._connection.fetch(query, *arguments)

    async def value(self, query: str, *arguments: Any) -> Any:
        """Return the first column of the first row, None when there is none."""
        rows = await self.fetch(query, *arguments)
        return rows[0][0] if rows else None


@dataclass(frozen=True)
class FaultStack:
    """The running pieces; `lock` guards one piece while a fault has it."""

    postgres: Postgres
    redis: RedisProcess
    farm: EndpointFarm
    to_postgres: TcpProxy
    redis_of_servers: TcpProxy
    redis_of_workers: TcpProxy
    to_servers: tuple[TcpProxy, ...]
    to_endpoints: TcpProxy
    servers: tuple[ServiceProcess, ...]
    workers: tuple[ServiceProcess, ...]
    pairs: tuple[Pair, ...]
    locks: dict[str, asyncio.Lock]
    secrets: list[str]

    @property
    def proxies(self) -> list[TcpProxy]:
        return [
            self.to_postgres,
            self.redis_of_servers,
            self.redis_of_workers,
            *self.to_servers,
            self.to_endpoints,
        ]

    def lock(self, name: str) -> asyncio.Lock:
        return self.locks.setdefault(name, asyncio.Lock())

    async def new_tenant(self, *, environment_type: str = "PRODUCTION") -> Tenant:
        """Create a tenant whose endpoints are tried five times."""
        tenant = await self.pairs[0].new_tenant(environment_type=environment_type)
        self.secrets.extend((tenant.api_key, tenant.service_token))
        return tenant

    async def new_endpoint(self, tenant: Tenant, slug: str, *, jobs: int) -> tuple[str, FarmEndpoint]:
        """Register an endpoint that is reached through the proxy, without indexing it yet; returns its id too."""
        endpoint = self.farm.add(slug, jobs=jobs, api_key=tenant.api_key, port=self.to_endpoints.port)
        created = await self.pairs[0].client(tenant.api_key).create_endpoint(tenant, endpoint.url, slug=slug)
        return str(created.endpoint.id), endpoint

    @asynccontextmanager
    async def redis_client(self) -> AsyncIterator[Any]:
        """Give a client past the proxies."""
        async with Redis.from_url(self.redis.url) as client:
            yield client

    async def heal(self) -> None:
        """End every fault that is still on, and return when all processes are ready again."""
        for proxy in self.proxies:
            proxy.heal()
        self.farm.failing = False
        self.farm.answers.set()
        for process in (*self.servers, *self.workers):
            if not process.is_running:
                await process.kill()
                await process.launch()
            process.thaw()
        for process in (*self.servers, *self.workers):
            await process.ready()
        # A channel that was refused waits before it tries again, however long its server has been back.
        for pair in self.pairs:
            await serving(pair.channel)

    async def is_over(self) -> bool:
        """Tell whether the ledger has nothing left to do but upkeep and what nobody knows."""
        rows = await self.postgres.fetch(
            "SELECT kind, state, lane, attempt, rescues FROM queue_jobs"
            " WHERE finalized_at IS NULL AND queue <> 'maintenance' AND kind <> 'unknownToAll'"
            " UNION ALL SELECT 'lane', state, lane, rings, suspect::int FROM queue_lanes WHERE queue <> 'maintenance'"
            " LIMIT 5"
        )
        assert rows == [], [dict(row) for row in rows]
        return True

    async def still_open(self, ids: list[Any], due_at: datetime) -> list[str]:
        """Return a line for some of these queue jobs that were due then, with their lanes, and one for each queue."""
        rows = await self.postgres.fetch(
            "SELECT job.queue, job.lane, job.kind, job.state, job.attempt, job.rescues,"
            " clock_timestamp() - job.run_at AS due_for, clock_timestamp() - job.started_at AS started_for,"
            " lane.state AS lane_state, lane.claim, lane.lease_until - clock_timestamp() AS lease_for, lane.rings,"
            " lane.suspect, count(*) OVER () AS of"
            " FROM queue_jobs AS job LEFT JOIN queue_lanes AS lane USING (queue, lane)"
            " WHERE job.id = ANY($1) AND job.finalized_at IS NULL AND job.run_at <= $2"
            " ORDER BY job.started_at LIMIT 10",
            ids,
            due_at,
        )
        async with self.redis_client() as redis:
            messages = {queue: await redis.zcard(queue_key(queue)) for queue in ("default", "execution", "events")}
        return [*(" ".join(f"{name}={value}" for name, value in row.items()) for row in rows), f"messages: {messages}"]

    async def is_well(self) -> bool:
        """Tell whether every endpoint is HEALTHY again, and those that are indexed anew for it have their queue job."""
        rows = await self.postgres.fetch(
            "SELECT slug, state, next_probe_at, next_index_at FROM endpoints"
            " WHERE state <> 'HEALTHY' OR next_index_at < now() + interval '1 minute' LIMIT 5"
        )
        assert rows == [], [dict(row) for row in rows]
        return True

    async def settle(self, *, within: timedelta = timedelta(seconds=60)) -> None:
        """Return when `is_over`."""
        await eventually(self.is_over, within=within)

    def errors(self) -> str:
        """Return the last lines of each log that tell of something wrong, and what went wrong inside a server."""
        told: list[str] = []
        for process in (*self.servers, *self.workers):
            lines = process.log_text().splitlines()
            told += [line[:8_000] for line in lines if '"reference"' in line]
            wrong = [line for line in lines if '"error"' in line or "Error" in line or "warning" in line]
            told += [line[:2_000] for line in wrong[-20:]]
        return "\n".join(told)

    def logs(self) -> str:
        """Return what all processes said."""
        return "".join(process.log_text() for process in (*self.servers, *self.workers))


@asynccontextmanager
async def running_stack(directory: Path, **server_settings: Any) -> AsyncIterator[FaultStack]:
    """Run all of it until the block ends; `server_settings` are fields of `EndpointsSettings`.

    `directory` must be one that PostgreSQL's own user can enter.
    """
    async with AsyncExitStack() as stack:
        postgres = Postgres(directory / "postgres")
        stack.push_async_callback(postgres.stop)
        redis = RedisProcess()
        stack.push_async_callback(redis.kill)
        await asyncio.gather(postgres.start(), redis.start())
        await runner.upgrade(postgres.url)
        await postgres.fetch("SELECT 1")
        for statement in AUDIT:
            await postgres.fetch(statement)
        farm = await stack.enter_async_context(EndpointFarm())

        async def before(port: int) -> TcpProxy:
            return await stack.enter_async_context(TcpProxy(upstream_port=port))

        to_postgres, redis_of_servers, redis_of_workers = [
            await before(port) for port in (postgres.port, redis.port, redis.port)
        ]
        ports = free_ports(SERVERS * 2 + WORKERS)
        grpc_ports, http_ports, worker_ports = ports[:SERVERS], ports[SERVERS : 2 * SERVERS], ports[2 * SERVERS :]
        to_servers = tuple([await before(port) for port in grpc_ports])
        servers = tuple(
            ServiceProcess(
                "services.endpoints",
                environment=server_environment(
                    database_url=postgres.url.replace(f":{postgres.port}/", f":{to_postgres.port}/"),
                    redis_url=f"redis://127.0.0.1:{redis_of_servers.port}/0",
                    grpc_port=grpc_port,
                    http_port=http_port,
                    **{
                        "index_window_seconds": 0,
                        "drain_timeout_seconds": 5,
                        # One tenant calls for all that a test has in flight.
                        "tenant_calls_at_once": 10_000,
                        # Endpoints seem to fail when their network is cut; within recovery time they are tried again.
                        "endpoint_probe_after_seconds": 2,
                        "endpoint_probe_at_most_seconds": 4,
                        "endpoint_suspended_probe_seconds": 4,
                        **server_settings,
                    },
                ),
                ready_url=f"http://127.0.0.1:{http_port}/readyz",
                log=directory / f"server-{number}.log",
            )
            for number, (grpc_port, http_port) in enumerate(zip(grpc_ports, http_ports, strict=True))
        )
        for server in servers:
            stack.push_async_callback(server.kill)
            await server.launch()
        for server in servers:
            await server.ready()
        pairs = tuple(
            [
                Pair(
                    listening=Listening(grpc_port, http_port, None),
                    channel=await stack.enter_async_context(
                        grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=CHANNEL_OPTIONS)
                    ),
                    database_url=postgres.url,
                    redis_url=redis.url,
                    stop=asyncio.Event(),
                )
                for grpc_port, http_port in zip(grpc_ports, http_ports, strict=True)
            ]
        )
        token = await pairs[0].new_worker_token()
        target = "ipv4:" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in to_servers)
        workers = tuple(
            ServiceProcess(
                "services.worker",
                environment={
                    "KONGFLOW_REDIS_URL": f"redis://127.0.0.1:{redis_of_workers.port}/0",
                    "KONGFLOW_GRPC_TARGET": target,
                    "KONGFLOW_WORKER_TOKEN": token,
                    "KONGFLOW_WORKER_HEALTH_ADDRESS": f"127.0.0.1:{port}",
                    "KONGFLOW_WORKER_DRAIN_TIMEOUT_SECONDS": "5",
                },
                ready_url=f"http://127.0.0.1:{port}/healthz",
                log=directory / f"worker-{number}.log",
            )
            for number, port in enumerate(worker_ports)
        )
        for worker in workers:
            stack.push_async_callback(worker.kill)
            await worker.launch()
        for worker in workers:
            await worker.ready()
        yield FaultStack(
            postgres=postgres,
            redis=redis,
            farm=farm,
            to_postgres=to_postgres,
            redis_of_servers=redis_of_servers,
            redis_of_workers=redis_of_workers,
            to_servers=to_servers,
            to_endpoints=await before(farm.port),
            servers=servers,
            workers=workers,
            pairs=pairs,
            locks={},
            secrets=[token],
        )
