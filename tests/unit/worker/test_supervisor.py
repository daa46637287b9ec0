"""A consumer is kept going while Redis comes and goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from services.worker.backoff import backoff
from services.worker.supervisor import supervise


class ScriptedConsumer:
    """Follows a script: an error to raise, "popped" before the next error, or the end."""

    def __init__(self, *script: Exception | str) -> None:
        self._script = list(script)
        self.pops = 0

    async def main(self) -> None:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, Exception):
                raise step
            self.pops += 1

    @property
    def is_finished(self) -> bool:
        return not self._script


async def _supervise(consumer: ScriptedConsumer) -> int:
    with capture_logs() as logs:
        await supervise(consumer, queue="default", stopping=asyncio.Event(), jitter=lambda: 0.0)
    return sum(line["event"] == "redis_away" for line in logs)


async def test_consumer_is_run_again_after_each_loss_and_an_outage_is_logged_once() -> None:
    consumer = ScriptedConsumer(RedisConnectionError(), RedisTimeoutError(), OSError(), "popped")
    assert await _supervise(consumer) == 1
    assert consumer.is_finished


async def test_each_outage_is_logged() -> None:
    consumer = ScriptedConsumer("popped", RedisConnectionError(), OSError(), "popped", RedisConnectionError())
    assert await _supervise(consumer) == 2


async def test_mistake_in_the_program_is_not_repeated() -> None:
    with pytest.raises(ZeroDivisionError):
        await _supervise(ScriptedConsumer(ZeroDivisionError()))


async def test_stopping_ends_the_wait_for_redis() -> None:
    stopping = asyncio.Event()

    class AbsentRedis(ScriptedConsumer):
        async def main(self) -> None:
            stopping.set()
            raise RedisConnectionError

    consumer = AbsentRedis()
    async with asyncio.timeout(5):
        await supervise(consumer, queue="default", stopping=stopping)


@pytest.mark.parametrize(
    ("failures", "milliseconds"), [(1, 25), (2, 50), (3, 100), (6, 800), (7, 1000), (8, 1000), (10_000, 1000)]
)
def test_pause_doubles_up_to_its_cap(failures: int, milliseconds: int) -> None:
    assert backoff(failures, jitter=0.0) == timedelta(milliseconds=milliseconds)


def test_jitter_spreads_the_upper_half() -> None:
    assert backoff(2, jitter=0.5) == timedelta(milliseconds=75)
    assert backoff(10_000, jitter=0.999) < timedelta(seconds=2)
