"""Who follows an index is woken for that index alone, and all who follow one cost one statement."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.operations.index_revisions import IndexRevisions
from services.endpoints.operations.rounds import Rounds
from services.endpoints.telemetry.metrics import Metrics
from tests.support.eventually import eventually
from tests.support.memory_queue import MemoryWakeUps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg

    from services.endpoints.operations.index_revisions import IndexFollower
    from services.endpoints.store.postgres import PostgresStore

    NewIndex = Callable[[], Awaitable[UUID]]

AT_ONCE = timedelta(milliseconds=1)
CHANGE = "UPDATE endpoint_indexes SET revision = revision + 1 WHERE id = $1"


@pytest.fixture
async def new_index(connection: asyncpg.Connection[asyncpg.Record]) -> NewIndex:
    await connection.execute("SET session_replication_role = replica")  # the endpoint it belongs to does not matter

    async def insert() -> UUID:
        index_id = uuid4()
        await connection.execute(
            "INSERT INTO endpoint_indexes (id, endpoint_id, queue_job_id) VALUES ($1, $1, $1)", index_id
        )
        return index_id

    return insert


@pytest.fixture
def wake_ups() -> MemoryWakeUps:
    return MemoryWakeUps()


@pytest.fixture
def revisions(store: PostgresStore, wake_ups: MemoryWakeUps) -> IndexRevisions:
    return IndexRevisions(store=store, wake_ups=wake_ups)


@pytest.fixture
async def looking(revisions: IndexRevisions) -> AsyncIterator[None]:
    task = asyncio.create_task(revisions.run(Rounds("index_revisions", observer=Metrics())))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def woken(*followers: IndexFollower) -> list[bool]:
    return [await follower.wait(AT_ONCE) for follower in followers]


async def test_a_changed_index_wakes_those_who_have_not_seen_the_change(
    revisions: IndexRevisions, new_index: NewIndex, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    changing, resting = await new_index(), await new_index()
    behind, abreast, elsewhere = (
        revisions.follow(changing, seen=1),
        revisions.follow(changing, seen=2),
        revisions.follow(resting, seen=1),
    )
    await revisions.run_once()
    assert await woken(behind, abreast, elsewhere) == [False, False, False]

    await connection.execute(CHANGE, changing)
    await revisions.run_once()
    assert await woken(behind, abreast, elsewhere) == [True, False, False]

    behind.seen = 2
    await revisions.run_once()
    assert await woken(behind, abreast, elsewhere) == [False, False, False]


async def test_an_index_that_is_gone_wakes_whoever_follows_it(revisions: IndexRevisions) -> None:
    follower = revisions.follow(uuid4(), seen=7)
    await revisions.run_once()
    assert await woken(follower) == [True]


async def test_who_has_closed_is_woken_no_more(revisions: IndexRevisions) -> None:
    follower = revisions.follow(uuid4(), seen=0)
    follower.close()
    follower.close()
    await revisions.run_once()
    assert await woken(follower) == [False]


async def test_everybody_is_woken_when_the_database_is_away(
    revisions: IndexRevisions, new_index: NewIndex, store: PostgresStore
) -> None:
    followers = [revisions.follow(await new_index(), seen=1) for _ in range(3)]
    await store.close()
    with pytest.raises(DatabaseUnavailableError):
        await revisions.run_once()
    assert await woken(*followers) == [True] * 3


@pytest.mark.usefixtures("looking")
async def test_a_hundred_followers_of_other_indexes_sleep_through_every_change_of_the_ledger(
    revisions: IndexRevisions,
    new_index: NewIndex,
    connection: asyncpg.Connection[asyncpg.Record],
    wake_ups: MemoryWakeUps,
) -> None:
    resting = await new_index()
    sleepers = [revisions.follow(resting, seen=1) for _ in range(100)]
    changing = await new_index()
    follower = revisions.follow(changing, seen=0)
    for revision in range(1, 6):
        await connection.execute(CHANGE, changing)
        wake_ups.notify()
        await eventually(lambda: follower.wait(AT_ONCE))
        follower.seen = revision + 1

    assert not any(await woken(*sleepers))


@pytest.mark.usefixtures("looking")
async def test_a_change_that_nobody_told_of_is_seen_within_a_second_or_so(
    revisions: IndexRevisions, new_index: NewIndex, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    index_id = await new_index()
    follower = revisions.follow(index_id, seen=1)
    await connection.execute(CHANGE, index_id)
    assert await follower.wait(timedelta(seconds=10))
