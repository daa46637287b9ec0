"""arq without KongFlow: `python -m benchmarks.sides.arq_alone call`, or `work` and a poll delay in seconds."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import uvloop
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import Worker, func

from benchmarks.sides.commands import REDIS_VARIABLE, STARTS_VARIABLE, UNNUMBERED, Starts, batches, obey

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME: Final = "noop"
_MAX_JOBS: Final = 100
_AT_ONCE: Final = 200


class ArqEnqueuer:
    """Many single enqueues at once, over as many connections: arq has no bulk of its own. It has no lanes either."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def enqueue(self, lanes: Sequence[str]) -> None:
        """Enqueue one unnumbered job for each of `lanes`."""
        for batch in batches(lanes, _AT_ONCE):
            await asyncio.gather(*(self._redis.enqueue_job(_NAME, UNNUMBERED, lane) for lane in batch))

    async def enqueue_one(self, number: int) -> None:
        """Enqueue one numbered job."""
        await self._redis.enqueue_job(_NAME, number, "pickup")


async def _call() -> None:
    redis = await create_pool(RedisSettings.from_dsn(os.environ[REDIS_VARIABLE]))
    try:
        await obey(ArqEnqueuer(redis))
    finally:
        await redis.aclose()


async def _work(poll_delay: float) -> None:
    starts = Starts(os.environ[STARTS_VARIABLE])

    async def noop(_context: dict[Any, Any], number: int, _lane: str) -> None:
        starts.note(number)

    worker = Worker(
        [func(cast("Any", noop), name=_NAME)],
        redis_settings=RedisSettings.from_dsn(os.environ[REDIS_VARIABLE]),
        max_jobs=_MAX_JOBS,
        poll_delay=poll_delay,
        keep_result=0,
    )
    try:
        # SIGTERM cancels this task of arq's own.
        with suppress(asyncio.CancelledError):
            await worker.async_run()
    finally:
        await worker.close()


if __name__ == "__main__":
    uvloop.run(_call() if sys.argv[1] == "call" else _work(float(sys.argv[2])))
