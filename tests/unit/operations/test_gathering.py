from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.gathering import Gathering, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.operations.gathering import Share

DONE = RunResult(completed=1)

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Batches:
    """Carries batches out when the test says so, one queue job in each lane."""

    def __init__(self, *, at_once: int = 1, most_lanes: int = 4) -> None:
        self.begun: list[list[set[str]]] = []
        self.queues: list[Queue] = []
        self.go_on = asyncio.Semaphore(0)
        self.another = asyncio.Event()
        self.failure: BaseException | None = None
        self.at_once = at_once
        self.gathering = Gathering(run=self.run, most_lanes=lambda _: most_lanes, at_once=lambda: self.at_once)

    async def run(self, queue: Queue, shares: Sequence[Share]) -> None:
        self.begun.append([set(share.lanes) for share in shares])
        self.queues.append(queue)
        self.another.set()
        await self.go_on.acquire()
        if self.failure is not None:
            raise self.failure
        for share in shares:
            share.result += RunResult(completed=len(share.lanes))
            share.end(list(share.lanes))

    def join(self, *lanes: str, queue: Queue = Queue.DEFAULT) -> asyncio.Task[RunResult]:
        return asyncio.create_task(result_of(self.gathering, *lanes, queue=queue))

    async def have_begun(self, count: int) -> None:
        """Return when so many batches have; who was to join before has joined by then."""
        async with asyncio.timeout(5):
            while len(self.begun) < count:
                self.another.clear()
                await self.another.wait()


async def result_of(gathering: Gathering, *lanes: str, queue: Queue = Queue.DEFAULT) -> RunResult:
    share = await gathering.join(queue, lanes)
    if share.error is not None:
        raise share.error
    return share.result


async def another(gathering: Gathering, lane: str) -> asyncio.Task[RunResult]:
    """Have a further call back come, and return when it waits."""
    comes = asyncio.Event()

    async def call() -> RunResult:
        comes.set()
        return await result_of(gathering, lane)

    task = asyncio.create_task(call())
    await comes.wait()
    return task


async def test_call_back_that_nobody_is_before_begins_at_once() -> None:
    batches = Batches()
    first = batches.join("a", "b")
    await batches.have_begun(1)
    assert batches.begun == [[{"a", "b"}]]
    batches.go_on.release()
    assert await first == RunResult(completed=2)


async def test_as_many_batches_as_may_run_at_once() -> None:
    batches = Batches(at_once=2)
    calls = [batches.join(lane) for lane in "abc"]
    await batches.have_begun(2)
    assert batches.begun == [[{"a"}], [{"b"}]]
    batches.go_on.release()
    await batches.have_begun(3)
    assert batches.begun[2:] == [[{"c"}]]
    for _ in range(2):
        batches.go_on.release()
    assert await asyncio.gather(*calls) == [DONE] * 3


async def test_batches_end_before_another_begins_when_fewer_may_run() -> None:
    batches = Batches(at_once=2)
    calls = [batches.join(lane, queue=queue) for lane, queue in zip("abcd", [*Queue][:4], strict=True)]
    await batches.have_begun(2)
    batches.at_once = 1
    batches.go_on.release()
    assert await calls[0] == DONE
    assert len(batches.begun) == 2
    batches.go_on.release()
    await batches.have_begun(3)
    assert await calls[1] == DONE
    for _ in range(2):
        batches.go_on.release()
    assert await asyncio.gather(*calls) == [DONE] * 4


async def test_those_who_waited_go_together_up_to_so_many_lanes() -> None:
    batches = Batches(most_lanes=4)
    calls = [batches.join(*lanes) for lanes in ("a", "bc", "def", "g", "h")]
    await batches.have_begun(1)
    for _ in range(3):
        batches.go_on.release()
    assert await asyncio.gather(*calls) == [RunResult(completed=n) for n in (1, 2, 3, 1, 1)]
    # Who does not fit in is not overtaken for longer than one batch: it is the first of the next.
    assert batches.begun == [[{"a"}], [{"b", "c"}, {"g"}, {"h"}], [{"d", "e", "f"}]]


async def test_call_back_with_more_lanes_than_go_together_goes_alone() -> None:
    batches = Batches(most_lanes=2)
    calls = [batches.join("a", "b", "c"), batches.join("d")]
    for _ in range(2):
        batches.go_on.release()
    await asyncio.gather(*calls)
    assert batches.begun == [[{"a", "b", "c"}], [{"d"}]]


async def test_queues_do_not_mix_and_who_waited_longest_is_next() -> None:
    batches = Batches()
    calls = [
        batches.join("a"),
        batches.join("b", queue=Queue.EVENTS),
        batches.join("c"),
        batches.join("d", queue=Queue.EVENTS),
    ]
    await batches.have_begun(1)
    for _ in range(3):
        batches.go_on.release()
    await asyncio.gather(*calls)
    assert batches.begun == [[{"a"}], [{"b"}, {"d"}], [{"c"}]]
    assert batches.queues == [Queue.DEFAULT, Queue.EVENTS, Queue.DEFAULT]


async def test_call_back_is_answered_when_the_last_of_its_lanes_ends() -> None:
    answered_between: list[bool] = []

    async def run(_queue: Queue, shares: Sequence[Share]) -> None:
        shares[0].result += DONE
        shares[0].end(["a"])
        answered_between.append(shares[0].ended.done())
        shares[0].end(["b"])
        answered_between.append(shares[0].ended.done())

    gathering = Gathering(run=run, most_lanes=lambda _: 4, at_once=lambda: 1)
    assert await result_of(gathering, "a", "b") == DONE
    assert answered_between == [False, True]


@pytest.mark.parametrize("failure", [ValueError("no"), asyncio.CancelledError()], ids=["defect", "cancelled"])
async def test_failure_reaches_all_that_have_not_been_answered_and_the_next_batch_goes_on(
    failure: BaseException,
) -> None:
    batches = Batches()
    batches.failure = failure
    calls = [batches.join(lane) for lane in "abc"]
    await batches.have_begun(1)
    for _ in range(2):
        batches.go_on.release()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [type(failure)] * 3
    assert batches.begun == [[{"a"}], [{"b"}, {"c"}]]
    batches.failure = None
    batches.go_on.release()
    assert await batches.join("d") == DONE


async def test_who_has_lanes_left_waits_again_behind_those_who_came_meanwhile() -> None:
    batches: list[list[set[str]]] = []

    async def run(_queue: Queue, shares: Sequence[Share]) -> None:
        batches.append([set(share.lanes) for share in shares])
        for share in shares:
            share.result += DONE
            share.end([min(share.lanes)])

    gathering = Gathering(run=run, most_lanes=lambda _: 2, at_once=lambda: 1)
    ends = await asyncio.gather(*(result_of(gathering, *lanes) for lanes in ("abc", "d", "e")))

    assert batches == [[{"a", "b", "c"}], [{"d"}, {"e"}], [{"b", "c"}], [{"c"}]]
    assert ends == [RunResult(completed=3), DONE, DONE]


async def test_who_comes_goes_before_who_waits_again_up_to_four_times() -> None:
    begun: list[str] = []
    coming = iter("opqrst")
    calls: list[asyncio.Task[RunResult]] = []

    async def run(_queue: Queue, shares: Sequence[Share]) -> None:
        (share,) = shares
        begun.append("".join(sorted(share.lanes)))
        # Somebody else comes with every batch, however long others have waited.
        if (lane := next(coming, None)) is not None:
            calls.append(await another(gathering, lane))
        share.end([min(share.lanes)])

    gathering = Gathering(run=run, most_lanes=lambda _: 1, at_once=lambda: 1)
    await asyncio.gather(*(result_of(gathering, *lanes) for lanes in ("abc", "xy")))
    await asyncio.gather(*calls)

    assert begun == ["abc", "xy", "o", "p", "q", "bc", "r", "s", "t", "y", "c"]


async def test_who_was_passed_over_goes_along_where_there_is_room() -> None:
    begun: list[list[str]] = []
    rooms = iter([2, 1, 1, 1, 9, 9])
    coming = iter("opqrs")
    calls: list[asyncio.Task[RunResult]] = []

    async def run(_queue: Queue, shares: Sequence[Share]) -> None:
        begun.append(["".join(sorted(share.lanes)) for share in shares])
        if (lane := next(coming, None)) is not None:
            calls.append(await another(gathering, lane))
        for share in shares:
            share.end([max(share.lanes)])

    gathering = Gathering(run=run, most_lanes=lambda _: next(rooms), at_once=lambda: 1)
    await result_of(gathering, "a", "b")
    await asyncio.gather(*calls)

    assert begun == [["ab"], ["o"], ["p"], ["q"], ["r", "a"], ["s"]]


async def test_batches_carry_the_context_of_no_call() -> None:
    seen: list[str] = []

    async def run(_queue: Queue, shares: Sequence[Share]) -> None:
        seen.append(caller.get())
        for share in shares:
            share.end(list(share.lanes))

    gathering = Gathering(run=run, most_lanes=lambda _: 1, at_once=lambda: 1)

    async def call(name: str) -> None:
        caller.set(name)
        await gathering.join(Queue.DEFAULT, [name])

    await asyncio.gather(*(call(name) for name in "abc"))
    assert seen == ["nobody"] * 3
