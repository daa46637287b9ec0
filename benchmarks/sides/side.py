"""One side of a comparison: a caller, workers, and how to see that everything is done."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg
import psutil

from services.embedded.process import EmbeddedServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.sides.caller import Caller

_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=10)
_DONE_WITHIN: Final = timedelta(minutes=3)
_STOP_WITHIN: Final = timedelta(seconds=10)
_WARM_UP_JOBS: Final = 200
_WARM_UP_LANES: Final = 20


class Side(ABC):
    """Enqueues with one process and carries out with others; `most_jobs` is as many as it is given at once.

    `starts` is a file in which the workers note when numbered jobs began.
    """

    name: str
    most_jobs: int
    caller: Caller
    starts: Path

    @abstractmethod
    async def prepare(self) -> None:
        """Make what the side needs in PostgreSQL, once."""

    @abstractmethod
    async def start_workers(self) -> Sequence[ServerProcess]:
        """Start what carries out and return the processes that `paused` holds still."""

    @abstractmethod
    async def is_done(self) -> bool:
        """Tell whether nothing waits and nothing runs."""

    @abstractmethod
    async def forget(self) -> None:
        """Delete every job."""

    @abstractmethod
    async def settle(self) -> None:
        """Let the planner see the tables as they are after a while of use."""

    def __init__(self) -> None:
        self._processes: Sequence[ServerProcess] = ()

    async def start(self) -> None:
        """Start everything, carry out a few jobs so that all is connected and compiled, and delete them."""
        await self.caller.start()
        self._processes = await self.start_workers()
        await self.caller.enqueue(_WARM_UP_JOBS, lanes=_WARM_UP_LANES)
        await self.done()
        await self.settle()

    async def stop(self) -> None:
        """End every process. Repeatable."""
        for process in self._processes:
            # A process that was stopped hears nothing.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
        await self.caller.stop()
        await asyncio.gather(*(process.stop(grace=_STOP_WITHIN) for process in self._processes))
        self._processes = ()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the workers still, by SIGSTOP, while the block lasts."""
        for process in self._processes:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self._processes:
                os.kill(process.pid, signal.SIGCONT)

    async def done(self) -> float:
        """Wait until nothing is left to do and return when that was seen, in seconds since 1970.

        Raises:
            EmbeddedServerError: a worker ended, or three minutes were not enough.
        """
        try:
            async with asyncio.timeout(_DONE_WITHIN.total_seconds()):
                while not await self.is_done():
                    self._require_workers()
                    await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        except TimeoutError as error:
            raise EmbeddedServerError(f"{self.name} was not done within {_DONE_WITHIN}.") from error
        return time.time()

    def _require_workers(self) -> None:
        for process in self._processes:
            if process.has_ended:
                raise EmbeddedServerError(f"A worker of {self.name} ended.")

    def clock(self) -> float:
        """Return the machine's clock, in seconds since 1970."""
        return time.time()

    def processor_seconds(self) -> float:
        """Return how much processor time the workers (of the pair: its server, too) have taken."""
        return sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in self._processes)

    def started_at(self) -> Mapping[int, float]:
        """Return when each numbered job first began, and forget them."""
        first: dict[int, float] = {}
        for line in self.starts.read_text(encoding="ascii").splitlines() if self.starts.exists() else ():
            number, at = line.split()
            first.setdefault(int(number), float(at))
        if self.starts.exists():
            os.truncate(self.starts, 0)
        return first


class DatabaseSide(Side):
    """A side whose jobs are rows of a database of its own."""

    is_busy: str
    """The statement that says whether anything waits or runs, by the newest that is left.

    From the oldest on it would pass by all that is done already, at the expense of the side that is measured.
    """

    remove_all: str
    """The statement that deletes every job."""

    def __init__(self, database_url: str) -> None:
        super().__init__()
        self.database_url = database_url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def connected(self) -> asyncpg.Connection[asyncpg.Record]:
        """Return the one connection that looks on."""
        if self._connection is None:
            self._connection = await asyncpg.connect(self.database_url)
        return self._connection

    async def stop(self) -> None:
        """End every process and look on no more."""
        await super().stop()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def is_done(self) -> bool:
        """Tell whether nothing waits and nothing runs."""
        return not await (await self.connected()).fetchval(self.is_busy)

    async def forget(self) -> None:
        """Delete every job, again when what a side does by itself came in between."""
        connection = await self.connected()
        while True:
            try:
                await connection.execute(self.remove_all)
            except asyncpg.DeadlockDetectedError:
                continue
            return

    async def settle(self) -> None:
        """Gather statistics."""
        await (await self.connected()).execute("ANALYZE")
