"""What the processes of a side have in common: the caller's commands, and the file in which workers note starts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STARTS_VARIABLE: Final = "BENCHMARK_STARTS"
DATABASE_VARIABLE: Final = "BENCHMARK_DATABASE_URL"
REDIS_VARIABLE: Final = "BENCHMARK_REDIS_URL"
UNNUMBERED: Final = -1
BATCH: Final = 1000


class Enqueuer(Protocol):
    """Enqueues jobs that do nothing, by the means its library has for it."""

    async def enqueue(self, lanes: Sequence[str]) -> None:
        """Enqueue one unnumbered job in each of `lanes`, which may repeat; return when all are committed."""
        ...

    async def enqueue_one(self, number: int) -> None:
        """Enqueue one job whose start is noted under `number`; return when it is committed."""
        ...


class Starts:
    """Notes when numbered jobs begin, one line each, in a file of this worker."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, number: int) -> None:
        """Write that job `number` begins now; an unnumbered one leaves no line."""
        if number != UNNUMBERED:
            os.write(self._file, f"{number} {time.time()}\n".encode())


def lane_of_each(jobs: int, lanes: int) -> list[str]:
    """Return a lane's name for each of `jobs`, in turn."""
    return [f"lane-{number % lanes:05}" for number in range(jobs)]


def batches(lanes: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    """Cut a bulk into what a caller would send at once."""
    for start in range(0, len(lanes), size):
        yield lanes[start : start + size]


async def obey(enqueuer: Enqueuer) -> None:
    """Carry out the commands on the standard input until it ends.

    `{"jobs": n, "lanes": m}` enqueues n jobs in m lanes and answers `started` and `ended`;
    `{"pickups": n, "per_second": r}` enqueues n numbered jobs at that rate and answers when each was `committed`.
    """
    _answer({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if "jobs" in command:
            _answer(await _bulk(enqueuer, lane_of_each(command["jobs"], command["lanes"])))
        else:
            _answer(await _paced(enqueuer, command["pickups"], command["per_second"]))


async def _bulk(enqueuer: Enqueuer, lanes: Sequence[str]) -> dict[str, Any]:
    started = time.time()
    await enqueuer.enqueue(lanes)
    return {"started": started, "ended": time.time()}


async def _paced(enqueuer: Enqueuer, pickups: int, per_second: float) -> dict[str, Any]:
    committed = []
    first = time.monotonic()
    for number in range(pickups):
        await asyncio.sleep(max(0.0, first + number / per_second - time.monotonic()))
        await enqueuer.enqueue_one(number)
        committed.append(time.time())
    return {"committed": committed}


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
