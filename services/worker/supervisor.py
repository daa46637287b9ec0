"""Keeps a consumer going while Redis comes and goes."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

import structlog
from redis.exceptions import RedisError

from services.worker.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable


class Consumer(Protocol):
    """What is kept going."""

    @property
    def pops(self) -> int:
        """Return how many of its pops Redis answered so far."""
        ...

    async def main(self) -> None:
        """Consume until told to stop; raise `RedisError` or `OSError` when Redis is away."""
        ...


async def supervise(
    consumer: Consumer, *, queue: str, stopping: asyncio.Event, jitter: Callable[[], float] = random.random
) -> None:
    """Run `consumer` until it ends by itself or `stopping` is set, again and again after each loss of Redis.

    Between two attempts it waits 50 ms doubling to 2 s; an outage is logged once. It ends with a pop that is answered,
    because a Redis that takes connections may refuse every pop. `jitter` gives numbers in [0, 1).
    """
    log = structlog.get_logger(__name__).bind(queue=queue)
    failures = 0
    seen = 0
    while not stopping.is_set():
        try:
            await consumer.main()
        except (RedisError, OSError) as error:
            failures = 1 if consumer.pops > seen else failures + 1
            seen = consumer.pops
            if failures == 1:
                log.warning("redis_away", error=type(error).__name__)
            await _wait(stopping, backoff(failures, jitter=jitter()).total_seconds())
        else:
            return


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
