"""The relay when little waits: one statement rings all there is, and nobody needs a turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.queue_job import Priority, Queue
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.operations.relay import Relay
    from tests.support.ledger import World

LATER = datetime(2999, 1, 1, tzinfo=UTC)


@dataclass
class Quiet:
    """A relay that found nothing waiting, when its clock stood at `now`, and how often it asked for room since.

    It asks whenever it has environments take turns.
    """

    relay: Relay
    now: float = 0.0
    looks: int = 0


@pytest.fixture
async def quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> Quiet:
    return await settled(world, monkeypatch)


async def settled(world: World, monkeypatch: pytest.MonkeyPatch, **settings: int) -> Quiet:
    """Let a relay look for the first time, and count what it asks for from then on."""
    found = Quiet(world.new_relay(monotonic=lambda: found.now, **settings))
    await found.relay.run_once()
    room = world.publisher.room

    async def counted(queues: Sequence[str]) -> dict[str, int]:
        found.looks += 1
        return await room(queues)

    monkeypatch.setattr(world.publisher, "room", counted)
    return found


async def test_few_lanes_of_all_queues_and_environments_are_rung_at_once(world: World, quiet: Quiet) -> None:
    await world.enqueue(
        *(queue_job(f"b{number}", lane=f"b-{number}", environment_id=UUID(int=number)) for number in range(1, 4)),
        *(queue_job(f"again{number}", lane="b-1", environment_id=UUID(int=1)) for number in range(5)),
        *(queue_job(f"c{number}", kind="call", lane=f"c-{number}") for number in range(2)),
    )
    await quiet.relay.run_once()

    assert quiet.looks == 0
    assert [sorted(lanes) for lanes in world.take(Queue.DEFAULT)] == [["b-1", "b-2", "b-3"]]
    assert world.take(Queue.EXECUTION) == [["c-0"], ["c-1"]]
    assert set(await world.lanes()) == {"b-1", "b-2", "b-3", "c-0", "c-1"}


async def test_urgent_lanes_are_rung_first(world: World, quiet: Quiet) -> None:
    await world.enqueue(
        queue_job("a", lane="a", priority=Priority.VERY_LOW), queue_job("z", lane="z", priority=Priority.HIGH)
    )
    await quiet.relay.run_once()

    assert (quiet.looks, world.take(Queue.DEFAULT)) == (0, [["z", "a"]])


async def test_crowd_takes_turns_in_the_same_pass(world: World, quiet: Quiet) -> None:
    await world.enqueue(*(queue_job(str(number), lane=f"lane-{number:02}") for number in range(17)))
    await quiet.relay.run_once()

    assert quiet.looks == 1
    assert world.take(Queue.DEFAULT) == [[f"lane-{number:02}" for number in range(17)]]


async def test_crowd_of_one_queue_has_the_others_rung_once(world: World, quiet: Quiet) -> None:
    await world.enqueue(
        *(queue_job(str(number), lane=f"lane-{number:02}") for number in range(17)),
        queue_job("call", kind="call", lane="called"),
    )
    await quiet.relay.run_once()

    assert (len(world.take(Queue.DEFAULT)[0]), world.take(Queue.EXECUTION)) == (17, [["called"]])


async def test_who_found_a_crowd_expects_another_for_a_second(world: World, quiet: Quiet) -> None:
    await world.enqueue(*(queue_job(str(number), lane=f"lane-{number:02}") for number in range(17)))
    await quiet.relay.run_once()
    await world.connection.execute("DELETE FROM queue_jobs")

    looks = []
    for quiet.now in (0.9, 1.0):
        await world.enqueue(queue_job("a", lane=f"at {quiet.now}"))
        await quiet.relay.run_once()
        looks.append(quiet.looks)

    assert looks == [2, 2]
    assert world.take(Queue.DEFAULT)[1:] == [["at 0.9"], ["at 1.0"]]


async def test_who_has_its_share_already_has_its_lanes_take_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = await settled(world, monkeypatch, max_calls_per_environment=2)
    await world.enqueue(*(queue_job(f"{lane}{number}", kind="call", lane=lane) for lane in "abc" for number in "12"))
    rung = []
    for _ in range(3):
        await quiet.relay.run_once()
        taken = [lanes[0] for lanes in world.take(Queue.EXECUTION)]
        rung.append(taken)
        for lane in taken:
            await world.runner.run_queue_jobs(Queue.EXECUTION, [lane])

    assert rung == [["a", "b"], ["c", "a"], ["b", "c"]]


async def test_open_and_paused_lanes_are_left_alone(world: World, quiet: Quiet) -> None:
    await world.enqueue(queue_job("a", lane="open"))
    await quiet.relay.run_once()
    await world.connection.execute("INSERT INTO queue_pauses (queue, lane) VALUES ('default', 'paused')")
    await world.connection.execute("INSERT INTO queue_pauses (queue) VALUES ('execution')")
    await world.enqueue(
        queue_job("b", lane="open"),
        queue_job("c", lane="paused"),
        queue_job("d", lane="idle"),
        queue_job("e", kind="call", lane="of a paused queue"),
    )
    await quiet.relay.run_once()

    assert (quiet.looks, world.take(Queue.DEFAULT)) == (0, [["open"], ["idle"]])
    assert world.take(Queue.EXECUTION) == []


async def test_what_falls_due_is_rung_in_the_same_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.settings = replace(world.settings, safety_poll=timedelta(minutes=1))
    quiet = await settled(world, monkeypatch)
    await world.enqueue(queue_job("a", lane="later", run_at=LATER))
    assert await quiet.relay.run_once() == world.settings.safety_poll
    await world.connection.execute("UPDATE queue_jobs SET run_at = now() + interval '20 seconds'")
    assert timedelta() < await quiet.relay.run_once() <= timedelta(seconds=20)
    assert quiet.looks == 0

    await world.connection.execute("UPDATE queue_jobs SET run_at = now()")
    await quiet.relay.run_once()

    assert world.take(Queue.DEFAULT) == [["later"]]


async def test_windows_are_never_overfilled(world: World, quiet: Quiet) -> None:
    for number in range(70):
        await world.enqueue(queue_job(str(number), kind="call", lane=f"{number}", environment_id=UUID(int=number + 1)))
        await quiet.relay.run_once()

    assert len(world.publisher.messages["execution"]) == world.settings.max_waiting_messages
    assert quiet.looks < 70


async def test_windows_too_small_for_a_few_are_shared_by_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = await settled(world, monkeypatch, max_waiting_messages=20)
    await world.enqueue(queue_job("a"))
    await quiet.relay.run_once()

    assert (quiet.looks, world.take(Queue.DEFAULT)) == (1, [["lane-a"]])


async def test_room_is_asked_for_again_after_two_seconds(world: World, quiet: Quiet) -> None:
    looks = []
    for quiet.now in (1.9, 2.0, 3.9, 4.0):
        await quiet.relay.run_once()
        looks.append(quiet.looks)

    assert looks == [0, 1, 1, 2]


async def test_what_others_published_is_seen_with_the_next_publication(world: World, quiet: Quiet) -> None:
    world.publisher.messages["default"] = [["elsewhere"]] * 40
    for number, lane in enumerate(("a", "b"), 1):
        await world.enqueue(queue_job(lane, lane=lane, environment_id=UUID(int=number)))
        await quiet.relay.run_once()

    assert quiet.looks == 1
    assert sorted(lanes for lanes in world.take(Queue.DEFAULT) if lanes != ["elsewhere"]) == [["a"], ["b"]]


async def test_nothing_more_is_rung_while_redis_is_away(world: World, quiet: Quiet) -> None:
    world.publisher.is_away = True
    for lane in ("a", "b"):
        await world.enqueue(queue_job(lane, lane=lane))
        with pytest.raises(QueueUnavailableError):
            await quiet.relay.run_once()
    assert set(await world.lanes()) == {"a"}

    world.publisher.is_away = False
    await quiet.relay.run_once()
    assert (quiet.looks, world.take(Queue.DEFAULT)) == (2, [["b"]])


async def test_redis_that_goes_away_after_it_was_asked_is_asked_again(
    world: World, quiet: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise QueueUnavailableError

    quiet.now = 2.0
    with monkeypatch.context() as away:
        away.setattr(world.publisher, "publish", refused)
        await world.enqueue(queue_job("a", lane="a"))
        with pytest.raises(QueueUnavailableError):
            await quiet.relay.run_once()
    await world.enqueue(queue_job("b", lane="b"))
    await quiet.relay.run_once()

    assert (quiet.looks, world.take(Queue.DEFAULT)) == (2, [["b"]])


async def test_relays_at_once_ring_each_lane_once(world: World) -> None:
    relays = [world.new_relay() for _ in range(4)]
    for relay in relays:
        await relay.run_once()
    for number in range(20):
        await world.enqueue(*(queue_job(f"{number}-{lane}", lane=f"{number}-{lane}") for lane in range(4)))
        await asyncio.gather(*(relay.run_once() for relay in relays))
        rung = [lane for lanes in world.take(Queue.DEFAULT) for lane in lanes]
        assert sorted(rung) == [f"{number}-{lane}" for lane in range(4)]
        for lane in rung:
            await world.runner.run_queue_jobs(Queue.DEFAULT, [lane])
