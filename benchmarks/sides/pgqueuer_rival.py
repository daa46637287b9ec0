"""PgQueuer: `python -m benchmarks.sides.pgqueuer_rival install`, `call`, or `work` and a batch size."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, Queries, QueueManager

from benchmarks.sides.commands import DATABASE_VARIABLE, STARTS_VARIABLE, UNNUMBERED, Starts, batches, obey

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTRYPOINT: Final = "noop"


class PgQueuerEnqueuer:
    """Lists in one statement. Lanes are its payload: it has no closer word, so it serialises nothing."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def enqueue(self, lanes: Sequence[str]) -> None:
        """Enqueue one unnumbered job for each of `lanes`."""
        for batch in batches(lanes):
            payloads: list[bytes | None] = [f"{UNNUMBERED} {lane}".encode() for lane in batch]
            await self._queries.enqueue([_ENTRYPOINT] * len(batch), payloads, [0] * len(batch))

    async def enqueue_one(self, number: int) -> None:
        """Enqueue one numbered job."""
        await self._queries.enqueue(_ENTRYPOINT, f"{number} pickup".encode())


async def _connected() -> AsyncpgDriver:
    return AsyncpgDriver(await asyncpg.connect(os.environ[DATABASE_VARIABLE]))


async def _install() -> None:
    await Queries(await _connected()).install()


async def _call() -> None:
    await obey(PgQueuerEnqueuer(Queries(await _connected())))


async def _work(batch_size: int) -> None:
    starts = Starts(os.environ[STARTS_VARIABLE])

    async def noop(job: Job) -> None:
        starts.note(int((job.payload or b"").split()[0]))

    manager = QueueManager(Queries(await _connected()))
    manager.entrypoint(_ENTRYPOINT)(noop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, manager.shutdown.set)
    await manager.run(batch_size=batch_size)


async def _main(purpose: str, *how: str) -> None:
    if purpose == "work":
        await _work(int(how[0]))
    else:
        await {"install": _install, "call": _call}[purpose]()


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
