"""The other job queues, each on the PostgreSQL and the Redis that the pair has."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from benchmarks.sides.caller import Caller
from benchmarks.sides.place import database_name, python
from benchmarks.sides.side import DatabaseSide, Side
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.sides.place import Place
    from services.embedded.process import ServerProcess

_QUEUE: Final = "arq:queue"


class ArqAlone(Side):
    """arq with its own client and its own worker, at a poll delay in seconds."""

    def __init__(self, place: Place, *, name: str, poll_delay: float, redis_number: int, most_jobs: int) -> None:
        super().__init__()
        self.name = name
        self.most_jobs = most_jobs
        key = f"arq_{redis_number}"
        self.starts = place.starts(key)
        self._place = place
        self._key = key
        self._poll_delay = poll_delay
        self._variables = place.variables(key, database="postgres", redis_number=redis_number)
        self._redis = Redis.from_url(place.redis_url(redis_number))
        self.caller = Caller(
            python("benchmarks.sides.arq_alone", "call"),
            log=place.directory / f"{key}-caller.log",
            environment=self._variables,
        )

    async def prepare(self) -> None:
        """Do nothing: Redis needs no tables."""

    async def start_workers(self) -> Sequence[ServerProcess]:
        """Start one worker."""
        command = python("benchmarks.sides.arq_alone", "work", str(self._poll_delay))
        return [self._place.run(f"{self._key}-worker", command, self._variables)]

    async def stop(self) -> None:
        """End every process and look on no more."""
        await super().stop()
        await self._redis.aclose()

    async def is_done(self) -> bool:
        """Tell whether the queue is empty: a message leaves it when its job has ended."""
        return not await self._redis.zcard(_QUEUE)

    async def forget(self) -> None:
        """Delete everything."""
        await self._redis.flushdb()

    async def settle(self) -> None:
        """Do nothing: Redis plans nothing."""


class PythonRival(DatabaseSide):
    """A library on PostgreSQL whose module here can `install`, `call` and `work`."""

    module: str

    def __init__(self, place: Place, *, name: str, most_jobs: int, how: Sequence[str] = ()) -> None:
        database = database_name(name)
        super().__init__(place.database_url(database))
        self.name = name
        self.most_jobs = most_jobs
        self.starts = place.starts(database)
        self._place = place
        self._database = database
        self._how = how
        self._variables = place.variables(database, database=database, redis_number=0)
        self.caller = Caller(
            python(self.module, "call"), log=place.directory / f"{database}-caller.log", environment=self._variables
        )

    async def prepare(self) -> None:
        """Create the database and the library's own tables."""
        await self._place.create_database(self._database)
        log = f"{self._database}-install"
        install = self._place.run(log, python(self.module, "install"), self._variables)
        if await install.ended():
            raise EmbeddedServerError(f"{self.name} was not installed: see {self._place.directory / log}.log.")

    async def start_workers(self) -> Sequence[ServerProcess]:
        """Start one worker."""
        return [self._place.run(f"{self._database}-worker", python(self.module, "work", *self._how), self._variables)]


class PgQueuer(PythonRival):
    """PgQueuer with one queue manager that takes up to `batch_size` jobs at once."""

    module = "benchmarks.sides.pgqueuer_rival"
    is_busy = "SELECT EXISTS (SELECT FROM (SELECT FROM pgqueuer ORDER BY id DESC LIMIT 1) AS last)"
    remove_all = "TRUNCATE pgqueuer, pgqueuer_log"

    def __init__(self, place: Place, *, name: str, batch_size: int, most_jobs: int) -> None:
        super().__init__(place, name=name, most_jobs=most_jobs, how=[str(batch_size)])


class Procrastinate(PythonRival):
    """Procrastinate with one worker."""

    module = "benchmarks.sides.procrastinate_rival"
    is_busy = """
    SELECT EXISTS (SELECT FROM (
        SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY id DESC LIMIT 1
    ) AS last)
    """
    remove_all = "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers"

    def __init__(self, place: Place, *, most_jobs: int) -> None:
        super().__init__(place, name="procrastinate", most_jobs=most_jobs)


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported."""
    return importlib.util.find_spec(package) is not None
