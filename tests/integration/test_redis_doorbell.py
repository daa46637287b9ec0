"""What only the real doorbell can show: refusals, outages, coalescing."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from arq.constants import job_key_prefix
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.queue.connection import open_redis
from services.endpoints.queue.message import queue_key
from services.endpoints.queue.publisher import MESSAGE_LIFE, ArqPublisher
from services.endpoints.queue.wake_ups import CHANNEL, RedisWakeUps
from tests.support.eventually import eventually
from tests.support.redis_process import RedisProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


LONG = timedelta(seconds=5)
SHORT = timedelta(milliseconds=30)
# As long may an answer take.
IDLE_CHECK = timedelta(seconds=1)


@pytest.fixture
async def redis_process() -> AsyncIterator[RedisProcess]:
    process = RedisProcess()
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
async def redis_client(redis_process: RedisProcess) -> AsyncIterator[Any]:
    client = open_redis(redis_process.url)
    yield client
    await client.aclose()


@asynccontextmanager
async def _running(wake_ups: RedisWakeUps) -> AsyncIterator[None]:
    task = asyncio.create_task(wake_ups.run())
    try:
        yield
    finally:
        await wake_ups.close()
        await task


async def test_messages_are_in_one_order_whatever_the_clocks_of_their_servers(redis_client: Any) -> None:
    hour_ms = 3_600_000
    ahead = ArqPublisher(redis=redis_client, clock_ms=lambda: time.time_ns() // 1_000_000 + hour_ms)
    behind = ArqPublisher(redis=redis_client, clock_ms=lambda: time.time_ns() // 1_000_000 - hour_ms)
    for publisher in (ahead, behind):
        await publisher.room(["default"])
        await publisher.publish("default", [["endpoint-1"]])

    scores = [score for _, score in await redis_client.zrange(queue_key("default"), 0, -1, withscores=True)]
    assert max(scores) - min(scores) < 60_000


async def test_full_redis_is_unavailable_and_its_error_shows_no_lane(redis_client: Any) -> None:
    publisher = ArqPublisher(redis=redis_client)
    await redis_client.config_set("maxmemory", "1")
    with pytest.raises(QueueUnavailableError) as refused:
        await publisher.publish("default", [["endpoint-secret"]])
    error: BaseException | None = refused.value
    while error is not None:
        assert "endpoint-secret" not in f"{error!s}{error!r}"
        error = error.__cause__ or error.__context__
    assert await publisher.waiting("default") == 0


async def test_message_nobody_reads_is_gone_after_a_day(redis_client: Any) -> None:
    await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]])
    (job_id,) = await redis_client.zrange(queue_key("default"), 0, -1)
    life = timedelta(milliseconds=await redis_client.pttl(job_key_prefix + job_id.decode()))
    assert MESSAGE_LIFE - timedelta(minutes=1) < life <= MESSAGE_LIFE


async def test_id_names_the_lane_of_a_message_with_one_and_keeps_the_order_of_all(redis_client: Any) -> None:
    publisher = ArqPublisher(redis=redis_client, new_prefix=lambda: "p", clock_ms=lambda: 0)
    await publisher.publish("default", [["z:ä"], ["a", "b"], ["a"]])
    ids = [job_id.decode() for job_id in await redis_client.zrange(queue_key("default"), 0, -1)]
    assert ids == ["p-0000000000000001:z:ä", "p-0000000000000002", "p-0000000000000003:a"]


async def test_ids_of_two_publishers_never_meet(redis_client: Any) -> None:
    for _ in range(2):
        await ArqPublisher(redis=redis_client).publish("default", [["endpoint-1"]] * 10)
    assert await redis_client.zcard(queue_key("default")) == 20


async def test_one_notification_is_published_once(redis_client: Any) -> None:
    wake_ups = RedisWakeUps(redis=redis_client, quiet=timedelta(0))
    async with redis_client.pubsub() as heard, _running(wake_ups):
        await heard.subscribe(CHANNEL)
        await heard.get_message(timeout=LONG.total_seconds())
        wake_ups.notify()
        assert await heard.get_message(timeout=LONG.total_seconds()) is not None
        assert await heard.get_message(timeout=SHORT.total_seconds()) is None


async def test_many_notifications_are_published_as_few(redis_client: Any) -> None:
    # A quiet time that does not end within the test: the first notification goes out, all others wait.
    wake_ups = RedisWakeUps(redis=redis_client, quiet=timedelta(hours=1))
    async with redis_client.pubsub() as heard, _running(wake_ups):
        await heard.subscribe(CHANNEL)
        await heard.get_message(timeout=LONG.total_seconds())
        wake_ups.notify()
        first = await heard.get_message(timeout=LONG.total_seconds())
        assert first is not None
        assert first["type"] == "message"
        for _ in range(1000):
            wake_ups.notify()
        assert await heard.get_message(timeout=SHORT.total_seconds()) is None


async def test_notification_during_the_quiet_time_is_published_after_it(redis_client: Any) -> None:
    caller, hearer = RedisWakeUps(redis=redis_client), RedisWakeUps(redis=redis_client)
    async with _running(caller), _running(hearer):
        await hearer.subscribed()
        listener = hearer.subscribe()
        for _ in range(3):
            caller.notify()
            assert await listener.wait(LONG)


async def test_absent_redis_neither_raises_nor_keeps_own_listeners_asleep() -> None:
    client = open_redis(RedisProcess().url)
    wake_ups = RedisWakeUps(redis=client)
    listener = wake_ups.subscribe()
    with capture_logs() as logs:
        async with _running(wake_ups):
            for _ in range(3):
                wake_ups.notify()
                assert await listener.wait(timedelta(0))
            await eventually(
                lambda: {line["event"] for line in logs} == {"wake_ups_not_published", "wake_ups_not_heard"}
            )
    await client.aclose()


async def test_listeners_are_woken_when_redis_is_back(redis_process: RedisProcess, redis_client: Any) -> None:
    wake_ups = RedisWakeUps(redis=redis_client)
    with capture_logs() as logs:
        async with _running(wake_ups):
            await wake_ups.subscribed()
            listener = wake_ups.subscribe()
            await redis_process.kill()
            await eventually(lambda: _events(logs, "wake_ups_not_heard") == 1)
            await redis_process.start()
            assert await listener.wait(LONG)
            async with Redis.from_url(redis_process.url) as other:
                await other.publish(CHANNEL, b"another process")
            assert await listener.wait(LONG)
    assert _events(logs, "wake_ups_not_heard") == 1


async def test_silent_subscription_proves_that_it_is_alive(redis_process: RedisProcess, redis_client: Any) -> None:
    wake_ups = RedisWakeUps(redis=redis_client, idle_check=IDLE_CHECK)
    with capture_logs() as logs:
        async with _running(wake_ups), Redis.from_url(redis_process.url) as observer:
            await wake_ups.subscribed()

            async def pings_were_answered() -> bool:
                statistics: dict[str, Any] = await observer.info("commandstats")
                return bool(statistics.get("cmdstat_ping", {}).get("calls", 0) >= 3)

            await eventually(pings_were_answered)
    assert _events(logs, "wake_ups_not_heard") == 0


async def test_frozen_redis_is_noticed(redis_process: RedisProcess, redis_client: Any) -> None:
    wake_ups = RedisWakeUps(redis=redis_client, idle_check=IDLE_CHECK)
    with capture_logs() as logs:
        async with _running(wake_ups):
            await wake_ups.subscribed()
            redis_process.freeze()
            await eventually(lambda: _events(logs, "wake_ups_not_heard") == 1)
            redis_process.thaw()


def _events(logs: list[Any], event: str) -> int:
    return sum(line["event"] == event for line in logs)
