"""What a sweep does with the lanes of servers that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.queue_job import Queue, QueueJobState
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from tests.support.ledger import World

_RUN_EVERYTHING = """
WITH running AS (
    UPDATE queue_jobs SET state = 'RUNNING', attempt = 1, started_at = now() WHERE state = 'AVAILABLE'
    RETURNING queue, lane, environment_id
)
INSERT INTO queue_lanes (queue, lane, environment_id, state, claim, lease_until)
SELECT queue, lane, environment_id, 'RUNNING', nextval('queue_claims'), now() - interval '1 second' FROM running
ON CONFLICT (queue, lane) DO UPDATE SET
    state = 'RUNNING', claim = excluded.claim, lease_until = excluded.lease_until
"""


async def enqueue_calls(world: World, number: int) -> None:
    await world.enqueue(
        *(queue_job(f"{n}", kind="call", lane=f"lane-{n}", environment_id=UUID(int=1 + n)) for n in range(number))
    )


async def rung_lanes(world: World) -> set[str]:
    return {name for name, lane in (await world.lanes()).items() if lane["state"] == "RUNG"}


async def test_every_call_of_a_killed_server_can_begin_anew_after_one_sweep(world: World) -> None:
    await enqueue_calls(world, 200)
    await world.connection.execute(_RUN_EVERYTHING)

    assert await world.rescue.run_once() == 64

    assert set((await world.states()).values()) == {"AVAILABLE"}
    # The window holds 64; what it had no room for is idle, so that no lease has to run out before it is rung.
    assert len(await rung_lanes(world)) == len(world.publisher.messages["execution"]) == 64
    assert (await world.work_off()).completed == 200
    assert set((await world.states()).values()) == {"COMPLETED"}


async def test_lane_without_room_for_its_message_is_published_by_the_next_sweep_with_room(world: World) -> None:
    await enqueue_calls(world, 70)
    await world.relay.run_once()
    world.take(Queue.EXECUTION)
    await world.relay.run_once()
    lost = world.take(Queue.EXECUTION)
    assert len(lost) == 6
    await world.let_leases_run_out()

    assert await world.rescue.run_once() == 64
    world.take(Queue.EXECUTION)
    await world.connection.execute(
        "UPDATE queue_lanes SET lease_until = lease_until - $1::interval", world.settings.sweep_every
    )

    assert await world.rescue.run_once() == 6
    assert {lane["rings"] for lane in (await world.lanes()).values()} == {2}


async def test_suspect_lane_keeps_its_mark_while_there_is_no_room(world: World) -> None:
    await enqueue_calls(world, 1)
    await world.relay.run_once()
    await world.connection.execute(_RUN_EVERYTHING)
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    world.publisher.messages["execution"] = [["elsewhere"]] * 64

    assert await world.rescue.run_once() == 0

    lane = (await world.lanes())["lane-0"]
    assert (lane["state"], lane["rings"], lane["suspect"]) == ("RUNG", 3, True)


async def test_dead_servers_work_is_given_back_while_redis_is_away(world: World) -> None:
    await enqueue_calls(world, 3)
    await world.connection.execute(_RUN_EVERYTHING)
    world.publisher.is_away = True

    with pytest.raises(QueueUnavailableError):
        await world.rescue.run_once()

    assert set((await world.states()).values()) == {"AVAILABLE"}
    world.publisher.is_away = False
    assert (await world.work_off()).completed == 3


async def test_cancelled_call_of_a_dead_server_ends_as_cancelled(world: World) -> None:
    await enqueue_calls(world, 1)
    await world.connection.execute(_RUN_EVERYTHING)
    await world.connection.execute("UPDATE queue_jobs SET cancel_requested_at = now()")

    await world.rescue.run_once()

    assert world.call.final == [("0", QueueJobState.CANCELLED, "CANCELLED")]
    assert '"reason": "CANCELLED"' in (await world.row("0"))["errors"]
