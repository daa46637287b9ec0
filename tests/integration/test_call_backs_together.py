"""Call backs that come at once share transactions; each is told of its own lanes, as soon as these are empty."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.gathering import RunResult
from tests.support.ledger import failing, queue_job

if TYPE_CHECKING:
    from services.endpoints.domain.queue_job import QueueJob
    from tests.support.ledger import World


async def test_those_who_wait_share_a_transaction_and_each_is_told_of_its_own(world: World) -> None:
    runner = world.new_runner(batches_at_once=1)
    go_on = asyncio.Event()

    async def hold(queue_job: QueueJob) -> None:
        if queue_job.args["name"] == "first":
            await go_on.wait()

    world.batch.before = hold
    world.batch.fails = failing("b1")
    names = {"first": "lane-0", "a1": "lane-a", "a2": "lane-a", "b1": "lane-b", "c1": "lane-c", "c2": "lane-d"}
    await world.enqueue(*(queue_job(name, lane=lane) for name, lane in names.items()))
    await world.relay.run_once()
    call_backs = [
        asyncio.create_task(runner.run_queue_jobs(Queue.DEFAULT, lanes))
        for lanes in (["lane-0"], ["lane-a"], ["lane-b"], ["lane-c", "lane-d"])
    ]
    await asyncio.sleep(0)
    go_on.set()

    assert await asyncio.gather(*call_backs) == [
        RunResult(completed=1),
        RunResult(completed=2),
        RunResult(failed=1),
        RunResult(completed=2),
    ]
    # The first alone, then all the others, and these in halves until the culprit stood alone.
    assert world.batch.batches[:2] == [1, 5]
    assert await world.lanes() == {}


async def test_short_lane_is_free_before_a_long_one_that_shares_its_batches(world: World) -> None:
    runner = world.new_runner(batches_at_once=1, call_takes=timedelta(minutes=1))
    size = world.settings.max_queue_jobs_per_call
    short_call_back: list[bool] = []
    lanes: list[set[str]] = []

    async def look(queue_job: QueueJob) -> None:
        # In the second batch: the first one has emptied the short lane, and told who asked for it.
        if queue_job.args["name"] == "last":
            short_call_back.append(call_backs[2].done())
            lanes.append(set(await world.lanes()))

    world.batch.before = look
    await world.enqueue(
        *(queue_job(f"l{number}", lane="long") for number in range(2 * size)),
        queue_job("last", lane="long"),
        queue_job("s", lane="short"),
    )
    await world.relay.run_once()
    # The first begins at once, so that the other two wait for it.
    call_backs = [
        asyncio.create_task(runner.run_queue_jobs(Queue.DEFAULT, [lane])) for lane in ("none", "long", "short")
    ]

    ends = [RunResult(), RunResult(completed=2 * size + 1), RunResult(completed=1)]
    assert await asyncio.gather(*call_backs) == ends
    assert short_call_back == [True]
    assert lanes == [{"long"}]


async def test_lane_that_two_call_backs_name_is_run_once_for_the_first(world: World) -> None:
    runner = world.new_runner(batches_at_once=1)
    await world.enqueue(*(queue_job(lane, lane=lane) for lane in ("a", "b", "c")))
    await world.relay.run_once()

    # The first begins at once, so that the other two wait for it.
    ends = await asyncio.gather(
        *(runner.run_queue_jobs(Queue.DEFAULT, lanes) for lanes in (["none"], ["a", "b"], ["b", "c"], ["b"]))
    )

    assert ends == [RunResult(), RunResult(completed=2), RunResult(completed=1), RunResult()]
    assert sorted(world.batch.done) == ["a", "b", "c"]
