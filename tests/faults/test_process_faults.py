"""What each process may do to the others by dying, freezing or leaving."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio
from kongflow.v1 import queue_service_pb2

from tests.support.eventually import eventually
from tests.support.fault_injection import CRASH_STATUS
from tests.support.fault_scene import PATIENCE, RUNG_AGAIN, new_scene
from tests.support.passing import lasting

if TYPE_CHECKING:
    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack
    from tests.support.processes import ServiceProcess

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("processes")]


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack)


async def restart_to_crash(process: ServiceProcess, place: str) -> None:
    await process.kill()
    await process.launch(crash_at=place)
    await process.ready()


async def has_crashed(process: ServiceProcess) -> None:
    assert await process.ended(within=PATIENCE) == CRASH_STATUS


async def only(process: ServiceProcess, others: tuple[ServiceProcess, ...]) -> None:
    """Leave one process of its kind."""
    for other in others:
        if other is not process:
            await other.kill()


@pytest.mark.parametrize("place", ["after_pop.execution", "before_call_back.execution"])
async def test_worker_killed_before_it_calls_back_is_followed_by_another_ring(scene: Scene, place: str) -> None:
    worker = scene.stack.workers[0]
    await only(worker, scene.stack.workers)
    await restart_to_crash(worker, place)
    asked = await scene.ask()
    await has_crashed(worker)
    await worker.start()

    assert await scene.is_done(asked.queue_job_id) <= RUNG_AGAIN
    assert len(scene.farm.index_calls()) == 2


async def test_worker_killed_during_its_call_changes_nothing(scene: Scene) -> None:
    queue_job_id = await scene.call_begins()
    for worker in scene.stack.workers:
        await worker.kill()
    scene.stack.farm.answers.set()

    await scene.is_done(queue_job_id)
    assert await scene.queue_job(queue_job_id) == {"state": "COMPLETED", "attempt": 1, "rescues": 0, "errors": "[]"}
    assert len(scene.farm.index_calls()) == 2


async def test_worker_killed_after_the_effect_leaves_nothing_to_do(scene: Scene) -> None:
    worker = scene.stack.workers[0]
    await only(worker, scene.stack.workers)
    await restart_to_crash(worker, "after_call_back.execution")
    asked = await scene.ask()
    await has_crashed(worker)
    await worker.start()

    await scene.stack.settle()
    assert await scene.queue_job(asked.queue_job_id) == {
        "state": "COMPLETED",
        "attempt": 1,
        "rescues": 0,
        "errors": "[]",
    }
    assert len(scene.farm.index_calls()) == 2


async def test_server_that_is_told_to_stop_finishes_what_it_holds(scene: Scene) -> None:
    server = scene.stack.servers[0]
    await only(server, scene.stack.servers)
    queue_job_id = await scene.call_begins()
    stopping = asyncio.create_task(server.terminate())
    await eventually(lambda: "draining" in server.log_text().splitlines()[-1])
    scene.stack.farm.answers.set()

    assert await stopping == 0
    assert await scene.queue_job(queue_job_id) == {"state": "COMPLETED", "attempt": 1, "rescues": 0, "errors": "[]"}


async def test_backlog_is_kept_and_shown_while_all_workers_are_gone(scene: Scene) -> None:
    for worker in scene.stack.workers:
        await worker.kill()
    asked = await scene.ask()
    client = scene.stack.pairs[0].client(scene.tenant.api_key)

    async def age_is_shown() -> bool:
        request = queue_service_pb2.GetQueueStatsRequest(environment_id=scene.tenant.environment_id)
        stats = (await client.call(client.queue.GetQueueStats, request)).queues
        return any(each.oldest_available_age.ToTimedelta() > timedelta(seconds=1) for each in stats)

    await eventually(age_is_shown)
    await scene.stack.workers[0].start()

    assert await scene.is_done(asked.queue_job_id) <= RUNG_AGAIN


async def test_server_killed_before_its_commit_leaves_no_row(scene: Scene) -> None:
    server = scene.stack.servers[0]
    await restart_to_crash(server, "before_commit.callers")

    assert (await scene.refused()).code() is grpc.StatusCode.UNAVAILABLE
    await has_crashed(server)
    assert await scene.indexes() == 1


async def test_server_killed_between_commit_and_answer_answers_the_same_request_the_same(scene: Scene) -> None:
    server = scene.stack.servers[0]
    await restart_to_crash(server, "after_commit.callers")
    request_id = str(uuid.uuid4())

    assert (await scene.refused(request_id=request_id)).code() is grpc.StatusCode.UNAVAILABLE
    await has_crashed(server)
    assert await scene.indexes() == 2
    again = await scene.ask(server=1, request_id=request_id)
    assert await scene.indexes() == 2
    await scene.is_done(again.queue_job_id)


@pytest.mark.parametrize("place", ["after_commit.callers", "after_ring_before_publish"])
async def test_server_killed_between_commit_and_ring_rings_when_a_server_is_back(scene: Scene, place: str) -> None:
    server = scene.stack.servers[0]
    await only(server, scene.stack.servers)
    await restart_to_crash(server, place)
    await asyncio.gather(scene.ask(), return_exceptions=True)
    await has_crashed(server)
    await server.start()

    queue_job_id = await scene.stack.postgres.value(
        "SELECT id FROM queue_jobs WHERE finalized_at IS NULL AND kind = 'indexEndpoint'"
    )
    assert await scene.is_done(str(queue_job_id)) <= RUNG_AGAIN


@pytest.mark.whole
async def test_idle_worker_keeps_its_connections(scene: Scene) -> None:
    """A server hangs up on a third ping that came too early; the worker pings every few seconds."""
    before = scene.stack.logs().count("too_many_pings")
    await lasting(timedelta(seconds=30))

    assert scene.stack.logs().count("too_many_pings") == before


@pytest.mark.whole
async def test_server_frozen_past_its_lease_is_fenced_when_it_wakes(scene: Scene) -> None:
    frozen, other = scene.stack.servers
    await other.kill()
    queue_job_id = await scene.call_begins()
    frozen.freeze()
    again = asyncio.create_task(scene.is_called(within=3 * PATIENCE))
    await other.start()
    await again
    scene.stack.farm.answers.set()
    await scene.is_done(queue_job_id)
    await scene.stack.settle()
    frozen.thaw()

    await eventually(lambda: "attempt_was_fenced" in frozen.log_text(), within=PATIENCE)
    assert (await scene.queue_job(queue_job_id))["rescues"] == 1
    assert len(scene.farm.index_calls()) == 3
    assert await scene.effects() == 2 * scene.farm.jobs


@pytest.mark.whole
async def test_queue_job_that_kills_every_server_is_found_and_discarded(scene: Scene) -> None:
    """Its neighbours are done, and nobody has to look after it."""
    servers = scene.stack.servers
    for server in servers:
        await restart_to_crash(server, "before_effect.registerSource")
    scene.farm.add_source("poison")
    asked = await scene.ask(server=1)
    deaths = 0

    async def poison_is_discarded() -> bool:
        nonlocal deaths
        for server in servers:
            if not server.is_running:
                deaths += 1
                await server.kill()
                await server.launch(crash_at="before_effect.registerSource")
        state = await scene.stack.postgres.value(
            "SELECT state FROM queue_jobs WHERE kind = 'registerSource' AND errors::text LIKE '%POISONED%'"
        )
        return bool(state == "DISCARDED")

    await eventually(poison_is_discarded, within=timedelta(seconds=150))
    await scene.stack.heal()
    await scene.stack.settle()

    assert deaths >= 3
    index = await scene.stack.pairs[0].client(scene.tenant.api_key).get_index(asked.index.id)
    items = await scene.stack.pairs[0].client(scene.tenant.api_key).item_states(index.id)
    assert items.pop("SOURCE poison") == "FAILED"
    assert set(items.values()) == {"CHANGED"}
