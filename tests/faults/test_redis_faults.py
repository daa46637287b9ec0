"""What Redis may do to the rest by being empty, full, silent, slow, somebody else, or full of lies."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.endpoints.queue.eviction import LOOK_EVERY
from services.endpoints.queue.publisher import DEFAULT_WINDOW
from services.worker.message import queue_key
from tests.support.endpoint_farm import MARKER
from tests.support.eventually import eventually
from tests.support.fault_scene import PATIENCE, RUNG_AGAIN, new_scene
from tests.support.machine_time import machine_time
from tests.support.redis_process import RedisProcess

if TYPE_CHECKING:
    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("dependencies")]

# Less than Redis is waited for by anybody, and more than a slow machine takes for a call.
PROMPT = timedelta(milliseconds=900)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack)


async def slowest_answer(scene: Scene, *, requests: int = 10) -> timedelta:
    """Ask for indexes one after another, and return how long the slowest answer took."""
    slowest = timedelta()
    for _ in range(requests):
        began = machine_time()
        await scene.ask()
        slowest = max(slowest, timedelta(seconds=machine_time() - began))
    return slowest


async def test_lanes_are_rung_again_after_redis_restarts_empty(scene: Scene) -> None:
    for worker in scene.stack.workers:
        worker.freeze()
    asked = await scene.ask()
    async with scene.stack.redis_client() as redis:
        await eventually(lambda: _messages(redis))
    await scene.stack.redis.kill()
    await scene.stack.redis.start()
    for worker in scene.stack.workers:
        worker.thaw()

    assert await scene.is_done(asked.queue_job_id) <= RUNG_AGAIN


async def test_full_redis_holds_up_nobody_who_asks_and_work_goes_on_when_it_has_room(scene: Scene) -> None:
    async with scene.stack.redis_client() as redis:
        await redis.config_set("maxmemory", "1")
        assert await slowest_answer(scene) <= PROMPT
        asked = await scene.ask()
        await eventually(lambda: "OutOfMemoryError" in scene.stack.logs())
        assert (await scene.queue_job(asked.queue_job_id))["state"] == "AVAILABLE"
        await redis.config_set("maxmemory", "0")

    assert await scene.is_done(asked.queue_job_id) <= RUNG_AGAIN
    assert MARKER not in scene.stack.logs()


async def test_redis_that_evicts_is_told_of_and_loses_nothing(scene: Scene) -> None:
    server = scene.stack.servers[0]
    async with scene.stack.redis_client() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.config_set("maxmemory", "100mb")
        await eventually(server.not_ready_text, within=2 * LOOK_EVERY)
        assert "noeviction" in await server.not_ready_text()
        asked = await scene.ask()
        await scene.is_done(asked.queue_job_id)
        await redis.config_set("maxmemory", "0")
        await redis.config_set("maxmemory-policy", "noeviction")
    await server.ready()
    assert "redis_evicts" in server.log_text()


async def test_silent_redis_holds_up_nobody_who_asks(scene: Scene) -> None:
    scene.stack.redis_of_servers.black_hole()
    assert await slowest_answer(scene) <= PROMPT
    asked = await scene.ask()
    assert (await scene.queue_job(asked.queue_job_id))["state"] == "AVAILABLE"
    scene.stack.redis_of_servers.heal()

    assert await scene.is_done(asked.queue_job_id) <= PATIENCE


async def test_slow_redis_piles_up_neither_messages_nor_calls(scene: Scene) -> None:
    others = [await new_scene(scene.stack, jobs=1) for _ in range(5)]
    for proxy in (scene.stack.redis_of_servers, scene.stack.redis_of_workers):
        proxy.slow_down(timedelta(milliseconds=500))
    asked = [await each.ask() for each in (scene, *others)]
    most = 0

    async def all_done() -> bool:
        nonlocal most
        async with scene.stack.redis_client() as redis:
            most = max(most, await _messages(redis))
        states = [(await scene.queue_job(each.queue_job_id))["state"] for each in asked]
        return set(states) == {"COMPLETED"}

    await eventually(all_done, within=2 * PATIENCE)
    assert most <= DEFAULT_WINDOW


async def test_failover_to_a_stale_replica_loses_nothing_and_doubles_nothing(scene: Scene) -> None:
    """The replica was cut off before the work came and knows messages that were answered long ago."""
    replica = RedisProcess()
    await replica.start()
    try:
        async with scene.stack.redis_client() as primary, Redis.from_url(replica.url) as copy:
            for worker in scene.stack.workers:
                worker.freeze()
            before = await scene.ask()
            await eventually(lambda: _messages(primary))
            await copy.replicaof("127.0.0.1", str(scene.stack.redis.port))
            await eventually(lambda: _messages(copy))
            await copy.replicaof("NO", "ONE")
        for worker in scene.stack.workers:
            worker.thaw()
        await scene.is_done(before.queue_job_id)
        after = await scene.ask()
        for proxy in (scene.stack.redis_of_servers, scene.stack.redis_of_workers):
            proxy.upstream_port = replica.port
            proxy.cut()

        assert await scene.is_done(after.queue_job_id) <= RUNG_AGAIN
        await scene.stack.settle()
        assert len(scene.farm.index_calls()) == 3
        assert await scene.effects() == 3 * scene.farm.jobs
    finally:
        for proxy in (scene.stack.redis_of_servers, scene.stack.redis_of_workers):
            proxy.upstream_port = scene.stack.redis.port
            proxy.cut()
        await replica.kill()


async def test_the_same_message_a_hundred_times_has_one_effect(scene: Scene) -> None:
    for worker in scene.stack.workers:
        worker.freeze()
    asked = await scene.ask()
    async with scene.stack.redis_client() as redis:
        await eventually(lambda: _messages(redis))
        (name,) = await redis.zrange(queue_key("execution"), 0, -1)
        body = await redis.get(f"arq:job:{name.decode()}")
        for number in range(100):
            await redis.set(f"arq:job:again-{number}", body)
            await redis.zadd(queue_key("execution"), {f"again-{number}": 1})
    for worker in scene.stack.workers:
        worker.thaw()
    await scene.is_done(asked.queue_job_id)
    async with scene.stack.redis_client() as redis:
        await eventually(lambda: _is_empty(redis))

    await scene.stack.settle()
    assert len(scene.farm.index_calls()) == 2
    assert await scene.effects() == 2 * scene.farm.jobs


async def test_worker_and_servers_start_before_redis(scene: Scene) -> None:
    await scene.stack.redis.kill()
    processes = (*scene.stack.servers, *scene.stack.workers)
    for process in processes:
        await process.kill()
    for process in processes:
        await process.launch()
    await asyncio.gather(*(process.ready() for process in processes))
    asked = await scene.ask()
    await scene.stack.redis.start()

    assert await scene.is_done(asked.queue_job_id) <= PATIENCE


async def _messages(redis: Any) -> int:
    return sum([await redis.zcard(queue_key(queue)) for queue in ("default", "execution")])


async def _is_empty(redis: Any) -> bool:
    return not await _messages(redis)
