"""How a call ended is stored although the database is away for a while: the customer is not called once more."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError, StatementTooSlowError
from services.endpoints.domain.queue_job import Queue
from services.endpoints.store.errors import translated
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.store.postgres import PostgresTransaction
    from tests.support.ledger import World

    OnFinish = Callable[[Transaction], Awaitable[None]]

ENDS_THIS_SESSION = "SELECT pg_terminate_backend(pg_backend_pid())"


def passing(*errors: Exception | str) -> OnFinish:
    """Fail with each of these once: an error, or a statement that ends the transaction."""
    left = list(errors)

    async def fail(tx: Transaction) -> None:
        if not left:
            return
        error = left.pop(0)
        if isinstance(error, Exception):
            raise error
        with translated():
            await cast("PostgresTransaction", tx).connection.execute(error)

    return fail


async def test_an_answer_outlives_the_sessions_of_the_database_that_were_to_store_it(world: World) -> None:
    world.call.on_finish = passing(ENDS_THIS_SESSION, ENDS_THIS_SESSION)
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    result = await world.work_off(Queue.EXECUTION)

    assert (result.completed, result.failed) == (1, 0)
    assert world.call.calls == ["a"]
    assert world.call.finished == [("a", "answer")]
    row = await world.row("a")
    assert (row["state"], row["attempt"], row["rescues"]) == ("COMPLETED", 1, 0)


async def test_an_answer_outlives_a_database_that_gives_way_again_and_again(world: World) -> None:
    world.call.on_finish = passing(*[ConflictError("It gave way.", retry_after=timedelta())] * 5)
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    await world.work_off(Queue.EXECUTION)

    assert (world.call.calls, world.call.finished) == (["a"], [("a", "answer")])


async def test_a_failure_is_stored_although_the_database_was_away(world: World) -> None:
    world.call.answers = lambda _queue_job: AttemptFailedError("It said no.", reason="REFUSED", is_retryable=False)
    away = passing(DatabaseUnavailableError("It is away.", retry_after=timedelta()))
    on_call_failed = world.call.on_call_failed

    async def fail_first(tx: Transaction, begun: object, error: Exception) -> None:
        await away(tx)
        await on_call_failed(tx, begun, error)  # type: ignore[arg-type] # the handler's own type

    world.call.on_call_failed = fail_first  # type: ignore[assignment] # one method for this test
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    await world.work_off(Queue.EXECUTION)

    assert world.call.calls == ["a"]
    row = await world.row("a")
    assert (row["state"], row["rescues"]) == ("DISCARDED", 0)
    assert [error["reason"] for error in json.loads(row["errors"])] == ["REFUSED"]


async def test_an_end_whose_lane_has_a_newer_owner_meanwhile_is_not_stored(world: World) -> None:
    world.call.on_finish = passing(DatabaseUnavailableError("It is away.", retry_after=timedelta()))
    world.runner = world.new_runner()
    held = world.hold_calls()
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    first = asyncio.create_task(world.work_off(Queue.EXECUTION))
    await held.called.wait()
    await world.let_leases_run_out()
    await world.rescue.run_once()
    world.call.answers = lambda _queue_job: "newer"
    for lanes in world.take(Queue.EXECUTION):
        await world.new_runner().run_queue_jobs(Queue.EXECUTION, lanes)
    held.answer.set_result("older")
    await first

    assert world.call.calls == ["a", "a"]
    assert world.call.finished == [("a", "newer")]


async def test_an_end_that_takes_the_database_too_long_fails_the_attempt_and_says_so(world: World) -> None:
    world.call.on_finish = passing(StatementTooSlowError("It took too long.", retry_after=timedelta()))
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    result = await world.work_off(Queue.EXECUTION)

    assert (result.completed, result.failed) == (0, 1)
    assert world.call.calls == ["a"]
    row = await world.row("a")
    assert (row["state"], row["rescues"]) == ("SCHEDULED", 0)
    assert [error["reason"] for error in json.loads(row["errors"])] == ["TOOK_TOO_LONG"]


async def test_an_end_is_given_up_after_three_leases_and_the_call_comes_again(world: World) -> None:
    world.settings = replace(world.settings, lease=timedelta(milliseconds=100))
    world.runner = world.new_runner()
    world.call.on_finish = passing(*[DatabaseUnavailableError("It is away.", retry_after=timedelta())] * 100)
    await world.enqueue(queue_job("a", kind="call", queue=Queue.EXECUTION))
    with pytest.raises(DatabaseUnavailableError):
        await world.work_off(Queue.EXECUTION)
    world.call.on_finish = None
    await world.let_leases_run_out()
    await world.rescue.run_once()
    await world.work_off(Queue.EXECUTION)

    assert world.call.calls == ["a", "a"]
    assert (await world.row("a"))["rescues"] == 1
