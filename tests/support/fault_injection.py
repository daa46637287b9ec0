"""Carries out the faults of a schedule on a running stack; each returns when what it broke is whole again."""

from __future__ import annotations

import asyncio
import pickle
import random
import uuid
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgpack
from redis.exceptions import RedisError

from services.worker.message import queue_key
from tests.support.passing import lasting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.support.fault_load import IndexLoad
    from tests.support.fault_schedule import Fault
    from tests.support.fault_stack import FaultStack
    from tests.support.processes import ServiceProcess

CRASH_STATUS: Final = 70
_CRASHES_WITHIN: Final = timedelta(seconds=6)
_DOUBLES: Final = 100
_LOCKED: Final = ("queue_jobs", "queue_lanes", "job_versions", "endpoint_indexes", "queue_uniques")


class Evidence:
    """Unpickled, it leaves a file behind: the proof that a message ran code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.path).touch, (self.path,)


class Injector:
    """Knows how each kind of fault is done."""

    def __init__(self, stack: FaultStack, load: IndexLoad, *, evidence: Path) -> None:
        self._stack = stack
        self._load = load
        self.evidence = evidence
        self.crashes = 0
        self.done = 0

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out one round and return when everything is whole again."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._at_its_time(fault))
        await self._stack.heal()

    async def _at_its_time(self, fault: Fault) -> None:
        await lasting(fault.at)
        await getattr(self, fault.kind)(fault)
        self.done += 1

    @asynccontextmanager
    async def _one(self, name: str, processes: Sequence[ServiceProcess], fault: Fault) -> AsyncIterator[ServiceProcess]:
        number = fault.target % len(processes)
        async with self._stack.lock(f"{name} {number}"):
            yield processes[number]

    @asynccontextmanager
    async def _all(self, name: str, processes: Sequence[ServiceProcess]) -> AsyncIterator[None]:
        locks = [self._stack.lock(f"{name} {number}") for number in range(len(processes))]
        for lock in locks:
            await lock.acquire()
        try:
            yield
        finally:
            for lock in locks:
                lock.release()

    # Processes.

    async def server_killed(self, fault: Fault) -> None:
        async with self._one("server", self._stack.servers, fault) as server:
            await _kill(server, fault.lasts)

    async def worker_killed(self, fault: Fault) -> None:
        async with self._one("worker", self._stack.workers, fault) as worker:
            await _kill(worker, fault.lasts)

    async def all_servers_killed(self, fault: Fault) -> None:
        async with self._all("server", self._stack.servers):
            await asyncio.gather(*(_kill(server, fault.lasts) for server in self._stack.servers))

    async def all_workers_gone(self, fault: Fault) -> None:
        async with self._all("worker", self._stack.workers):
            await asyncio.gather(*(_kill(worker, fault.lasts) for worker in self._stack.workers))

    async def server_frozen(self, fault: Fault) -> None:
        async with self._one("server", self._stack.servers, fault) as server:
            await _freeze(server, fault.lasts)

    async def server_frozen_past_its_lease(self, fault: Fault) -> None:
        await self.server_frozen(fault)

    async def worker_frozen(self, fault: Fault) -> None:
        async with self._one("worker", self._stack.workers, fault) as worker:
            await _freeze(worker, fault.lasts)

    async def server_restarted(self, fault: Fault) -> None:
        async with self._one("server", self._stack.servers, fault) as server:
            await _restart(server, fault.lasts)

    async def worker_restarted(self, fault: Fault) -> None:
        async with self._one("worker", self._stack.workers, fault) as worker:
            await _restart(worker, fault.lasts)

    async def server_crashes(self, fault: Fault) -> None:
        async with self._one("server", self._stack.servers, fault) as server:
            await self._crash(server, fault.place)

    async def worker_crashes(self, fault: Fault) -> None:
        async with self._one("worker", self._stack.workers, fault) as worker:
            await self._crash(worker, fault.place)

    async def _crash(self, process: ServiceProcess, place: str) -> None:
        """Have the process end itself at a place; kill it when it never gets there."""
        await process.kill()
        await process.launch(crash_at=place)
        status = await process.ended(within=_CRASHES_WITHIN)
        self.crashes += status == CRASH_STATUS
        await process.kill()
        await process.start()

    # Redis.

    async def redis_restarts_empty(self, fault: Fault) -> None:
        async with self._stack.lock("redis"):
            await self._stack.redis.kill()
            await lasting(fault.lasts)
            await self._stack.redis.start()

    async def redis_flushed(self, _fault: Fault) -> None:
        async with self._stack.lock("redis"), self._stack.redis_client() as redis:
            await redis.flushall()

    async def redis_frozen(self, fault: Fault) -> None:
        async with self._stack.lock("redis"):
            self._stack.redis.freeze()
            await lasting(fault.lasts)
            self._stack.redis.thaw()

    async def redis_is_a_black_hole(self, fault: Fault) -> None:
        async with self._stack.lock("to redis"):
            self._stack.redis_of_servers.black_hole()
            await lasting(fault.lasts)
            self._stack.redis_of_servers.heal()

    async def redis_is_a_black_hole_to_workers(self, fault: Fault) -> None:
        async with self._stack.lock("workers to redis"):
            self._stack.redis_of_workers.black_hole()
            await lasting(fault.lasts)
            self._stack.redis_of_workers.heal()

    async def redis_is_slow(self, fault: Fault) -> None:
        async with self._stack.lock("to redis"), self._stack.lock("workers to redis"):
            for proxy in (self._stack.redis_of_servers, self._stack.redis_of_workers):
                proxy.slow_down(timedelta(milliseconds=500))
            await lasting(fault.lasts)
            for proxy in (self._stack.redis_of_servers, self._stack.redis_of_workers):
                proxy.heal()

    async def redis_drips(self, fault: Fault) -> None:
        async with self._stack.lock("workers to redis"):
            self._stack.redis_of_workers.slow_down(timedelta(milliseconds=2), chunk_bytes=1)
            await lasting(fault.lasts)
            self._stack.redis_of_workers.heal()

    async def redis_is_cut(self, fault: Fault) -> None:
        async with self._stack.lock("to redis"), self._stack.lock("workers to redis"):
            for proxy in (self._stack.redis_of_servers, self._stack.redis_of_workers):
                proxy.refuse()
            await lasting(fault.lasts)
            for proxy in (self._stack.redis_of_servers, self._stack.redis_of_workers):
                proxy.heal()

    async def redis_is_full(self, fault: Fault) -> None:
        await self._short_of_memory("noeviction", fault)

    async def redis_evicts(self, fault: Fault) -> None:
        await self._short_of_memory("allkeys-lru", fault)

    async def _short_of_memory(self, policy: str, fault: Fault) -> None:
        async with self._stack.lock("redis"), self._stack.redis_client() as redis:
            await redis.config_set("maxmemory-policy", policy)
            await redis.config_set("maxmemory", "1")
            await lasting(fault.lasts)
            await redis.config_set("maxmemory", "0")
            await redis.config_set("maxmemory-policy", "noeviction")

    # PostgreSQL.

    async def postgres_restarts(self, fault: Fault) -> None:
        async with self._stack.lock("postgres"):
            await self._stack.postgres.crash()
            await lasting(fault.lasts)
            await self._stack.postgres.start()

    async def postgres_ends_sessions(self, _fault: Fault) -> None:
        await self._sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kongflow%'"
            " AND random() < 0.7"
        )

    async def postgres_is_silent(self, fault: Fault) -> None:
        async with self._stack.lock("to postgres"):
            self._stack.to_postgres.black_hole()
            await lasting(fault.lasts)
            self._stack.to_postgres.heal()

    async def postgres_is_cut(self, fault: Fault) -> None:
        async with self._stack.lock("to postgres"):
            self._stack.to_postgres.refuse()
            await lasting(fault.lasts)
            self._stack.to_postgres.heal()

    async def postgres_is_cut_in_an_answer(self, fault: Fault) -> None:
        async with self._stack.lock("to postgres"):
            self._stack.to_postgres.cut_after(fault.target * 10)
            await lasting(fault.lasts)
            self._stack.to_postgres.heal()

    async def postgres_is_slow(self, fault: Fault) -> None:
        async with self._stack.lock("to postgres"):
            self._stack.to_postgres.slow_down(timedelta(milliseconds=20))
            await lasting(fault.lasts)
            self._stack.to_postgres.heal()

    async def lock_is_held(self, fault: Fault) -> None:
        table = _LOCKED[fault.target % len(_LOCKED)]
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection = await asyncpg.connect(self._stack.postgres.url)
            try:
                async with connection.transaction():
                    await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                    await lasting(fault.lasts)
            finally:
                connection.terminate()

    async def database_gives_way(self, fault: Fault) -> None:
        sqlstate = ("40001", "40P01", "57014")[fault.target % 3]
        await self._sql("INSERT INTO audit_obstacles VALUES ($1, 0.5)", sqlstate)
        await lasting(fault.lasts)
        await self._sql("DELETE FROM audit_obstacles")

    async def _sql(self, query: str, *arguments: Any) -> None:
        """Run a statement once PostgreSQL is there, also when another fault takes it away in between."""
        while True:
            async with self._stack.lock("postgres"):
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await self._stack.postgres.fetch(query, *arguments)
                    return
            await lasting(timedelta(milliseconds=100))

    # Calls back and endpoints.

    async def calls_back_are_cut(self, fault: Fault) -> None:
        number = fault.target % len(self._stack.to_servers)
        async with self._stack.lock(f"to server {number}"):
            self._stack.to_servers[number].refuse()
            await lasting(fault.lasts)
            self._stack.to_servers[number].heal()

    async def calls_back_are_lost(self, fault: Fault) -> None:
        number = fault.target % len(self._stack.to_servers)
        async with self._stack.lock(f"to server {number}"):
            self._stack.to_servers[number].black_hole()
            await lasting(fault.lasts)
            self._stack.to_servers[number].heal()

    async def calls_back_are_slow(self, fault: Fault) -> None:
        number = fault.target % len(self._stack.to_servers)
        async with self._stack.lock(f"to server {number}"):
            self._stack.to_servers[number].slow_down(timedelta(milliseconds=200))
            await lasting(fault.lasts)
            self._stack.to_servers[number].heal()

    async def endpoints_are_cut(self, fault: Fault) -> None:
        async with self._stack.lock("to endpoints"):
            self._stack.to_endpoints.refuse()
            await lasting(fault.lasts)
            self._stack.to_endpoints.heal()

    async def endpoints_drip(self, fault: Fault) -> None:
        async with self._stack.lock("to endpoints"):
            self._stack.to_endpoints.slow_down(timedelta(milliseconds=5), chunk_bytes=64)
            await lasting(fault.lasts)
            self._stack.to_endpoints.heal()

    async def endpoints_hang(self, fault: Fault) -> None:
        async with self._stack.lock("endpoints"):
            self._stack.farm.answers.clear()
            await lasting(fault.lasts)
            self._stack.farm.answers.set()

    async def endpoints_fail(self, fault: Fault) -> None:
        async with self._stack.lock("endpoints"):
            self._stack.farm.failing = True
            await lasting(fault.lasts)
            self._stack.farm.failing = False

    async def endpoint_deleted(self, fault: Fault) -> None:
        await self._load.delete_and_replace(fault.target)

    # Messages.

    async def forged_messages(self, fault: Fault) -> None:
        real = _message("default", ["endpoint-forged"])
        bodies = [
            pickle.dumps(Evidence(self.evidence)),
            real[: len(real) // 2],
            random.Random(fault.target).randbytes(600 * 1024),  # noqa: S311 - any bytes will do
            _message("default", ["endpoint-forged"], version=99),
            _message("execution", ["endpoint-forged"]),
            b"",
        ]
        await self._push("default", bodies)

    async def doubled_messages(self, _fault: Fault) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            rows = await self._stack.postgres.fetch("SELECT queue, lane FROM queue_lanes ORDER BY queue, lane LIMIT 5")
            for row in rows:
                await self._push(row["queue"], [_message(row["queue"], [row["lane"]])] * _DOUBLES)

    async def unknown_kind(self, fault: Fault) -> None:
        await self._sql(
            "INSERT INTO queue_jobs (id, environment_id, kind, args, queue, lane, priority, state, max_attempts)"
            " SELECT $1, environment_id, 'unknownToAll', '{}', 'default', 'endpoint-' || id, 1, 'AVAILABLE', 3"
            " FROM endpoints ORDER BY id OFFSET $2 % (SELECT count(*) FROM endpoints) LIMIT 1"
            " ON CONFLICT DO NOTHING",
            uuid.uuid5(uuid.NAMESPACE_OID, repr(fault)),
            fault.target,
        )

    async def _push(self, queue: str, bodies: Sequence[bytes]) -> None:
        with suppress(RedisError, OSError):
            async with self._stack.redis_client() as redis:
                await push_messages(redis, queue, bodies)


async def push_messages(redis: Any, queue: str, bodies: Sequence[bytes]) -> None:
    """Put bytes where a worker looks for messages."""
    async with redis.pipeline(transaction=False) as pipeline:
        for body in bodies:
            name = f"forged-{uuid.uuid4().hex}"
            if body:
                pipeline.set(f"arq:job:{name}", body)
            pipeline.zadd(queue_key(queue), {name: 1})
        await pipeline.execute()


def _message(queue: str, lanes: Sequence[str], *, version: int = 1) -> bytes:
    body: bytes = msgpack.packb(
        {"t": None, "f": "run_queue_jobs", "a": [version, queue, list(lanes)], "k": {}, "et": 1}
    )
    return body


async def _kill(process: ServiceProcess, absence: timedelta) -> None:
    await process.kill()
    await lasting(absence)
    await process.start()


async def _freeze(process: ServiceProcess, duration: timedelta) -> None:
    process.freeze()
    await lasting(duration)
    process.thaw()


async def _restart(process: ServiceProcess, absence: timedelta) -> None:
    await process.terminate()
    await lasting(absence)
    await process.start()
