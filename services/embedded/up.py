"""The whole of KongFlow on this machine: PostgreSQL, Redis, the endpoints service and one worker."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import grpc
from alembic.util import CommandError as AlembicError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.configuration.file import FILE_VARIABLE
from services.embedded.development import Development, DevelopmentSetup, remember_addresses
from services.embedded.directory import DirectoryLock, failures_in
from services.embedded.ports import LOOPBACK, free_port, require_free_port
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.process import EmbeddedServerError, ServerAwayError
from services.embedded.redis import EmbeddedRedis
from services.embedded.secrets import read_or_create_secrets
from services.embedded.service import Service, last_words
from services.endpoints.store.migrations.runner import upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from services.embedded.secrets import StackSecrets
    from services.embedded.server import EmbeddedServer

DEFAULT_DIRECTORY = Path(".kongflow")
LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
_SERVE_WITHIN = timedelta(seconds=60)
# The parts of a stack speak plaintext on this machine, whatever a shell keeps for the calls to other servers. An empty
# variable wins over the file of KONGFLOW_CONFIG.
_NO_TLS = dict.fromkeys(
    (
        "KONGFLOW_TLS_CERTIFICATE_FILE",
        "KONGFLOW_TLS_KEY_FILE",
        "KONGFLOW_TLS_CLIENT_CA_FILE",
        "KONGFLOW_TLS_CA_FILE",
        "KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE",
        "KONGFLOW_TLS_CLIENT_KEY_FILE",
    ),
    "",
)
# A server that starts here listens within seconds; gRPC's own pause between two attempts to connect grows to minutes.
_CHANNEL_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
_EVERY_INTERFACE = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - recognised, not used


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """What a stack is made of."""

    directory: Path
    """Where everything is kept that a later start finds again; made when missing."""

    grpc_address: str = f"{LOOPBACK}:0"
    """`host:port` of the gRPC server; port 0 takes a free one."""

    http_address: str = f"{LOOPBACK}:0"
    """`host:port` of health and deployment hooks; port 0 takes a free one."""

    postgres_port: int = 0
    """The loopback port of the embedded PostgreSQL; 0 takes a free one."""

    redis_port: int = 0
    """The loopback port of the embedded Redis; 0 takes a free one."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """More `KONGFLOW_*` variables for both services. With KONGFLOW_DATABASE_URL or KONGFLOW_REDIS_URL that server is
    used and not started here. Those about TLS are left out. The file of KONGFLOW_CONFIG is looked for in this process's
    folder, for the services work in another."""

    on_step: Callable[[str], None] = lambda _: None
    """Told, in a few words, what begins now."""


class Stack:
    """A running stack: where it answers, with which credentials, and its two services to stop and start at will."""

    def __init__(
        self,
        *,
        settings: StackSettings,
        database_url: str,
        redis_url: str,
        grpc_address: str,
        http_address: str,
        secrets: StackSecrets,
        servers: Sequence[EmbeddedServer] = (),
    ) -> None:
        self.settings = settings
        self.database_url = database_url
        self.redis_url = redis_url
        self.grpc_target = _reachable(grpc_address)
        self.http_url = f"http://{_reachable(http_address)}"
        self.admin_token = secrets.admin_token
        self.development: Development | None = None
        self._servers = servers
        logs = settings.directory.absolute() / "logs"
        common = {
            "KONGFLOW_LOG_LEVEL": "info",
            **_from_any_folder(settings.variables),
            "KONGFLOW_REDIS_URL": redis_url,
            **_NO_TLS,
        }
        self.server = Service(
            "endpoints",
            log=logs / "endpoints.log",
            variables={
                "KONGFLOW_EGRESS_ALLOW": LOOPBACK_NETWORKS,
                **common,
                "KONGFLOW_DATABASE_URL": database_url,
                "KONGFLOW_GRPC_ADDRESS": grpc_address,
                "KONGFLOW_HTTP_ADDRESS": http_address,
                "KONGFLOW_SECRET_KEYS": secrets.secret_keys,
                "KONGFLOW_LOOKUP_PEPPER": secrets.lookup_pepper,
                "KONGFLOW_ADMIN_TOKEN": secrets.admin_token,
            },
        )
        self._worker_variables = {**common, "KONGFLOW_GRPC_TARGET": self.grpc_target}
        self._worker_log = logs / "worker.log"
        self._worker: Service | None = None

    @property
    def environment(self) -> Development:
        """Return the development environment and its credentials."""
        if self.development is None:
            raise EmbeddedServerError("The stack has not started.")
        return self.development

    @property
    def environment_id(self) -> str:
        """Return the id of the development environment."""
        return self.environment.environment_id

    @property
    def api_key(self) -> str:
        """Return the API key of the development environment, which its endpoints check."""
        return self.environment.api_key

    @property
    def signing_secret(self) -> str:
        """Return what calls to the development environment's endpoints are signed with."""
        return self.environment.signing_secret

    @property
    def service_token(self) -> str:
        """Return a token that may read, write and operate in the development environment's organization."""
        return self.environment.service_token

    @property
    def worker(self) -> Service:
        """Return the worker's process."""
        if self._worker is None:
            raise EmbeddedServerError("The worker has not started.")
        return self._worker

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel to the server; its user closes it."""
        return local_channel(self.grpc_target)

    async def start_server(self) -> None:
        """Start the endpoints service and wait until it says that it serves.

        Raises:
            EmbeddedServerError: it ended, or did not serve within a minute.
        """
        self.server.start()
        async with self.channel() as channel:
            try:
                async with asyncio.timeout(_SERVE_WITHIN.total_seconds()):
                    await _unless_ended(_serving(channel), self.server)
            except TimeoutError as error:
                raise EmbeddedServerError(
                    f"The endpoints service did not become ready: {last_words(self.server.log)}"
                ) from error

    async def prepare_development(self) -> None:
        """Make or find the development environment and its tokens."""
        async with self.channel() as channel:
            setup = DevelopmentSetup(
                channel=channel, admin_token=self.admin_token, directory=self.settings.directory.absolute()
            )
            self.development = await setup.prepare()

    def start_worker(self) -> None:
        """Start the worker; it connects by itself and outlives absences of the server and of Redis."""
        if self._worker is None:
            variables = {**self._worker_variables, "KONGFLOW_WORKER_TOKEN": self.environment.worker_token}
            self._worker = Service("worker", log=self._worker_log, variables=variables)
        self._worker.start()

    async def restart_server(self) -> None:
        """Let the server finish, then start it again on the same addresses and wait until it serves."""
        await self.server.stop()
        await self.start_server()

    async def restart_worker(self) -> None:
        """Let the worker finish, then start it again."""
        await self.worker.stop()
        self.start_worker()

    async def kill_server(self) -> None:
        """End the server as a crash would; `start_server` brings it back."""
        await self.server.kill()

    async def kill_worker(self) -> None:
        """End the worker as a crash would; `start_worker` brings it back."""
        await self.worker.kill()

    async def first_end(self) -> str:
        """Wait until a service, or a server that was started for them, has ended by itself; return a sentence about it.

        The services wait for their servers, however long these are away; here nobody would bring them back.
        """
        ends = [asyncio.create_task(server.told_end()) for server in self._servers]
        ends += [asyncio.create_task(service.ended()) for service in (self.server, self.worker)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return next(end for end in ends if end.done()).result()
        finally:
            for end in ends:
                end.cancel()

    async def stop_services(self) -> None:
        """Stop the worker, then the server. Repeatable."""
        if self._worker is not None:
            await self._worker.stop()
        await self.server.stop()


@asynccontextmanager
async def running_stack(settings: StackSettings) -> AsyncIterator[Stack]:
    """Run a stack until the block ends; then stop the worker, the server, Redis and PostgreSQL, in this order.

    When the block is entered the server serves, the development environment exists and the worker is starting.

    Raises:
        EmbeddedServerError: it cannot start, in one sentence that says why.
    """
    directory = settings.directory.absolute()
    async with AsyncExitStack() as stack:
        with failures_in(directory):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            running = await _start(stack, settings, directory)
        yield running


def local_channel(target: str) -> grpc.aio.Channel:
    """Return a new channel to a server of this machine that may still be starting; its user closes it."""
    return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)


def _from_any_folder(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the `KONGFLOW_*` variables as a process in another folder needs them, the path of a file made absolute."""
    ours = {name: value for name, value in variables.items() if name.startswith("KONGFLOW_")}
    if path := ours.get(FILE_VARIABLE):
        ours[FILE_VARIABLE] = str(Path(path).absolute())
    return ours


async def _start(stack: AsyncExitStack, settings: StackSettings, directory: Path) -> Stack:
    """Start one thing after the other, and have `stack` stop each."""
    lock = DirectoryLock(directory)
    lock.acquire()
    stack.callback(lock.release)
    grpc_address = _free_address(settings.grpc_address, server="The endpoints service (gRPC)")
    http_address = _free_address(settings.http_address, server="The endpoints service (HTTP)")
    database_url, redis_url, servers = await _databases(stack, settings, directory)
    settings.on_step("Migrating the database")
    await _migrate(database_url)
    started = Stack(
        settings=settings,
        database_url=database_url,
        redis_url=redis_url,
        grpc_address=grpc_address,
        http_address=http_address,
        secrets=read_or_create_secrets(directory, settings.variables),
        servers=servers,
    )
    stack.push_async_callback(started.stop_services)
    settings.on_step("Starting the endpoints service")
    await started.start_server()
    settings.on_step("Preparing the development environment")
    await started.prepare_development()
    remember_addresses(directory, server=started.grpc_target, http_url=started.http_url, database_url=database_url)
    settings.on_step("Starting the worker")
    started.start_worker()
    return started


async def _databases(
    stack: AsyncExitStack, settings: StackSettings, directory: Path
) -> tuple[str, str, list[EmbeddedServer]]:
    """Return the addresses of PostgreSQL and Redis, and those of the two that were started here: what is not given."""
    database_url = settings.variables.get("KONGFLOW_DATABASE_URL", "")
    redis_url = settings.variables.get("KONGFLOW_REDIS_URL", "")
    servers: list[EmbeddedServer] = []
    if not database_url:
        settings.on_step("Starting PostgreSQL")
        postgres = EmbeddedPostgres(directory / "postgres", port=settings.postgres_port)
        database_url = (await stack.enter_async_context(postgres)).url
        servers.append(postgres)
    if not redis_url:
        settings.on_step("Starting Redis")
        redis = EmbeddedRedis(directory / "redis", port=settings.redis_port)
        redis_url = (await stack.enter_async_context(redis)).url
        servers.append(redis)
    return database_url, redis_url, servers


async def _migrate(database_url: str) -> None:
    try:
        await upgrade(database_url)
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise ServerAwayError(f"The database cannot be reached: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise EmbeddedServerError(f"The database cannot be migrated: {error}") from error
    except AlembicError as error:
        raise EmbeddedServerError(
            f"The database has a schema that this release does not know ({error}): "
            "start the newer release that wrote it, or choose another directory or database."
        ) from error


async def _serving(channel: grpc.aio.Channel) -> None:
    """Return once the server says by health that it serves."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    async for answer in watch:
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            watch.cancel()
            return


async def _unless_ended(awaited: Coroutine[object, object, None], service: Service) -> None:
    """Wait for `awaited`, and give up with the reason when `service` ends before."""
    wait = asyncio.create_task(awaited)
    end = asyncio.create_task(service.ended())
    try:
        await asyncio.wait([wait, end], return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            raise EmbeddedServerError(end.result())
        await wait
    finally:
        for task in (wait, end):
            task.cancel()
        await asyncio.gather(wait, end, return_exceptions=True)


def _free_address(address: str, *, server: str) -> str:
    """Return `address` with a port that can be listened on.

    Raises:
        EmbeddedServerError: it is no address, or its port is taken.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise EmbeddedServerError(f"{server} needs an address of the form host:port, not {address!r}.")
    if int(port):
        require_free_port(int(port), server=server)
        return address
    return f"{host}:{free_port()}"


def _reachable(address: str) -> str:
    """Return where to call a server that listens on `address`."""
    host, _, port = address.rpartition(":")
    return f"{_EVERY_INTERFACE.get(host, host)}:{port}"
