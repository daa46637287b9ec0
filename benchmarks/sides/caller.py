"""Speaks to the process that enqueues for a side."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MOST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Enqueued:
    """When a bulk began and when all of it was committed, in seconds since 1970."""

    started: float
    ended: float


class Caller:
    """One caller process; it ends when its standard input does, so it outlives nobody."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and wait until it is connected.

        Raises:
            EmbeddedServerError: it ended before.
        """
        with self._log.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=errors, env=self._environment, limit=_MOST_BYTES
            )
        await self._read()

    async def enqueue(self, jobs: int, *, lanes: int) -> Enqueued:
        """Enqueue a bulk of unnumbered jobs, spread over lanes."""
        answer = await self._ask({"jobs": jobs, "lanes": lanes})
        return Enqueued(answer["started"], answer["ended"])

    async def enqueue_paced(self, pickups: int, *, per_second: float) -> Sequence[float]:
        """Enqueue numbered jobs one by one and return when each was committed, in the order of their numbers."""
        return [float(at) for at in (await self._ask({"pickups": pickups, "per_second": per_second}))["committed"]]

    async def stop(self) -> None:
        """End the process. Repeatable."""
        if self._process is not None:
            self._process.stdin.close()  # type: ignore[union-attr] # it was started with a pipe
            await self._process.wait()
            self._process = None

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        process.stdin.write(json.dumps(command).encode() + b"\n")  # type: ignore[union-attr] # as above
        return await self._read()

    async def _read(self) -> dict[str, Any]:
        line = await self._running().stdout.readline()  # type: ignore[union-attr] # as above
        if not line:
            raise EmbeddedServerError(f"A caller ended: {self._log.read_text(encoding='utf-8', errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise EmbeddedServerError("A caller was not started.")
        return self._process
