"""What relays and watchers may expect of the doorbell, in memory as on Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest
from arq.constants import job_key_prefix

from services.endpoints.domain.ports.publisher import Publisher, QueueUnavailableError, WakeUps
from services.endpoints.queue.connection import open_redis
from services.endpoints.queue.publisher import ArqPublisher
from services.endpoints.queue.wake_ups import RedisWakeUps
from services.worker.message import named_lane, queue_key, read_message
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps
from tests.support.redis_process import RedisProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from arq.connections import ArqRedis

WINDOW = 3
LONG = timedelta(seconds=5)
SHORT = timedelta(milliseconds=30)


class Doorbell(Protocol):
    publisher: Publisher

    async def messages(self, queue: str) -> list[list[str]]: ...

    async def go_away(self) -> None: ...


class MemoryDoorbell:
    def __init__(self) -> None:
        self._memory = MemoryPublisher(window=WINDOW)
        self.publisher: Publisher = self._memory

    async def messages(self, queue: str) -> list[list[str]]:
        return self._memory.messages[queue]

    async def go_away(self) -> None:
        self._memory.is_away = True


class RedisDoorbell:
    def __init__(self, process: RedisProcess, redis: ArqRedis) -> None:
        self._process = process
        self._redis = redis
        self.publisher: Publisher = ArqPublisher(redis=redis, window=WINDOW)

    async def messages(self, queue: str) -> list[list[str]]:
        """Read them as the worker does."""
        lanes = []
        for job_id in await self._redis.zrange(queue_key(queue), 0, -1):
            body = await self._redis.get(job_key_prefix + job_id.decode())
            assert isinstance(body, bytes)
            version, named_queue, named_lanes = read_message(body)["a"]
            assert (version, named_queue) == (1, queue)
            # What the id of a message names is taken for the message: of one lane, always.
            assert named_lane(job_id) == (named_lanes[0] if len(named_lanes) == 1 else None)
            lanes.append(named_lanes)
        return lanes

    async def go_away(self) -> None:
        await self._process.kill()


@asynccontextmanager
async def _redis() -> AsyncIterator[tuple[RedisProcess, ArqRedis]]:
    process = RedisProcess()
    await process.start()
    redis = open_redis(process.url)
    try:
        yield process, redis
    finally:
        await redis.aclose()
        await process.kill()


@pytest.fixture(params=["memory", "redis"])
async def doorbell(request: pytest.FixtureRequest) -> AsyncIterator[Doorbell]:
    if request.param == "memory":
        yield MemoryDoorbell()
        return
    async with _redis() as (process, redis):
        yield RedisDoorbell(process, redis)


@pytest.fixture(params=["memory", "redis"])
async def processes(request: pytest.FixtureRequest) -> AsyncIterator[tuple[WakeUps, WakeUps]]:
    """Give the wake-ups of two processes that hear each other."""
    if request.param == "memory":
        first = MemoryWakeUps()
        yield first, MemoryWakeUps(first.listeners)
        return
    async with AsyncExitStack() as stack:
        _, redis = await stack.enter_async_context(_redis())
        both = (RedisWakeUps(redis=redis), RedisWakeUps(redis=redis))
        running = []
        for one in both:
            running.append(asyncio.create_task(one.run()))
            await one.subscribed()
        yield both
        for one in both:
            await one.close()
        await asyncio.gather(*running)


async def test_each_batch_is_one_message_in_the_order_given(doorbell: Doorbell) -> None:
    batches = [[f"endpoint-{number}", "maintenance"] for number in range(20)]
    await doorbell.publisher.publish("default", batches[:7])
    await doorbell.publisher.publish("default", batches[7:])
    assert await doorbell.messages("default") == batches


async def test_message_goes_behind_what_is_published_soon_after(doorbell: Doorbell) -> None:
    soon, late = timedelta(milliseconds=1), timedelta(minutes=1)
    await doorbell.publisher.publish("default", [["late"], ["soon"]], behind=[late, soon])
    await doorbell.publisher.publish("default", [["now"]], behind=[timedelta()])
    messages = await doorbell.messages("default")
    assert messages[-1] == ["late"]
    assert sorted(messages[:2]) == [["now"], ["soon"]]


async def test_queues_are_apart(doorbell: Doorbell) -> None:
    await doorbell.publisher.publish("default", [["endpoint-1"]])
    await doorbell.publisher.publish("execution", [["endpoint-1"], ["endpoint-2"]])
    assert await doorbell.publisher.waiting("default") == 1
    assert await doorbell.publisher.waiting("execution") == 2
    assert await doorbell.publisher.waiting("events") == 0


async def test_room_is_what_the_window_still_takes_and_never_negative(doorbell: Doorbell) -> None:
    await doorbell.publisher.publish("default", [["endpoint-1"]])
    await doorbell.publisher.publish("execution", [["endpoint-1"]] * (WINDOW + 2))
    assert await doorbell.publisher.room(["default", "execution", "events"]) == {
        "default": WINDOW - 1,
        "execution": 0,
        "events": WINDOW,
    }


async def test_who_publishes_is_told_the_room_that_is_left(doorbell: Doorbell) -> None:
    assert await doorbell.publisher.publish("default", [["endpoint-1"]]) == WINDOW - 1
    assert await doorbell.publisher.publish("execution", [["endpoint-1"]] * 3) == WINDOW - 3
    assert await doorbell.publisher.publish("default", [["endpoint-2"]] * (WINDOW + 2)) == 0


async def test_the_same_lanes_published_again_are_another_message(doorbell: Doorbell) -> None:
    for _ in range(2):
        await doorbell.publisher.publish("default", [["endpoint-1"]])
    assert await doorbell.messages("default") == [["endpoint-1"], ["endpoint-1"]]


async def test_fifty_of_the_longest_names_fit(doorbell: Doorbell) -> None:
    lanes = ["é" * 200] * 50
    await doorbell.publisher.publish("default", [lanes])
    assert await doorbell.messages("default") == [lanes]


@pytest.mark.parametrize("lanes", [[], ["lane"] * 51, [""], ["x" * 201]], ids=["none", "51", "empty", "long"])
async def test_impossible_batch_publishes_nothing(doorbell: Doorbell, lanes: list[str]) -> None:
    with pytest.raises(ValueError, match="lane"):
        await doorbell.publisher.publish("default", [["endpoint-1"], lanes])
    assert await doorbell.publisher.waiting("default") == 0


async def test_nothing_to_publish_needs_nobody(doorbell: Doorbell) -> None:
    await doorbell.go_away()
    assert await doorbell.publisher.publish("default", []) is None
    assert await doorbell.publisher.room([]) == {}


async def test_absence_is_a_domain_error(doorbell: Doorbell) -> None:
    await doorbell.publisher.publish("default", [["endpoint-1"]])
    await doorbell.go_away()
    with pytest.raises(QueueUnavailableError):
        await doorbell.publisher.publish("default", [["endpoint-1"]])
    with pytest.raises(QueueUnavailableError):
        await doorbell.publisher.waiting("default")
    with pytest.raises(QueueUnavailableError):
        await doorbell.publisher.room(["default"])


async def test_listener_is_woken_by_its_own_process_and_by_another(processes: tuple[WakeUps, WakeUps]) -> None:
    for caller in processes:
        listener = processes[0].subscribe()
        caller.notify()
        assert await listener.wait(LONG)


async def test_every_listener_is_woken(processes: tuple[WakeUps, WakeUps]) -> None:
    listeners = [process.subscribe() for process in processes for _ in range(2)]
    processes[0].notify()
    assert [await listener.wait(LONG) for listener in listeners] == [True] * 4


async def test_waiting_without_a_wake_up_ends_false(processes: tuple[WakeUps, WakeUps]) -> None:
    assert not await processes[0].subscribe().wait(SHORT)


async def test_wake_ups_before_the_wait_are_one_and_not_lost(processes: tuple[WakeUps, WakeUps]) -> None:
    listener = processes[0].subscribe()
    for _ in range(3):
        processes[0].notify()
    assert await listener.wait(timedelta(0))
    assert not await listener.wait(SHORT)


async def test_wake_up_while_looking_is_answered_by_the_next_wait(processes: tuple[WakeUps, WakeUps]) -> None:
    listener = processes[0].subscribe()
    processes[0].notify()
    assert await listener.wait(LONG)
    processes[0].notify()
    assert await listener.wait(timedelta(0))


async def test_closed_listener_is_left_alone(processes: tuple[WakeUps, WakeUps]) -> None:
    listener, other = processes[0].subscribe(), processes[0].subscribe()
    listener.close()
    listener.close()
    processes[0].notify()
    assert await other.wait(LONG)
    assert not await listener.wait(SHORT)
