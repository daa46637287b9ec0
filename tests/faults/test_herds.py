"""What comes all at once delays nobody who asks for something else."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.fault_scene import new_scene

if TYPE_CHECKING:
    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("processes"),
    pytest.mark.whole,
    pytest.mark.timeout(240),
]

ANSWERED_WITHIN = timedelta(milliseconds=150)

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


async def answers_while(scene: Scene, herd: asyncio.Task[None]) -> list[float]:
    """Ask for another tenant's indexes until the herd has passed; return how long each answer took, in seconds."""
    seconds = []
    while not herd.done():
        began = time.monotonic()
        await scene.ask()
        seconds.append(time.monotonic() - began)
    await herd
    return seconds


async def test_ten_thousand_queue_jobs_that_fall_due_at_once_delay_no_caller(scene: Scene) -> None:
    other = await new_scene(scene.stack, jobs=2)
    await scene.stack.postgres.fetch(_HERD, 10_000, f"endpoint-{scene.endpoint_id}")

    async def passes() -> None:
        await scene.stack.settle(within=timedelta(seconds=120))

    seconds = await answers_while(other, asyncio.create_task(passes()))

    assert_prompt(seconds)


async def test_hundreds_of_endpoints_that_are_indexed_at_once_delay_no_caller(scene: Scene) -> None:
    herd = [await new_scene(scene.stack, jobs=2, tenant=scene.tenant, settled=False) for _ in range(300)]
    await scene.stack.settle()
    other = await new_scene(scene.stack, jobs=2)

    async def passes() -> None:
        await asyncio.gather(*(each.ask(server=number % 2) for number, each in enumerate(herd)))
        await scene.stack.settle(within=timedelta(seconds=120))

    seconds = await answers_while(other, asyncio.create_task(passes()))

    assert_prompt(seconds)


def assert_prompt(seconds: list[float]) -> None:
    assert len(seconds) >= 20
    p99 = statistics.quantiles(seconds, n=100)[98]
    print(f"{len(seconds)} answers, p99 {p99 * 1000:.0f} ms")
    assert p99 <= ANSWERED_WITHIN.total_seconds(), p99
