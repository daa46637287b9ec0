"""What lies between the answer of SendEvent and the run, when any process on the way dies: one run for each match."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from kongflow.v1 import event_service_pb2

from tests.support.eventually import eventually
from tests.support.fault_injection import CRASH_STATUS
from tests.support.fault_scene import PATIENCE, Scene, new_scene
from tests.support.machine_time import machine_time
from tests.support.persistent_caller import PersistentCaller

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from tests.support.fault_stack import FaultStack
    from tests.support.processes import ServiceProcess

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("processes")]

JOBS = 3


def _whole(place: str) -> ParameterSet:
    return pytest.param(place, marks=pytest.mark.whole)


SERVER_PLACES = (
    "before_effect.deliverEvent",
    "after_commit.call backs:2",
    _whole("after_ring_before_publish"),
    _whole("before_commit.call backs:1"),
    _whole("after_commit.call backs:1"),
    _whole("before_effect.events.invokeDispatcher"),
    _whole("before_commit.call backs:2"),
)
WORKER_PLACES = ("before_call_back.events", _whole("after_pop.events"), _whole("after_call_back.events"))


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack, jobs=JOBS)


async def send(scene: Scene) -> uuid.UUID:
    """Send an event that all jobs want, again until it is answered; return its record's id."""
    event = event_service_pb2.NewEvent(name="thing.happened", event_id=str(uuid.uuid4()))
    request = event_service_pb2.SendEventRequest(environment_id=scene.tenant.environment_id, event=event)
    caller = PersistentCaller(scene.stack, seed=0)
    answer = await caller.until_answered(
        scene.tenant, lambda client, timeout: client.call(client.events.SendEvent, request, timeout=timeout)
    )
    assert caller.mistakes == []
    return uuid.UUID(answer.event.id)


async def runs_exist(scene: Scene, event: uuid.UUID) -> timedelta:
    """Wait until every job has its run of the event, once; return how long that took."""
    began = machine_time()

    async def all_there() -> bool:
        count = await scene.stack.postgres.value("SELECT count(*) FROM job_runs WHERE event_record_id = $1", event)
        assert count == JOBS
        return True

    await eventually(all_there, within=PATIENCE)
    took = timedelta(seconds=machine_time() - began)
    await scene.stack.settle()
    assert await all_there()
    return took


async def restart_to_crash(process: ServiceProcess, place: str) -> None:
    await process.kill()
    await process.launch(crash_at=place)
    await process.ready()


@pytest.mark.parametrize("place", SERVER_PLACES)
async def test_server_killed_between_event_and_run_leaves_one_run_for_each_match(scene: Scene, place: str) -> None:
    server, other = scene.stack.servers
    await other.kill()
    await restart_to_crash(server, place)
    event = await send(scene)
    assert await server.ended(within=PATIENCE) == CRASH_STATUS
    await scene.stack.heal()

    assert await runs_exist(scene, event) <= PATIENCE


@pytest.mark.parametrize("place", WORKER_PLACES)
async def test_worker_killed_between_event_and_run_leaves_one_run_for_each_match(scene: Scene, place: str) -> None:
    worker, other = scene.stack.workers
    await other.kill()
    await restart_to_crash(worker, place)
    event = await send(scene)
    assert await worker.ended(within=PATIENCE) == CRASH_STATUS
    await worker.start()

    assert await runs_exist(scene, event) <= PATIENCE


async def test_server_killed_between_commit_and_answer_has_one_record_of_the_event(scene: Scene) -> None:
    server, other = scene.stack.servers
    await other.kill()
    await restart_to_crash(server, "after_commit.callers")
    sending = asyncio.create_task(send(scene))
    assert await server.ended(within=PATIENCE) == CRASH_STATUS
    assert await scene.stack.postgres.value("SELECT count(*) FROM events WHERE state = 'PENDING'") == 1
    await scene.stack.heal()

    assert await runs_exist(scene, await sending) <= PATIENCE
    assert await scene.stack.postgres.value("SELECT count(*) FROM events WHERE id = $1", sending.result()) == 1
