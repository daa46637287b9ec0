"""Both services as real processes that may be killed, frozen and started again on the same port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
import grpc

from services.embedded.process import LAUNCHER
from services.endpoints.app import Listening
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, index_of
from tests.support.pair import ADMIN_TOKEN, LOOKUP_PEPPER, SECRET_KEYS, Pair, state_name
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]

# Much longer than a service drains.
_ENDS_WITHIN: Final = timedelta(minutes=2)

# A test's own channel finds a restarted server as fast as the worker does.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def published_channel(grpc_ports: Iterable[int]) -> grpc.aio.Channel:
    """Return a channel to all servers of this machine, as callers have it who take the published service config."""
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in grpc_ports)
    service_config = (ROOT / "gen/kongflow/v1/service_config.json").read_text()
    return grpc.aio.insecure_channel(target, options=[*CHANNEL_OPTIONS, ("grpc.service_config", service_config)])


class ServiceProcess:
    """One `python -m <module>` that answers `ready_url` with 200 when it is ready; it dies with this process.

    `program` is what Python is given instead of the module.
    """

    def __init__(
        self,
        module: str,
        *,
        environment: Mapping[str, str],
        ready_url: str,
        log: Path,
        program: Sequence[str] | None = None,
    ) -> None:
        self._module = module
        self.program = tuple(program or ("-m", module))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KONGFLOW_")},
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
            **environment,
        }
        self._ready_url = ready_url
        self._log = log
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start and return when it is ready."""
        await self.launch()
        await self.ready()

    async def launch(self, *, crash_at: str = "") -> None:
        """Start and return at once; `crash_at` names where it ends itself."""
        assert self._process is None
        tied = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(signal.SIGKILL)), "", "", "")
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(*tied, sys.executable, *self.program),
                env={**self._environment, **({"KONGFLOW_CRASH_AT": crash_at} if crash_at else {})},
                stdout=output,
                stderr=output,
            )

    async def ready(self, *, within: timedelta = timedelta(seconds=60)) -> None:
        """Return when it is ready."""
        async with aiohttp.ClientSession() as http:
            await eventually(lambda: self._is_ready(http), within=within)

    async def http_status(self, path: str) -> int | None:
        """Return what it answers on another path of the same port; None when nobody listens."""
        url = f"http://{urlsplit(self._ready_url).netloc}{path}"
        try:
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                return answer.status
        except aiohttp.ClientError:
            return None

    async def not_ready_text(self) -> str:
        """Return why it is not ready; empty when it is."""
        async with aiohttp.ClientSession() as http, http.get(self._ready_url) as answer:
            return "" if answer.status == 200 else await answer.text()

    async def ended(self, *, within: timedelta) -> int | None:
        """Return its exit status once it has ended by itself, or None when it has not within that time."""
        assert self._process is not None
        try:
            async with asyncio.timeout(within.total_seconds()):
                status = await self._process.wait()
        except TimeoutError:
            return None
        self._process = None
        return status

    async def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def terminate(self) -> int:
        """Ask it to end and return its exit status; what does not end is killed."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN.total_seconds()):
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory it ever had (Linux)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def log_text(self) -> str:
        """Return what it has said; nothing when that went into a pipe."""
        return self._log.read_text(errors="replace") if self._log.is_file() else ""

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"{self._module} ended with {self._process.returncode}:\n{self.log_text()}")
        try:
            async with http.get(self._ready_url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@dataclass(frozen=True, slots=True)
class Processes:
    """A running server and a running worker, and how to call the server."""

    server: ServiceProcess
    worker: ServiceProcess
    pair: Pair

    async def index(self) -> None:
        """Have an endpoint of a new tenant indexed, which takes both services and Redis."""
        tenant = await self.pair.new_tenant()
        client = self.pair.client(tenant.api_key)
        async with FakeEndpoint(index=index_of(10), api_key=tenant.api_key) as endpoint:
            created = await client.create_endpoint(tenant, endpoint.url)
            assert state_name((await client.watch(created.index_id))[-1]) == "SUCCEEDED"


@asynccontextmanager
async def running_processes(
    *, database_url: str, redis_url: str, directory: Path, **server_settings: Any
) -> AsyncIterator[Processes]:
    """Run both services as processes of their own until the block ends; their logs are written in `directory`.

    `server_settings` are fields of `EndpointsSettings`.
    """
    grpc_port, http_port, worker_port = free_ports(3)
    server = ServiceProcess(
        "services.endpoints",
        environment=server_environment(
            database_url=database_url, redis_url=redis_url, grpc_port=grpc_port, http_port=http_port, **server_settings
        ),
        ready_url=f"http://127.0.0.1:{http_port}/readyz",
        log=directory / "server.log",
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.kill)
        await server.start()
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=CHANNEL_OPTIONS)
        )
        pair = Pair(
            listening=Listening(grpc_port, http_port, None),
            channel=channel,
            database_url=database_url,
            redis_url=redis_url,
            stop=asyncio.Event(),
        )
        worker = ServiceProcess(
            "services.worker",
            environment={
                "KONGFLOW_REDIS_URL": redis_url,
                "KONGFLOW_GRPC_TARGET": pair.grpc_target,
                "KONGFLOW_WORKER_TOKEN": await pair.new_worker_token(),
                "KONGFLOW_WORKER_HEALTH_ADDRESS": f"127.0.0.1:{worker_port}",
            },
            ready_url=f"http://127.0.0.1:{worker_port}/healthz",
            log=directory / "worker.log",
        )
        stack.push_async_callback(worker.kill)
        await worker.start()
        yield Processes(server, worker, pair)


def server_environment(
    *, database_url: str, redis_url: str, grpc_port: int, http_port: int, **settings: Any
) -> dict[str, str]:
    """Return the variables of a server that may call this machine; `settings` are fields of `EndpointsSettings`."""
    return {
        "KONGFLOW_DATABASE_URL": database_url,
        "KONGFLOW_REDIS_URL": redis_url,
        "KONGFLOW_GRPC_ADDRESS": f"127.0.0.1:{grpc_port}",
        "KONGFLOW_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
        "KONGFLOW_SECRET_KEYS": SECRET_KEYS,
        "KONGFLOW_LOOKUP_PEPPER": LOOKUP_PEPPER,
        "KONGFLOW_ADMIN_TOKEN": ADMIN_TOKEN,
        "KONGFLOW_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
        **{f"KONGFLOW_{name.upper()}": str(value) for name, value in settings.items()},
    }
