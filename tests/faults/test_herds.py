"""What comes all at once delays nobody who asks for something else."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.eventually import eventually
from tests.support.fault_scene import new_scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("processes"),
    pytest.mark.whole,
    pytest.mark.timeout(420),
]

ANSWERED_WITHIN = timedelta(milliseconds=150)
DUE_IN = timedelta(seconds=15)
ASKED_AT_ONCE = 32
TRIES = 3

# Registrations that are older than what is there: work for everybody, effects for nobody.
_HERD = """
INSERT INTO queue_jobs (id, environment_id, kind, args, queue, lane, priority, max_attempts, state, run_at)
SELECT gen_random_uuid(), environment_id, kind,
    args || jsonb_build_object('indexSequence', 0, 'indexId', gen_random_uuid()),
    queue, lane || '-' || number % 100, priority, max_attempts, 'SCHEDULED', clock_timestamp() + interval '1 second'
FROM queue_jobs CROSS JOIN generate_series(1, $1) AS number
WHERE id = (SELECT id FROM queue_jobs WHERE kind = 'registerJob' AND lane = $2 LIMIT 1)
"""


@pytest_asyncio.fixture(loop_scope="session")
async def scene(stack: FaultStack) -> Scene:
    return await new_scene(stack, jobs=2)


async def p99_while(scene: Scene, herd: asyncio.Task[None]) -> timedelta:
    """Ask for another tenant's indexes until the herd has passed, and return how long all but one in a hundred took."""
    seconds = []
    while not herd.done():
        seconds.append(await seconds_of_one_answer(scene))
    await herd
    assert len(seconds) >= 20
    return p99(seconds)


async def has_passed(scene: Scene) -> bool:
    """Tell whether nothing of the herd's tenant is left to do."""
    left = "SELECT count(*) FROM queue_jobs WHERE environment_id = $1::text::uuid AND finalized_at IS NULL"
    return not await scene.stack.postgres.value(left, scene.tenant.environment_id)


async def p99_without(scene: Scene) -> timedelta:
    """Return the same without a herd: what this machine has to do besides is not the herd's doing."""
    return p99([await seconds_of_one_answer(scene) for _ in range(100)])


async def seconds_of_one_answer(scene: Scene) -> float:
    began = time.monotonic()
    await scene.ask()
    return time.monotonic() - began


def p99(seconds: list[float]) -> timedelta:
    return timedelta(seconds=statistics.quantiles(seconds, n=100)[98])


async def require_no_delay(other: Scene, herd: Scene, let_loose: Callable[[], Awaitable[None]]) -> None:
    """Let a herd of one tenant loose while another asks; other tests come and go meanwhile, so that one try may do."""

    async def passes() -> None:
        await eventually(lambda: has_passed(herd), within=timedelta(seconds=120))

    for _ in range(TRIES):
        usual = await p99_without(other)
        await let_loose()
        beside = await p99_while(other, asyncio.create_task(passes()))
        if beside <= 2 * usual + ANSWERED_WITHIN:
            return
    pytest.fail(f"p99 {beside}, undisturbed {usual}, in the last of {TRIES} tries")


async def test_ten_thousand_queue_jobs_that_fall_due_at_once_delay_no_caller(scene: Scene) -> None:
    async def let_loose() -> None:
        await scene.stack.postgres.fetch(_HERD, 10_000, f"endpoint-{scene.endpoint_id}")

    await require_no_delay(await new_scene(scene.stack, jobs=2), scene, let_loose)


async def test_hundreds_of_endpoints_that_are_indexed_at_once_delay_no_caller(scene: Scene) -> None:
    herd = [await new_scene(scene.stack, jobs=2, tenant=scene.tenant, settled=False) for _ in range(300)]
    await scene.stack.settle()

    async def let_loose() -> None:
        due, asking = time.monotonic() + DUE_IN.total_seconds(), asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask_for_then(each: Scene) -> None:
            # They fall due at once; to be asked for all of it at once is more than a server has connections for.
            async with asking:
                await each.ask(run_in=timedelta(seconds=due - time.monotonic()))

        await asyncio.gather(*(ask_for_then(each) for each in herd))
        assert time.monotonic() < due

    await require_no_delay(await new_scene(scene.stack, jobs=2), scene, let_loose)
