"""The pair: one endpoints service, its workers, and a caller that enqueues through the product's ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.sides.caller import Caller
from benchmarks.sides.place import database_name, python
from benchmarks.sides.side import DatabaseSide
from services.embedded.development import DevelopmentSetup
from services.embedded.ports import LOOPBACK, free_port
from services.embedded.process import EmbeddedServerError
from services.embedded.secrets import read_or_create_secrets
from services.embedded.up import local_channel
from services.endpoints.store.migrations.runner import upgrade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.sides.place import Place
    from services.embedded.development import Development
    from services.embedded.process import ServerProcess

_NAME: Final = "pair"
# More calls under way, of which more is put together in a transaction.
_TUNED: Final[Mapping[str, str]] = MappingProxyType(
    {"KONGFLOW_QUEUE_MAX_WORKERS": "32", "KONGFLOW_LEDGER_MAX_QUEUE_JOBS_PER_CALL": "800"}
)
_SERVES_WITHIN: Final = timedelta(seconds=60)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)


class Pair(DatabaseSide):
    """KongFlow as it runs for anyone, with one kind more; `workers` processes, the queue `default` served by each.

    Two settings are tuned for throughput, as those of other queues are, unless `is_tuned` is taken back.
    """

    # A queue job that calls nobody is never RUNNING. Condition and order are those of the index `queue_jobs_ring`.
    is_busy = """
    SELECT EXISTS (SELECT FROM (
        SELECT FROM queue_jobs WHERE queue = 'default' AND state = 'AVAILABLE' AND priority > 0
        ORDER BY queue DESC, environment_id DESC, priority DESC, lane DESC LIMIT 1
    ) AS last)
    """
    remove_all = "TRUNCATE queue_jobs, queue_lanes, queue_uniques"

    def __init__(
        self,
        place: Place,
        *,
        name: str = _NAME,
        redis_number: int = 0,
        workers: int = 1,
        most_jobs: int = 10_000,
        database: str | None = None,
        is_tuned: bool = True,
        more_variables: Mapping[str, str] | None = None,
    ) -> None:
        key = database_name(name)
        self.database = database or key
        super().__init__(place.database_url(self.database))
        self.name = name
        self.most_jobs = most_jobs
        self.starts = place.starts(key)
        self.grpc_target = ""
        self.admin_token = ""
        self.development: Development | None = None
        self._key = key
        self._place = place
        self._workers = workers
        self._redis_number = redis_number
        self._more_variables = {**(_TUNED if is_tuned else {}), **(more_variables or {})}
        self._variables = place.variables(key, database=self.database, redis_number=redis_number)
        self.caller = Caller(
            python("benchmarks.sides.pair_caller"),
            log=place.directory / f"{key}-caller.log",
            environment=self._variables,
        )

    async def prepare(self) -> None:
        """Create and migrate the database."""
        await self._place.create_database(self.database)
        await upgrade(self.database_url)

    async def start_workers(self) -> Sequence[ServerProcess]:
        """Start the server and the workers; the server is what rings, so holding it still holds everything still."""
        directory = self._place.directory / self.database
        directory.mkdir(exist_ok=True)
        secrets = read_or_create_secrets(directory, {})
        self.admin_token = secrets.admin_token
        self.grpc_target = f"{LOOPBACK}:{free_port()}"
        common = {
            **self._variables,
            "KONGFLOW_LOG_LEVEL": "warning",
            "KONGFLOW_REDIS_URL": self._place.redis_url(self._redis_number),
            **self._more_variables,
        }
        server = self._place.run(
            f"{self._key}-server",
            python("benchmarks.sides.pair_server"),
            {
                **common,
                "KONGFLOW_EGRESS_ALLOW": "127.0.0.0/8",
                "KONGFLOW_DATABASE_URL": self.database_url,
                "KONGFLOW_GRPC_ADDRESS": self.grpc_target,
                "KONGFLOW_HTTP_ADDRESS": f"{LOOPBACK}:{free_port()}",
                "KONGFLOW_SECRET_KEYS": secrets.secret_keys,
                "KONGFLOW_LOOKUP_PEPPER": secrets.lookup_pepper,
                "KONGFLOW_ADMIN_TOKEN": secrets.admin_token,
            },
        )
        async with local_channel(self.grpc_target) as channel:
            await _serving(channel, server)
            self.development = await DevelopmentSetup(
                channel=channel, admin_token=secrets.admin_token, directory=directory
            ).prepare()
        variables = {
            **common,
            "KONGFLOW_GRPC_TARGET": self.grpc_target,
            "KONGFLOW_WORKER_TOKEN": self.development.worker_token,
        }
        workers = [
            self._place.run(f"{self._key}-worker-{number}", python("services.worker"), variables)
            for number in range(self._workers)
        ]
        return [server, *workers]


async def _serving(channel: grpc.aio.Channel, server: ServerProcess) -> None:
    """Wait until the server says by health that it serves.

    Raises:
        EmbeddedServerError: it ended, or did not serve in time.
    """
    health = health_pb2_grpc.HealthStub(channel).Check
    try:
        async with asyncio.timeout(_SERVES_WITHIN.total_seconds()):
            while not await _serves(health):
                if server.has_ended:
                    raise EmbeddedServerError("The pair's server ended.")
                await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
    except TimeoutError as error:
        raise EmbeddedServerError("The pair's server did not become ready.") from error


async def _serves(
    health: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
) -> bool:
    try:
        answer = await health(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
