"""An operator's cancel, and what it races with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
import pytest
from kongflow.v1 import queue_service_pb2

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.tenancy import Principal, PrincipalKind, Scope
from services.endpoints.operations.queue_jobs import QueueJobOperations
from services.endpoints.operations.retries import Retries
from services.endpoints.operations.watches import Watches
from tests.support.eventually import eventually
from tests.support.ledger import queue_job
from tests.support.memory_queue import MemoryWakeUps
from tests.support.rpc import refused

if TYPE_CHECKING:
    from services.endpoints.domain.queue_job import QueueJob
    from tests.support.ledger import World
    from tests.support.stage import Stage

ADMIN = Principal(PrincipalKind.ADMIN, "admin", scopes=frozenset(Scope))
LATER = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def operations(world: World) -> QueueJobOperations:
    return QueueJobOperations(
        store=world.store,
        finality=world.finality,
        retries=Retries(handlers={}),
        watches=Watches(),
        wake_ups=MemoryWakeUps(),
    )


async def test_waiting_work_is_cancelled_at_once_with_what_follows_and_repeating_changes_nothing(
    world: World, operations: QueueJobOperations
) -> None:
    due, later = queue_job("due"), queue_job("later", run_at=LATER)
    await world.enqueue(due, later)
    for waiting in (due, later):
        first = await operations.cancel(ADMIN, waiting.id)
        assert (first.state, first.errors[-1].reason) == (QueueJobState.CANCELLED, "CANCELLED")
        assert first.cancel_requested_at is not None
        assert await operations.cancel(ADMIN, waiting.id) == first
    await world.work_off()

    assert world.batch.done == []
    assert [name for name, _, _ in world.batch.final] == ["due", "later"]


async def test_running_call_is_asked_to_end_and_keeps_its_lane_until_it_has(
    world: World, operations: QueueJobOperations
) -> None:
    held = world.hold_calls()
    running, following = queue_job("a", kind="call"), queue_job("b", kind="call")
    await world.enqueue(running, following)
    await world.relay.run_once()
    [lanes] = [lanes for queue in list(world.publisher.messages) for lanes in world.publisher.messages.pop(queue)]
    ending = asyncio.create_task(world.runner.run_queue_jobs(running.queue, lanes))
    await held.called.wait()

    first = await operations.cancel(ADMIN, running.id)
    assert first.state is QueueJobState.RUNNING
    assert first.cancel_requested_at is not None
    assert await operations.cancel(ADMIN, running.id) == first
    await world.relay.run_once()
    assert world.take(running.queue) == []
    held.answer.set_result("nobody wants it")
    await ending

    assert await world.states() == {"a": "CANCELLED", "b": "AVAILABLE"}
    assert world.call.finished == []
    assert ("a", QueueJobState.CANCELLED, "CANCELLED") in world.call.final


async def test_cancel_waits_for_a_batch_that_holds_the_queue_job_and_is_then_too_late(
    world: World, operations: QueueJobOperations
) -> None:
    cancelling: list[asyncio.Task[object]] = []
    new = queue_job("a")

    async def cancel(_queue_job: QueueJob) -> None:
        cancelling.append(asyncio.create_task(operations.cancel(ADMIN, new.id)))
        await eventually(world.somebody_waits_for_a_lock)

    world.batch.before = cancel
    await world.enqueue(new)
    await world.work_off()

    with pytest.raises(KongflowError) as refusal:
        await cancelling[0]
    assert (refusal.value.reason, refusal.value.metadata["state"]) == (Reason.WRONG_STATE, "COMPLETED")
    assert world.batch.done == ["a"]


async def test_cancel_that_comes_first_leaves_a_rung_lane_nothing_to_run(
    world: World, operations: QueueJobOperations
) -> None:
    new = queue_job("a")
    await world.enqueue(new)
    await world.relay.run_once()
    await operations.cancel(ADMIN, new.id)
    [lanes] = world.take(new.queue)

    assert (await world.runner.run_queue_jobs(new.queue, lanes)).is_nothing_due
    assert world.batch.done == []
    assert await world.lanes() == {}


async def test_cancelled_call_that_lost_its_server_ends_as_cancelled(
    world: World, operations: QueueJobOperations
) -> None:
    held = world.hold_calls()
    new = queue_job("a", kind="call")
    await world.enqueue(new)
    await world.relay.run_once()
    [lanes] = world.take(new.queue)
    frozen = asyncio.create_task(world.runner.run_queue_jobs(new.queue, lanes))
    await held.called.wait()
    await operations.cancel(ADMIN, new.id)
    await world.let_leases_run_out()
    await world.rescue.run_once()
    assert await world.states() == {"a": "CANCELLED"}
    held.answer.set_result("too late")
    await frozen

    assert world.call.finished == []
    assert [state for _, state, _ in world.call.final] == [QueueJobState.CANCELLED]


async def test_what_follows_may_fail_and_the_queue_job_is_cancelled_all_the_same(
    world: World, operations: QueueJobOperations
) -> None:
    world.batch.final_error = ValueError("a defect")
    new = queue_job("a")
    await world.enqueue(new)

    assert (await operations.cancel(ADMIN, new.id)).state is QueueJobState.CANCELLED


async def test_absent_queue_job_and_a_bad_id_are_refused(stage: Stage) -> None:
    absent = queue_service_pb2.CancelQueueJobRequest(queue_job_id=str(uuid4()))
    assert (await refused(stage.writer.queue.CancelQueueJob(absent))).code is grpc.StatusCode.NOT_FOUND
    for request in (
        queue_service_pb2.CancelQueueJobRequest(),
        queue_service_pb2.CancelQueueJobRequest(queue_job_id="x"),
    ):
        assert (await refused(stage.writer.queue.CancelQueueJob(request))).fields == ["queue_job_id"]
    retry = queue_service_pb2.RetryQueueJobRequest(queue_job_id=str(uuid4()))
    assert (await refused(stage.writer.queue.RetryQueueJob(retry))).code is grpc.StatusCode.NOT_FOUND
