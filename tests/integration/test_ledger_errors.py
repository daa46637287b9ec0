"""What a queue job remembers of its failures: every attempt, and waiting once."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.attempt import SnoozedError
from services.endpoints.domain.ports.queue_control import QueueJobFilter
from services.endpoints.domain.queue_job import QueueJobState
from tests.support.ledger import failing, queue_job

if TYPE_CHECKING:
    from tests.support.ledger import World

UPKEEP = UUID(int=0)


async def test_unknown_kind_has_one_error_however_often_it_was_looked_at(world: World) -> None:
    await world.enqueue(queue_job("a", kind="fromTheFuture"))
    times = set()
    for _ in range(3):
        await world.let_everything_fall_due()
        await world.work_off()
        times.add((await _errors(world, "a"))[-1]["time"])

    assert [each["reason"] for each in await _errors(world, "a")] == ["UNKNOWN_KIND"]
    assert len(times) == 3


async def test_waiting_takes_the_place_of_waiting_for_the_same_reason_only(world: World) -> None:
    early = SnoozedError("Not yet.", reason="TOO_EARLY", delay=timedelta(minutes=7))
    late = SnoozedError("Not any more.", reason="TOO_LATE", delay=timedelta(minutes=7))
    await world.enqueue(queue_job("a"), queue_job("b", kind="call", lane="lane-b"))
    for error in (early, early, late, late, None, None, early, early):
        world.batch.fails = failing("a", error=error)
        world.call.answers = lambda _queue_job, error=error: error or ValueError("broken")  # type: ignore[misc]
        await world.let_everything_fall_due()
        await world.work_off()

    for name in ("a", "b"):
        reasons = [(each["attempt"], each["reason"]) for each in await _errors(world, name)]
        first, second = reasons[2][1], reasons[3][1]
        assert first == second not in {"TOO_EARLY", "TOO_LATE"}
        assert reasons == [(1, "TOO_EARLY"), (1, "TOO_LATE"), (1, first), (2, second), (3, "TOO_EARLY")]


async def test_lists_show_the_last_error_and_one_alone_shows_all(world: World) -> None:
    world.batch.fails = failing("a")
    await world.enqueue(queue_job("a"), queue_job("b", lane="lane-b"))
    for _ in range(2):
        await world.let_everything_fall_due()
        await world.work_off()
    await world.connection.execute("UPDATE queue_jobs SET environment_id = $1", UPKEEP)

    async with world.store.reading() as tx:
        everything = await tx.queue_control.list_queue_jobs(QueueJobFilter(), limit=10, before=None)
        scheduled = QueueJobFilter(state=QueueJobState.SCHEDULED)
        of_a_state = await tx.queue_control.list_queue_jobs(scheduled, limit=10, before=None)
        alone = await tx.queue_control.get(of_a_state[0].id)

    assert sorted([error.attempt for error in each.errors] for each in everything) == [[], [2]]
    assert [[error.attempt for error in each.errors] for each in of_a_state] == [[2]]
    assert alone is not None
    assert [error.attempt for error in alone.errors] == [1, 2]


async def _errors(world: World, name: str) -> list[dict[str, object]]:
    errors: list[dict[str, object]] = json.loads((await world.row(name))["errors"])
    return errors
