"""What runs together in a suspect lane: more after each success, and by itself what once began without an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from services.endpoints.domain.errors import DatabaseUnavailableError, StatementTooSlowError
from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.store.errors import translated
from services.endpoints.store.ledger import PostgresLedger
from services.endpoints.store.postgres import PostgresStore
from tests.support.eventually import eventually
from tests.support.ledger import queue_job
from tests.support.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.store.postgres import PostgresTransaction
    from tests.support.ledger import World

_SUSPECT = "UPDATE queue_lanes SET suspect = true, rings = 3"


async def test_suspect_lane_runs_twice_as_many_after_each_that_went_well(world: World) -> None:
    await suspect_lane(world, [str(number) for number in range(20)])

    await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert world.batch.batches == [1, 2, 4, 8, 5]
    assert world.batch.done == [str(number) for number in range(20)]
    assert {(await world.row(name))["unended"] for name in world.batch.done} == {0}
    assert await world.lanes() == {}


async def test_each_beginning_is_committed_before_anything_is_done(world: World) -> None:
    names = ["a", "b", "c"]
    await suspect_lane(world, names)
    begun: list[list[int]] = []

    async def look(_queue_job: QueueJob) -> None:
        begun.append([(await world.row(name))["unended"] for name in names])

    world.batch.before = look
    await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert begun == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]


async def test_poison_among_others_is_found_and_what_began_with_it_runs_by_itself(world: World) -> None:
    deaths: list[int] = []

    async def die(queue_job: QueueJob) -> None:
        if queue_job.args["name"] == "poison":
            deaths.append(world.batch.batches[-1])
            raise asyncio.CancelledError

    world.batch.before = die
    names = ["a", "b", "c", "d", "poison", "e", "f", "g", "h"]
    await suspect_lane(world, names)

    while (await world.states())["h"] != "COMPLETED":
        await asyncio.gather(world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"]), return_exceptions=True)
        await world.let_leases_run_out()
        await world.rescue.run_once()

    assert deaths == [4, 1, 1]
    # Together: one, two, and the four that died. By themselves: the one before the poison, the poison twice, the two
    # after it. Then one and two that had never begun are left.
    assert world.batch.batches == [1, 2, 4, 1, 1, 1, 1, 1, 2]
    assert sorted(world.batch.done) == sorted(set(names) - {"poison"})
    assert await world.states() == {name: "DISCARDED" if name == "poison" else "COMPLETED" for name in names}
    assert ("poison", QueueJobState.DISCARDED, "POISONED") in world.batch.final


async def test_a_failure_among_others_is_its_own(world: World) -> None:
    world.batch.fails = lambda queue_job: ValueError("a defect") if queue_job.args["name"] == "broken" else None
    names = ["a", "b", "broken", "c", "d"]
    await suspect_lane(world, names)

    with capture_logs():
        await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert await world.states() == {name: "SCHEDULED" if name == "broken" else "COMPLETED" for name in names}
    assert {(await world.row(name))["unended"] for name in names} == {0}


@pytest.mark.parametrize("names", [["endless", "behind it"], ["a", "b", "endless", "c", "d"]], ids=["first", "among"])
async def test_work_that_the_database_never_has_time_for_ends_and_lets_its_lane_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    usual = world.batch.run

    async def run(tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:
        if any(each.args["name"] == "endless" for each in queue_jobs):
            connection = cast("PostgresTransaction", tx).connection
            with translated():
                await connection.execute("SET LOCAL statement_timeout = '20ms'")
                await connection.execute("SELECT pg_sleep(60)")
        await usual(tx, queue_jobs)

    monkeypatch.setattr(world.batch, "run", run)
    await world.enqueue(*(queue_job(name, max_attempts=1) for name in names))
    await world.relay.run_once()
    with pytest.raises(StatementTooSlowError):
        await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])
    assert set((await world.states()).values()) == {"AVAILABLE"}
    await world.connection.execute(_SUSPECT)

    with capture_logs():
        await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert await world.states() == {name: "DISCARDED" if name == "endless" else "COMPLETED" for name in names}
    assert ("endless", QueueJobState.DISCARDED, "TOOK_TOO_LONG") in world.batch.final
    assert sorted(world.batch.done) == sorted(set(names) - {"endless"})
    assert await world.lanes() == {}


async def test_what_is_cancelled_because_its_server_stops_counts_as_ended(world: World) -> None:
    begun = asyncio.Event()

    async def wait(_queue_job: QueueJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    world.batch.before = wait
    await suspect_lane(world, ["a"])
    for _ in range(3):
        call_back = asyncio.create_task(world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
        await begun.wait()
        begun.clear()
        assert (await world.row("a"))["unended"] == 1
        for task in world.runner.begun:
            task.cancel()
        await asyncio.gather(call_back, return_exceptions=True)
        assert (await world.row("a"))["unended"] == 0
        await world.let_leases_run_out()
        assert await world.rescue.run_once() == 1
    world.batch.before = None

    assert (await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])).completed == 1


async def test_what_is_interrupted_by_an_outage_counts_as_ended_once_the_database_is_back(
    world: World, database_url: str
) -> None:
    port = urlsplit(database_url).port
    assert port is not None
    await suspect_lane(world, ["a"])
    async with TcpProxy(upstream_port=port) as proxy:
        store = PostgresStore(
            database_url=database_url.replace(f":{port}/", f":{proxy.port}/"), on_ledger_change=lambda: None
        )
        await store.open()

        async def go_away(_queue_job: QueueJob) -> None:
            proxy.refuse()

        world.batch.before = go_away
        world.store = store
        interrupted = asyncio.create_task(world.new_runner().run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
        with capture_logs() as logs:
            await eventually(lambda: [line for line in logs if line["event"] == "attempts_taken_back_later"])
        assert (await world.row("a"))["unended"] == 1
        proxy.heal()
        with pytest.raises(DatabaseUnavailableError):
            await interrupted
        await store.close()

    assert (await world.row("a"))["unended"] == 0


async def test_beginning_that_was_not_committed_is_not_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = PostgresLedger.begin_alone

    async def commit_fails(ledger: PostgresLedger, queue_job_ids: Sequence[UUID]) -> None:
        await begin(ledger, queue_job_ids)
        await world.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE relation = 'queue_jobs'::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()"
        )

    monkeypatch.setattr(PostgresLedger, "begin_alone", commit_fails)
    await suspect_lane(world, ["a"])
    await world.connection.execute("UPDATE queue_jobs SET unended = 2")

    with pytest.raises(DatabaseUnavailableError):
        await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert (await world.row("a"))["unended"] == 2


async def suspect_lane(world: World, names: Sequence[str]) -> None:
    """Ring a lane with these queue jobs, in this order, for which others were killed before."""
    await world.enqueue(*(queue_job(name) for name in names))
    await world.relay.run_once()
    await world.connection.execute(_SUSPECT)
