"""What PostgreSQL, a lock or a clock may do to the rest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.eventually import eventually
from tests.support.fault_scene import PATIENCE, new_scene
from tests.support.machine_time import machine_time
from tests.support.passing import lasting

if TYPE_CHECKING:
    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("dependencies")]

CLOCKED = "tests.support.clocked_service"
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack)


def reason_and_retry(error: grpc.aio.AioRpcError) -> tuple[str, bool]:
    """Return an error's reason, and whether it says when to try again."""
    metadata = dict(error.trailing_metadata() or ())
    raw = metadata["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    details = status_pb2.Status.FromString(raw).details
    reason = next(info.reason for detail in details if detail.Unpack(info))
    return reason, any(detail.Unpack(retry) for detail in details)


async def health_of(scene: Scene, *, server: int = 0) -> Any:
    stub = health_pb2_grpc.HealthStub(scene.stack.pairs[server].channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def test_crash_of_postgresql_is_unavailable_to_callers_and_work_goes_on_after_it(scene: Scene) -> None:
    queue_job_id = await scene.call_begins()
    await scene.stack.postgres.crash()
    refused = await scene.refused()
    scene.stack.farm.answers.set()
    await scene.stack.postgres.start()

    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_and_retry(refused) == ("DATABASE_UNAVAILABLE", True)
    await scene.is_done(queue_job_id, within=2 * PATIENCE)
    asked = await scene.ask()
    assert await scene.is_done(asked.queue_job_id) <= PATIENCE


async def test_server_waits_for_postgresql_at_its_start_and_says_so(scene: Scene) -> None:
    server = scene.stack.servers[0]
    await server.kill()
    scene.stack.to_postgres.refuse()
    await server.launch()
    await eventually(lambda: '"loop": "database"' in server.log_text(), within=PATIENCE)

    async def listens() -> bool:
        return await server.http_status("/readyz") is not None

    # It looks for PostgreSQL while it begins to listen.
    await eventually(listens, within=PATIENCE)
    assert await server.not_ready_text()
    assert await health_of(scene) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await scene.refused()).code() is grpc.StatusCode.UNAVAILABLE

    scene.stack.to_postgres.heal()
    await server.ready()
    await eventually(lambda: _serves(scene))
    asked = await scene.ask()
    await scene.is_done(asked.queue_job_id)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_database_that_always_gives_way_is_a_conflict_after_a_few_tries(scene: Scene, sqlstate: str) -> None:
    await scene.stack.postgres.fetch("INSERT INTO audit_obstacles VALUES ($1, 1)", sqlstate)
    try:
        refused = await scene.refused()
    finally:
        await scene.stack.postgres.fetch("DELETE FROM audit_obstacles")

    assert refused.code() is grpc.StatusCode.ABORTED
    assert reason_and_retry(refused) == ("CONFLICT", True)
    asked = await scene.ask()
    await scene.is_done(asked.queue_job_id)


async def test_held_lock_is_a_conflict_and_hangs_nobody(scene: Scene) -> None:
    connection = await asyncpg.connect(scene.stack.postgres.url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE endpoint_indexes IN ACCESS EXCLUSIVE MODE")
            began = machine_time()
            refused = await scene.refused()
            assert machine_time() - began < 3 * 2 + 2
            assert refused.code() is grpc.StatusCode.ABORTED
            assert reason_and_retry(refused) == ("CONFLICT", True)
    finally:
        await connection.close()

    asked = await scene.ask()
    await scene.is_done(asked.queue_job_id)


async def test_held_lock_delays_work_and_burns_no_attempt(scene: Scene) -> None:
    queue_job_id = await scene.call_begins()
    connection = await asyncpg.connect(scene.stack.postgres.url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE job_versions IN ACCESS EXCLUSIVE MODE")
            scene.stack.farm.answers.set()
            await lasting(timedelta(seconds=3))
    finally:
        await connection.close()

    await scene.is_done(queue_job_id, within=2 * PATIENCE)
    assert (await scene.queue_job(queue_job_id))["attempt"] == 1


@pytest.mark.whole
async def test_connections_that_are_lost_without_a_word_are_let_go(scene: Scene) -> None:
    """Nobody resets them: a firewall forgot them, and only a deadline of one's own notices."""
    scene.stack.to_postgres.lose()
    asked: Any = None

    async def is_asked() -> bool:
        nonlocal asked
        try:
            asked = await scene.ask()
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(is_asked, within=timedelta(seconds=40))
    await scene.is_done(asked.queue_job_id, within=timedelta(seconds=40))


@pytest.mark.whole
async def test_clock_that_is_wrong_and_steps_makes_nothing_early_late_or_doubled(scene: Scene) -> None:
    """One server is an hour ahead, then an hour behind: leases and due times follow the database."""
    wrong, right = scene.stack.servers
    await right.kill()
    await wrong.kill()
    wrong.program, program = ("-m", CLOCKED, str(HOUR.total_seconds()), "services.endpoints"), wrong.program
    try:
        await wrong.start()
        queue_job_id = await scene.call_begins()
        await lasting(timedelta(seconds=12))
        scene.stack.farm.answers.set()
        await scene.is_done(queue_job_id)
        later = await scene.ask(run_in=timedelta(seconds=3))
        await scene.is_done(later.queue_job_id)
        late_by = await scene.stack.postgres.value(
            "SELECT started_at - run_at FROM queue_jobs WHERE id = $1::text::uuid", later.queue_job_id
        )
    finally:
        wrong.program = program
        await wrong.kill()

    assert timedelta() <= late_by <= timedelta(seconds=1)
    assert (await scene.queue_job(queue_job_id))["rescues"] == 0
    assert len(scene.farm.index_calls()) == 3


async def _serves(scene: Scene) -> bool:
    return bool(await health_of(scene) == health_pb2.HealthCheckResponse.SERVING)
