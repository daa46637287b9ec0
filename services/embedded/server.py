"""What the embedded servers have in common: a locked directory, a port, and a process that is awaited."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Self

from services.embedded.directory import DirectoryLock
from services.embedded.ports import free_port, require_free_port
from services.embedded.process import EmbeddedServerError, status_text

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from services.embedded.process import ServerProcess

_LOOK_AGAIN_AFTER = timedelta(milliseconds=20)
_FREE_PORT_TRIES = 5


class EmbeddedServer(ABC):
    """Runs one server for as long as it is entered.

    `directory` (made when missing) is locked meanwhile and holds the log of the last start. `port` 0 means a free one,
    and another one when somebody takes it first.
    """

    NAME: ClassVar[str]
    START_WITHIN: ClassVar[timedelta]
    STOP_WITHIN: ClassVar[timedelta]

    def __init__(self, directory: Path, *, port: int) -> None:
        self._directory = directory.absolute()
        self._wanted_port = port
        self._port = port
        self._lock = DirectoryLock(self._directory)
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        """Return the loopback port the server listens on."""
        return self._port

    @property
    def log(self) -> Path:
        """Return the file that holds what the server said since its last start."""
        return self._directory / f"{self.NAME.lower()}.log"

    @property
    def pid(self) -> int:
        """Return the process id of the server.

        Raises:
            EmbeddedServerError: it is not running.
        """
        return self._running().pid

    async def start(self) -> None:
        """Start the server and wait until it can be used.

        Raises:
            EmbeddedServerError: the port is taken, another process uses the directory, what is in it cannot be used,
                or the server ended by itself.
        """
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            await self._prepare()
            await self._start_on_a_port()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server in good order, or by force when it takes too long. Repeatable."""
        if self._process is not None:
            await self._process.stop(grace=self.STOP_WITHIN)
            self._process = None
        self._lock.release()

    async def ended(self) -> int:
        """Wait until the server has ended, however that came, and return its exit status (negative: a signal).

        Raises:
            EmbeddedServerError: it is not running.
        """
        return await self._running().ended()

    async def told_end(self) -> str:
        """Wait until the server has ended and return a sentence that says so, with the last line of its log.

        Raises:
            EmbeddedServerError: it is not running.
        """
        status = await self.ended()
        return f"{self.NAME} ended ({status_text(status)}): {last_line(self.log)} (see {self.log})"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    async def _prepare(self) -> None:
        """Make in the directory what the server needs."""

    @abstractmethod
    def _launch(self) -> ServerProcess:
        """Start the process, on the port that is free now."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Tell whether the server can be used."""

    def _telling_line(self) -> str:
        """Return the line of the log that says why the server ended: the last one."""
        return last_line(self.log)

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise EmbeddedServerError(f"{self.NAME} is not running.")
        return self._process

    async def _start_on_a_port(self) -> None:
        if self._wanted_port:
            require_free_port(self._wanted_port, server=self.NAME)
        tries = 1 if self._wanted_port else _FREE_PORT_TRIES
        for remaining in reversed(range(tries)):
            self._port = self._wanted_port or free_port()
            self._process = self._launch()
            try:
                await self._wait_until_ready(self._process)
            except EmbeddedServerError:
                if not (remaining and "Address already in use" in _text_of(self.log)):
                    raise
            else:
                return

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        try:
            async with asyncio.timeout(self.START_WITHIN.total_seconds()):
                while not await self._is_ready():
                    if process.has_ended:
                        raise EmbeddedServerError(f"{self.NAME} did not start: {self._telling_line()}")
                    await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        except TimeoutError as error:
            await process.stop(grace=timedelta())
            seconds = self.START_WITHIN.total_seconds()
            raise EmbeddedServerError(
                f"{self.NAME} gave no answer within {seconds:.0f} s: {self._telling_line()}"
            ) from error


def last_line(log: Path, *, marks: tuple[str, ...] = ()) -> str:
    """Return the last line of a log that holds one of `marks`, in any case; else the last; else where the log is."""
    said = [line.strip() for line in _text_of(log).split("\n") if line.strip()]
    telling = [line for line in said if any(mark in line.lower() for mark in marks)]
    return (telling or said or [f"see {log}"])[-1]


def _text_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
