"""What operators do with the queue jobs of events, and what that does to the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.catalog import DELIVER_EVENT, INVOKE_DISPATCHER
from services.endpoints.domain.ports.ledger import Failure
from tests.support.dispatching import Scene, new_scene

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.endpoints.operations.retries import Retried
    from services.endpoints.store.postgres import PostgresStore


@pytest.fixture
async def scene(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    scene = await new_scene(store, connection)
    await scene.register("welcome")
    return scene


async def cancel(scene: Scene, kind: str) -> UUID:
    """Cancel the one queue job of a kind as an operator does."""
    (queue_job,) = await scene.queue_jobs(kind)
    async with scene.store.transaction() as tx:
        cancelled = await tx.ledger.cancel([queue_job["id"]], message="An operator cancelled it.")
        await scene.finality.settle(tx, cancelled, isolating=True)
    queue_job_id: UUID = queue_job["id"]
    return queue_job_id


async def discard(scene: Scene, kind: str) -> UUID:
    """Fail the one queue job of a kind for good."""
    (queue_job,) = await scene.queue_jobs(kind)
    async with scene.store.transaction() as tx:
        final = await tx.ledger.fail([Failure(queue_job["id"], kind, "BROKEN", "It broke.", retry_in=None)])
        await scene.finality.settle(tx, final)
    queue_job_id: UUID = queue_job["id"]
    return queue_job_id


async def retry(scene: Scene, queue_job_id: UUID, *, allow_repeat: bool = False) -> Retried:
    async with scene.store.transaction() as tx:
        return await scene.retries.retry(tx, [queue_job_id], allow_repeat=allow_repeat)


async def deliver(scene: Scene) -> None:
    async with scene.store.transaction() as tx:
        queue_jobs = await scene.pulled(DELIVER_EVENT.name)
        await scene.deliver.run(tx, queue_jobs)
        await tx.ledger.complete(queue_jobs)


async def test_cancelling_a_delivery_cancels_its_event_for_good(scene: Scene) -> None:
    event = await scene.send()

    queue_job_id = await cancel(scene, DELIVER_EVENT.name)
    refusal = (await retry(scene, queue_job_id)).refusals[queue_job_id]
    await scene.work_off()

    assert (await scene.event(event))["state"] == "CANCELLED"
    assert refusal.reason.value == "WRONG_STATE"
    assert "cancelled" in refusal.message
    assert await scene.runs() == []


async def test_a_delivery_that_failed_for_good_can_be_retried(scene: Scene) -> None:
    event = await scene.send()

    queue_job_id = await discard(scene, DELIVER_EVENT.name)
    assert (await scene.event(event))["state"] == "FAILED"
    assert not (await retry(scene, queue_job_id)).refusals
    assert (await scene.event(event))["state"] == "PENDING"
    await scene.work_off()

    assert (await scene.event(event))["state"] == "DELIVERED"
    assert await scene.runs() == [("welcome", 1, "1.0.0")]


async def test_repeating_a_delivery_finds_it_done(scene: Scene) -> None:
    event = await scene.send()
    await scene.work_off()
    (queue_job,) = await scene.queue_jobs(DELIVER_EVENT.name)
    await scene.register("audit")

    assert not (await retry(scene, queue_job["id"], allow_repeat=True)).refusals
    await scene.work_off()

    assert (await scene.event(event))["match_count"] == 1
    assert await scene.runs() == [("welcome", 1, "1.0.0")]


@pytest.mark.parametrize("kind", [DELIVER_EVENT.name, INVOKE_DISPATCHER.name])
async def test_what_belonged_to_an_event_that_is_gone_is_not_retried(scene: Scene, kind: str) -> None:
    await scene.send()
    await scene.work_off()
    (queue_job,) = await scene.queue_jobs(kind)
    await scene.connection.execute("DELETE FROM events")

    refusal = (await retry(scene, queue_job["id"], allow_repeat=True)).refusals[queue_job["id"]]

    assert refusal.reason.value == "WRONG_STATE"
    assert "gone" in refusal.message


@pytest.mark.parametrize("kind", [DELIVER_EVENT.name, INVOKE_DISPATCHER.name])
async def test_unreadable_args_can_be_cancelled_and_are_not_retried(scene: Scene, kind: str) -> None:
    await scene.send()
    if kind == INVOKE_DISPATCHER.name:
        await deliver(scene)
    await scene.connection.execute("UPDATE queue_jobs SET args = '[]'")

    queue_job_id = await cancel(scene, kind)
    refusal = (await retry(scene, queue_job_id)).refusals[queue_job_id]

    assert refusal.reason.value == "WRONG_STATE"
    assert "cannot be read" in refusal.message


async def test_a_cancelled_invocation_says_so_and_runs_when_retried(scene: Scene) -> None:
    event = await scene.send()
    await deliver(scene)

    queue_job_id = await cancel(scene, INVOKE_DISPATCHER.name)
    cancelled = await scene.invocation(event)
    assert not (await retry(scene, queue_job_id)).refusals
    waiting = await scene.invocation(event)
    await scene.work_off()

    assert (cancelled["state"], cancelled["reason"]) == ("FAILED", "An operator cancelled it.")
    assert (waiting["state"], waiting["reason"]) == ("PENDING", None)
    assert (await scene.invocation(event))["state"] == "COMPLETED"
    assert await scene.runs() == [("welcome", 1, "1.0.0")]


async def test_an_invocation_that_failed_for_good_says_why(scene: Scene) -> None:
    event = await scene.send()
    await deliver(scene)

    await discard(scene, INVOKE_DISPATCHER.name)

    invocation = await scene.invocation(event)
    assert (invocation["state"], invocation["reason"]) == ("FAILED", "It broke.")


async def test_a_repeated_invocation_runs_no_version_twice_but_a_newer_one(scene: Scene) -> None:
    event = await scene.send()
    await scene.work_off()
    (queue_job,) = await scene.queue_jobs(INVOKE_DISPATCHER.name)

    await retry(scene, queue_job["id"], allow_repeat=True)
    await scene.work_off()
    assert await scene.runs() == [("welcome", 1, "1.0.0")]
    assert (await scene.invocation(event))["run_count"] == 1

    await scene.register("welcome", version="1.1.0")
    await retry(scene, queue_job["id"], allow_repeat=True)
    await scene.work_off()

    assert await scene.runs() == [("welcome", 1, "1.0.0"), ("welcome", 2, "1.1.0")]
    assert (await scene.invocation(event))["run_count"] == 2
    assert (await scene.invocation(event))["state"] == "COMPLETED"


async def test_a_skipped_invocation_runs_when_it_is_repeated_later(scene: Scene) -> None:
    event = await scene.send()
    await deliver(scene)
    await scene.connection.execute("UPDATE job_versions SET state = 'DISABLED'")
    await scene.work_off()
    assert (await scene.invocation(event))["state"] == "SKIPPED"
    (queue_job,) = await scene.queue_jobs(INVOKE_DISPATCHER.name)
    await scene.connection.execute("UPDATE job_versions SET state = 'ACTIVE'")

    await retry(scene, queue_job["id"], allow_repeat=True)
    await scene.work_off()

    invocation = await scene.invocation(event)
    assert (invocation["state"], invocation["run_count"], invocation["reason"]) == ("COMPLETED", 1, None)
