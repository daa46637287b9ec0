"""Procrastinate: `python -m benchmarks.sides.procrastinate_rival install`, `call`, or `work`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop
from procrastinate import App, PsycopgConnector

from benchmarks.sides.commands import DATABASE_VARIABLE, STARTS_VARIABLE, UNNUMBERED, Starts, batches, obey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate.tasks import Task

_CONCURRENCY: Final = 20


class ProcrastinateEnqueuer:
    """Batches in one statement. Lanes are arguments: its locks would serialise, which costs it more than it has."""

    def __init__(self, task: Task[Any, Any, Any]) -> None:
        self._task = task

    async def enqueue(self, lanes: Sequence[str]) -> None:
        """Enqueue one unnumbered job for each of `lanes`."""
        for batch in batches(lanes):
            jobs: list[dict[str, Any]] = [{"number": UNNUMBERED, "lane": lane} for lane in batch]
            await self._task.batch_defer_async(*jobs)

    async def enqueue_one(self, number: int) -> None:
        """Enqueue one numbered job."""
        await self._task.defer_async(number=number, lane="pickup")


async def _main(purpose: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=os.environ[DATABASE_VARIABLE]))
    async with app.open_async():
        if purpose == "install":
            await app.schema_manager.apply_schema_async()
            return
        starts = Starts(os.environ[STARTS_VARIABLE])

        async def noop(number: int, lane: str) -> None:  # noqa: ARG001 - the lane travels, as everywhere
            starts.note(number)

        task = app.task(name="noop")(noop)
        if purpose == "call":
            await obey(ProcrastinateEnqueuer(task))
        else:
            await app.run_worker_async(concurrency=_CONCURRENCY)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
