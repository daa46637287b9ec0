"""Call backs that come at once share transactions; each is told of its own lanes, as soon as these are empty."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from services.endpoints.domain.errors import ConflictError
from services.endpoints.domain.queue_job import Priority, Queue, QueueJob
from services.endpoints.operations.batches import _with_more
from services.endpoints.operations.gathering import RunResult
from tests.support.ledger import failing, queue_job

if TYPE_CHECKING:
    from tests.support.ledger import World


async def test_those_who_wait_share_a_transaction_and_each_is_told_of_its_own(world: World) -> None:
    runner = world.new_runner(batches_at_once=1)
    is_held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(queue_job: QueueJob) -> None:
        if queue_job.args["name"] == "first":
            is_held.set()
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
    await is_held.wait()
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


async def test_each_is_told_in_which_traces_its_queue_jobs_were_recorded(world: World) -> None:
    """The trace's own context, not that of the attempt, which is over by then."""
    runner = world.new_runner(tracer=MemoryTracer())
    recorded, silent = (f"00-{'1' * 32}-{number:016x}-0{number % 2}" for number in (7, 8))
    world.batch.fails = failing("f")
    await world.enqueue(
        queue_job("a", lane="lane-a")._replace(trace_context=recorded),
        queue_job("b", lane="lane-b")._replace(trace_context=silent),
        queue_job("f", lane="lane-f")._replace(trace_context=recorded),
    )
    await world.relay.run_once()

    ends = await asyncio.gather(*(runner.run_queue_jobs(Queue.DEFAULT, [f"lane-{lane}"]) for lane in "abf"))

    assert [end.traceparents for end in ends] == [(recorded,), (), (recorded,)]


async def test_suspect_lane_that_fails_is_its_own_call_backs_business(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = world.new_runner(batches_at_once=1)
    await world.enqueue(*(queue_job(lane, lane=lane) for lane in ("a", "b", "c")))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 2 WHERE lane IN ('a', 'c')")
    batches = runner._batches
    alone = batches._run_suspect

    async def fail_one(queue: Queue, lane: str) -> RunResult:
        if lane == "a":
            raise ConflictError("The database gave way.", retry_after=timedelta(seconds=1))
        return await alone(queue, lane)

    monkeypatch.setattr(batches, "_run_suspect", fail_one)
    first, *ends = await asyncio.gather(
        *(runner.run_queue_jobs(Queue.DEFAULT, lanes) for lanes in (["none"], ["a", "b"], ["c"])),
        return_exceptions=True,
    )

    assert first == RunResult()
    assert isinstance(ends[0], ConflictError)
    assert ends[1] == RunResult(completed=1)
    # What was committed before the failure counts, whoever is told of the failure.
    assert sorted(world.batch.done) == ["b", "c"]
    assert 'kongflow_queue_jobs_run_total{queue="default",result="completed"} 2.0' in world.metrics.render().decode()


async def test_what_was_committed_before_the_database_gave_way_is_counted(world: World) -> None:
    size = world.settings.max_queue_jobs_per_call

    async def give_way(queue_job: QueueJob) -> None:
        if queue_job.args["name"] == "last":
            raise ConflictError("The database gave way.", retry_after=timedelta(seconds=1))

    world.batch.before = give_way
    await world.enqueue(
        *(queue_job(str(number), lane="long") for number in range(size)), queue_job("last", lane="long")
    )
    await world.relay.run_once()

    with pytest.raises(ConflictError):
        await world.new_runner(call_takes=timedelta(minutes=1)).run_queue_jobs(Queue.DEFAULT, ["long"])

    counted = f'kongflow_queue_jobs_run_total{{queue="default",result="completed"}} {size}.0'
    assert counted in world.metrics.render().decode()
    assert (await world.states())["last"] == "AVAILABLE"


def test_full_batch_gives_up_the_lanes_that_it_has_surely_emptied() -> None:
    pulled = [pulled_job(lane) for lane in ("long", "long", "long", "middle", "middle", "short", "left")]
    lanes = ["left", "long", "middle", "none", "short"]

    assert _with_more(lanes, pulled, pulled) == ["long", "middle"]
    assert _with_more(lanes, pulled, pulled[:-1]) == ["left", "long", "middle"]
    assert _with_more(["short"], [pulled_job("short")], [pulled_job("short")]) == ["short"]


def pulled_job(lane: str) -> QueueJob:
    return QueueJob(
        id=uuid4(),
        environment_id=UUID(int=1),
        kind="batch",
        args={},
        queue=Queue.DEFAULT,
        lane=lane,
        priority=Priority.NORMAL,
        attempt=1,
        max_attempts=3,
        unended=0,
    )


class MemorySpan:
    """A span whose context nobody else has."""

    traceparent = f"00-{'1' * 32}-{'f' * 16}-01"

    def note(self, name: str, value: str | int) -> None:
        """Forget it."""

    def end(self, *, failure: str | None = None) -> None:
        """Forget it."""


class MemoryTracer:
    """Records what is sampled."""

    is_on = True

    def begin(self, *_arguments: object, **_named: object) -> MemorySpan:
        return MemorySpan()
