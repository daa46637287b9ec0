"""Attempts that begin and never end where a customer is called, and attempts that end while nobody looks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.errors import ConflictError
from services.endpoints.domain.queue_job import Queue, QueueJob, QueueJobState
from services.endpoints.operations.gathering import RunResult
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from tests.support.ledger import World

_SUSPECT = "UPDATE queue_lanes SET suspect = true, rings = 3"


async def run(world: World) -> RunResult | BaseException:
    (end,) = await asyncio.gather(
        world.new_runner().run_queue_jobs(Queue.EXECUTION, ["lane-a"]), return_exceptions=True
    )
    return end


async def ring_again(world: World) -> None:
    world.take(Queue.EXECUTION)
    await world.let_leases_run_out()
    assert await world.rescue.run_once() == 1


async def enqueue_call(world: World, *names: str) -> None:
    await world.enqueue(*(queue_job(name, kind="call") for name in names))
    await world.relay.run_once()


async def test_call_whose_preparation_kills_its_server_is_discarded_as_poisoned(world: World) -> None:
    await enqueue_call(world, "poison", "neighbour")
    world.call.begin_kills.add("poison")

    # Killed once as any other, once marked as suspect, and three times alone.
    for _ in range(5):
        assert isinstance(await run(world), asyncio.CancelledError)
        await ring_again(world)
    assert await run(world) == RunResult(completed=1)

    assert await world.states() == {"poison": "DISCARDED", "neighbour": "COMPLETED"}
    assert ("poison", QueueJobState.DISCARDED, "POISONED") in world.call.final
    assert await world.lanes() == {}


async def test_calls_that_die_after_their_beginning_are_no_poison(world: World) -> None:
    await enqueue_call(world, "a")

    def die(_queue_job: QueueJob) -> None:
        raise asyncio.CancelledError

    world.call.answers = die
    for rescues in range(1, 8):
        assert isinstance(await run(world), asyncio.CancelledError)
        await ring_again(world)
        assert (await world.row("a"))["rescues"] == rescues
    world.call.answers = lambda _queue_job: "answer"

    assert await run(world) == RunResult(completed=1)


async def test_call_that_lost_its_server_often_is_no_poison_because_its_preparation_is_interrupted_once(
    world: World,
) -> None:
    await enqueue_call(world, "a")

    def die(_queue_job: QueueJob) -> None:
        raise asyncio.CancelledError

    world.call.answers = die
    for _ in range(3):
        assert isinstance(await run(world), asyncio.CancelledError)
        await ring_again(world)
    world.call.answers = lambda _queue_job: "answer"
    world.call.begin_kills.add("a")
    for _ in range(2):
        assert isinstance(await run(world), asyncio.CancelledError)
        await ring_again(world)
    world.call.begin_kills.clear()

    assert await run(world) == RunResult(completed=1)
    assert world.call.finished == [("a", "answer")]


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "COMPLETED"), (AttemptFailedError("no", reason="NO"), "SCHEDULED")],
    ids=["succeeds", "fails"],
)
async def test_suspect_call_that_ends_leaves_nothing_counted(world: World, error: Exception | None, state: str) -> None:
    await enqueue_call(world, "a")
    await world.connection.execute(_SUSPECT)
    world.call.begin_error = error

    await run(world)

    row = await world.row("a")
    assert (row["state"], row["attempt"], row["unended"]) == (state, 1, 0)
    assert await world.lanes() == {}


async def test_database_that_gives_way_to_a_suspect_call_is_no_poison(world: World) -> None:
    await enqueue_call(world, "a")
    await world.connection.execute(_SUSPECT)
    world.call.begin_error = ConflictError("gave way", retry_after=timedelta(seconds=1))
    for _ in range(4):
        assert isinstance(await run(world), ConflictError)
        await ring_again(world)

    row = await world.row("a")
    assert (row["state"], row["unended"]) == ("AVAILABLE", 0)


async def test_doubled_messages_of_a_suspect_lane_call_once(world: World) -> None:
    await enqueue_call(world, "a")
    await world.connection.execute(_SUSPECT)

    await asyncio.gather(*(run(world) for _ in range(8)))

    assert await world.states() == {"a": "COMPLETED"}
    assert world.call.calls == ["a"]


@pytest.mark.parametrize("error_in", ["begin", "call"])
async def test_failure_that_cannot_be_noted_is_a_failed_attempt(world: World, error_in: str) -> None:
    error = AttemptFailedError("no", reason="NO")
    world.call.failed_error = KeyError("indexId")
    if error_in == "begin":
        world.call.begin_error = error
    else:
        world.call.answers = lambda _queue_job: error
    await enqueue_call(world, "a")

    assert await run(world) == RunResult(failed=1)

    row = await world.row("a")
    assert (row["state"], row["attempt"]) == ("SCHEDULED", 1)
    assert await world.lanes() == {}
