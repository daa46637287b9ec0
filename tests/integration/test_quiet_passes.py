"""The relay when little waits: one statement rings all there is, and nobody needs a turn."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.queue_job import Priority, Queue
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.ledger import World

LATER = datetime(2999, 1, 1, tzinfo=UTC)


class Looks:
    """Counts how often the relay asked for room: it does whenever it has environments take turns."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        room = world.publisher.room

        async def counted(queues: Sequence[str]) -> dict[str, int]:
            self.count += 1
            return await room(queues)

        monkeypatch.setattr(world.publisher, "room", counted)


@pytest.fixture
async def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> Looks:
    """The looks for room from now on, of a relay that has looked once and found nothing waiting."""
    await world.relay.run_once()
    return Looks(world, monkeypatch)


async def test_few_lanes_of_all_queues_and_environments_are_rung_at_once(world: World, looks: Looks) -> None:
    await world.enqueue(
        *(queue_job(f"b{number}", lane=f"b-{number}", environment_id=UUID(int=number)) for number in range(1, 4)),
        *(queue_job(f"again{number}", lane="b-1", environment_id=UUID(int=1)) for number in range(5)),
        *(queue_job(f"c{number}", kind="call", lane=f"c-{number}") for number in range(2)),
    )
    await world.relay.run_once()

    assert looks.count == 0
    assert [sorted(lanes) for lanes in world.take(Queue.DEFAULT)] == [["b-1", "b-2", "b-3"]]
    assert world.take(Queue.EXECUTION) == [["c-0"], ["c-1"]]
    assert set(await world.lanes()) == {"b-1", "b-2", "b-3", "c-0", "c-1"}


async def test_urgent_lanes_are_rung_first(world: World, looks: Looks) -> None:
    await world.enqueue(
        queue_job("a", lane="a", priority=Priority.VERY_LOW), queue_job("z", lane="z", priority=Priority.HIGH)
    )
    await world.relay.run_once()

    assert (looks.count, world.take(Queue.DEFAULT)) == (0, [["z", "a"]])


async def test_crowd_takes_turns_in_the_same_pass(world: World, looks: Looks) -> None:
    await world.enqueue(*(queue_job(str(number), lane=f"lane-{number:02}") for number in range(17)))
    await world.relay.run_once()

    assert looks.count == 1
    assert world.take(Queue.DEFAULT) == [[f"lane-{number:02}" for number in range(17)]]


async def test_who_has_its_share_already_has_its_lanes_take_turns(world: World) -> None:
    relay = world.new_relay(max_calls_per_environment=2)
    await relay.run_once()
    await world.enqueue(*(queue_job(f"{lane}{number}", kind="call", lane=lane) for lane in "abc" for number in "12"))
    rung = []
    for _ in range(3):
        await relay.run_once()
        taken = [lanes[0] for lanes in world.take(Queue.EXECUTION)]
        rung.append(taken)
        for lane in taken:
            await world.runner.run_queue_jobs(Queue.EXECUTION, [lane])

    assert rung == [["a", "b"], ["c", "a"], ["b", "c"]]


async def test_open_and_paused_lanes_are_left_alone(world: World, looks: Looks) -> None:
    await world.enqueue(queue_job("a", lane="open"))
    await world.relay.run_once()
    await world.connection.execute("INSERT INTO queue_pauses (queue, lane) VALUES ('default', 'paused')")
    await world.connection.execute("INSERT INTO queue_pauses (queue) VALUES ('execution')")
    await world.enqueue(
        queue_job("b", lane="open"),
        queue_job("c", lane="paused"),
        queue_job("d", lane="idle"),
        queue_job("e", kind="call", lane="of a paused queue"),
    )
    await world.relay.run_once()

    assert (looks.count, world.take(Queue.DEFAULT)) == (0, [["open"], ["idle"]])
    assert world.take(Queue.EXECUTION) == []


async def test_what_falls_due_is_rung_in_the_same_pass(world: World, looks: Looks) -> None:
    await world.enqueue(queue_job("a", lane="later", run_at=LATER))
    assert await world.relay.run_once() == world.settings.safety_poll
    await world.connection.execute("UPDATE queue_jobs SET run_at = now() + interval '0.5 seconds'")
    assert timedelta() < await world.relay.run_once() <= timedelta(seconds=0.5)
    assert looks.count == 0

    await world.connection.execute("UPDATE queue_jobs SET run_at = now()")
    await world.relay.run_once()

    assert world.take(Queue.DEFAULT) == [["later"]]


async def test_windows_are_never_overfilled(world: World, looks: Looks) -> None:
    for number in range(70):
        await world.enqueue(queue_job(str(number), kind="call", lane=f"{number}", environment_id=UUID(int=number + 1)))
        await world.relay.run_once()

    assert len(world.publisher.messages["execution"]) == world.settings.max_waiting_messages
    assert looks.count < 70


async def test_nothing_more_is_rung_while_redis_is_away(world: World, looks: Looks) -> None:
    world.publisher.is_away = True
    for lane in ("a", "b"):
        await world.enqueue(queue_job(lane, lane=lane))
        with pytest.raises(QueueUnavailableError):
            await world.relay.run_once()
    assert set(await world.lanes()) == {"a"}

    world.publisher.is_away = False
    await world.relay.run_once()
    assert (looks.count, world.take(Queue.DEFAULT)) == (2, [["b"]])


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
