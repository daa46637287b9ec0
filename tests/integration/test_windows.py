"""Whoever opens a window finds what waits for its end, even what another transaction is about to leave there."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.ports.ledger import UniqueKey
from tests.support.eventually import eventually
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from datetime import datetime

    from tests.support.ledger import World

HOLDER = UUID("01890000-0000-7000-8000-00000000000a")
LASTING = timedelta(minutes=15)


async def close_window(world: World, lasting: timedelta = LASTING) -> datetime:
    async with world.store.transaction() as tx:
        await tx.ledger.claim(UniqueKey("window", "v", HOLDER, lasting))
        _, window = await tx.ledger.clock_and_window("window", "v")
    assert window is not None
    return window.expires_at


async def open_window(world: World) -> None:
    async with world.store.transaction() as tx:
        await tx.ledger.open_windows([HOLDER], window="window", waiting="waiting")


async def test_what_begins_to_wait_while_the_window_is_opened_is_due(world: World) -> None:
    await close_window(world)

    async with world.store.transaction() as tx:
        _, window = await tx.ledger.clock_and_window("window", "v")
        assert window is not None
        opening = asyncio.create_task(open_window(world))
        await eventually(world.somebody_waits_for_a_lock)
        new = queue_job("held back", lane="lane", run_at=window.expires_at)
        await tx.ledger.enqueue([new], unique=UniqueKey("waiting", "v", new.id, LASTING))
    await opening

    assert await world.states() == {"held back": "AVAILABLE"}


async def test_queue_job_that_claims_its_window_again_keeps_its_end(world: World) -> None:
    first = await close_window(world)

    assert await close_window(world) == first


async def test_queue_job_whose_window_is_over_begins_another(world: World) -> None:
    first = await close_window(world, -LASTING)

    assert await close_window(world) > first
