"""What holds while everything is started, killed or migrated under load."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from kongflow.v1 import endpoint_service_pb2

from services.endpoints.store.migrations import runner
from tests.support.eventually import eventually
from tests.support.fault_injection import CRASH_STATUS
from tests.support.fault_scene import PATIENCE, new_scene
from tests.support.pair import Client, serving
from tests.support.processes import published_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack
    from tests.support.processes import ServiceProcess

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lifecycle")]

CALLERS = 4

# A later release's schema: every table that calls and work look at is locked, changed and held for a moment.
_LATER = '''
"""Adds a remark to what is there.

Revision ID: 9999
Revises: {head}
"""

from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None

TABLES = ("queue_lanes", "queue_jobs", "endpoints", "runtime_environments")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN remark text")
    op.execute("SELECT pg_sleep(0.2)")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {{table}} DROP COLUMN remark")
    op.execute("SELECT pg_sleep(0.2)")
'''


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack)


@asynccontextmanager
async def load(scene: Scene) -> AsyncIterator[dict[str, int]]:
    """Read and ask for indexes through the published service config; gives how many calls were answered so far.

    Raises:
        grpc.aio.AioRpcError: a caller saw an error.
    """
    answered = {"lists": 0, "indexes": 0}
    is_over = asyncio.Event()
    async with published_channel(pair.listening.grpc_port for pair in scene.stack.pairs) as channel:
        client = Client(channel, scene.tenant.api_key)

        async def until_over(name: str, call: Callable[[], Awaitable[Any]]) -> None:
            while not is_over.is_set():
                await call()
                answered[name] += 1

        def ask_list() -> Any:
            request = endpoint_service_pb2.ListEndpointsRequest(environment_id=scene.tenant.environment_id)
            return client.call(client.endpoints.ListEndpoints, request, timeout=PATIENCE.total_seconds())

        def ask_index() -> Any:
            request = endpoint_service_pb2.IndexEndpointRequest(
                endpoint_id=scene.endpoint_id, request_id=str(uuid.uuid4())
            )
            return client.call(client.endpoints.IndexEndpoint, request, timeout=PATIENCE.total_seconds())

        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(until_over("lists", ask_list))
            callers.create_task(until_over("indexes", ask_index))
            try:
                yield answered
            finally:
                is_over.set()


async def test_migration_under_load_is_seen_by_no_caller(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The newest schema goes up and down again while both servers serve and work."""
    url = scene.stack.postgres.url
    head = (await runner.status(url)).head
    (tmp_path / "9999_later.py").write_text(_LATER.format(head=head))
    configuration = runner._configuration

    def with_a_later_one() -> Any:
        extended = configuration()
        extended.set_main_option(
            "version_locations", f"{extended.get_main_option('script_location')}/versions\n{tmp_path}"
        )
        extended.set_main_option("path_separator", "newline")
        return extended

    monkeypatch.setattr(runner, "_configuration", with_a_later_one)
    async with load(scene) as answered:
        await _grows(answered)
        await runner.upgrade(url)
        assert (await runner.status(url)).current == "9999"
        await _grows(answered)
        await runner.downgrade(url, head)
        await _grows(answered)
    assert (await runner.status(url)).current == head


async def _grows(answered: dict[str, int]) -> None:
    """Return once some more of each kind of call have been answered."""
    before = dict(answered)
    await eventually(lambda: all(answered[name] >= before[name] + 5 for name in before), within=2 * PATIENCE)


@pytest.mark.parametrize(
    "order",
    [
        ("worker", "server", "redis", "postgres"),
        pytest.param(("worker", "server", "postgres", "redis"), marks=pytest.mark.whole),
        pytest.param(("server", "worker", "postgres", "redis"), marks=pytest.mark.whole),
        pytest.param(("server", "postgres", "redis", "worker"), marks=pytest.mark.whole),
        pytest.param(("redis", "worker", "server", "postgres"), marks=pytest.mark.whole),
        pytest.param(("postgres", "worker", "redis", "server"), marks=pytest.mark.whole),
    ],
    ids="-".join,
)
async def test_all_comes_up_by_itself_in_whatever_order_it_is_started(scene: Scene, order: tuple[str, ...]) -> None:
    stack = scene.stack
    for process in (*stack.servers, *stack.workers):
        await process.kill()
    await stack.postgres.crash()
    await stack.redis.kill()

    starts = {
        "worker": lambda: _launched(stack.workers[0]),
        "server": lambda: _launched(stack.servers[0]),
        "redis": stack.redis.start,
        "postgres": stack.postgres.start,
    }
    for name in order:
        await starts[name]()
    for process in (stack.servers[0], stack.workers[0]):
        await process.ready()
    await serving(stack.pairs[0].channel)

    asked = await scene.ask()
    await scene.is_done(asked.queue_job_id)


async def _launched(process: ServiceProcess) -> None:
    """Start a process and return once it lives, whatever it waits for."""
    await process.launch()

    async def lives() -> bool:
        return await process.http_status("/healthz") == 200

    await eventually(lives, within=timedelta(seconds=20))


@pytest.mark.whole
async def test_server_killed_after_the_endpoint_answered_calls_again_under_the_same_id(scene: Scene) -> None:
    crashing, other = scene.stack.servers
    await other.kill()
    await crashing.kill()
    await crashing.launch(crash_at="after_endpoint_answered")
    await crashing.ready()
    before = await scene.effects()
    asked = await scene.ask()
    assert await crashing.ended(within=PATIENCE) == CRASH_STATUS
    await crashing.start()

    assert await scene.is_done(asked.queue_job_id) <= PATIENCE
    await scene.stack.settle()
    first, second = scene.farm.index_calls()[1:]
    assert first.idempotency_id == second.idempotency_id == asked.queue_job_id
    # The first answer was lost with the server: what counts is the second, once.
    assert await scene.effects() == before + scene.farm.jobs
