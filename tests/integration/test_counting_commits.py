"""What is counted is what was committed: once, whatever was rolled back or repeated before."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.errors import ConflictError
from services.endpoints.domain.queue_job import Queue
from tests.support.ledger import failing, queue_job

if TYPE_CHECKING:
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.store.postgres import PostgresStore
    from tests.support.ledger import World


GAVE_WAY = ConflictError("The database gave way.", retry_after=timedelta())


class StopError(Exception):
    """Ends a transaction."""


def attempts(world: World, result: str) -> float:
    labels = {"kind": "other", "result": result}
    return world.metrics.registry.get_sample_value("kongflow_queue_attempts_total", labels) or 0.0


def discards(world: World) -> float:
    labels = {"kind": "other", "reason": "other"}
    return world.metrics.registry.get_sample_value("kongflow_queue_discards_total", labels) or 0.0


async def test_what_waits_for_a_commit_is_called_after_it_and_in_turn(world: World) -> None:
    told: list[str] = []
    async with world.store.transaction() as tx:
        await tx.ledger.enqueue([queue_job("a")])
        tx.after_commit(lambda: told.append("first"))
        tx.after_commit(lambda: told.append("second"))
        assert not told
    assert told == ["first", "second"]
    assert await world.states() == {"a": "AVAILABLE"}


async def test_what_waits_for_a_commit_is_not_called_after_a_rollback(store: PostgresStore) -> None:
    told: list[str] = []

    async def fail(tx: Transaction) -> None:
        tx.after_commit(lambda: told.append("rolled back"))
        raise StopError

    with pytest.raises(StopError):
        await store.transact(fail)
    async with store.transaction() as tx:
        with pytest.raises(StopError):
            async with tx.savepoint():
                await fail(tx)
        async with tx.savepoint():
            tx.after_commit(lambda: told.append("kept"))
    assert told == ["kept"]


async def test_what_waits_for_a_commit_is_called_once_when_the_database_gave_way(store: PostgresStore) -> None:
    told: list[int] = []
    numbers = itertools.count(1)

    async def give_way_once(tx: Transaction) -> None:
        number = next(numbers)
        tx.after_commit(lambda: told.append(number))
        if number == 1:
            raise GAVE_WAY

    await store.transact(give_way_once)
    assert told == [2]


async def test_attempts_and_discards_of_a_transaction_that_was_repeated_count_once(world: World) -> None:
    await world.enqueue(queue_job("a"), queue_job("b"), queue_job("c", max_attempts=1))
    world.batch.fails = failing("c")
    world.batch.passing_errors = [GAVE_WAY]
    await world.work_off()

    assert await world.states() == {"a": "COMPLETED", "b": "COMPLETED", "c": "DISCARDED"}
    assert not world.batch.passing_errors
    assert (attempts(world, "completed"), attempts(world, "failed"), discards(world)) == (2, 1, 1)


async def test_what_a_call_back_did_is_counted_when_another_lane_of_it_failed(world: World) -> None:
    await world.enqueue(queue_job("a", kind="call", lane="lane-a"), queue_job("b", kind="call", lane="lane-b"))
    world.call.begin_error_of = {"a": GAVE_WAY}
    await world.relay.run_once()
    lanes = [lane for message in world.take(Queue.EXECUTION) for lane in message]
    with pytest.raises(ConflictError):
        await world.runner.run_queue_jobs(Queue.EXECUTION, lanes)

    labels = {"queue": "execution", "result": "completed"}
    assert (await world.states())["b"] == "COMPLETED"
    assert world.metrics.registry.get_sample_value("kongflow_queue_jobs_run_total", labels) == 1
