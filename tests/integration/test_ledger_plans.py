"""What the ledger's statements read of a million rows, as the product sends them, with plans made for any arguments."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.ledger_settings import LedgerSettings, Retention
from services.endpoints.domain.ports.queue_control import QueueJobFilter, Seen
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.domain.queue_stats import MAX_COMPLETED_COUNTED, MAX_COUNTED
from services.endpoints.operations.finality import Finality
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.telemetry.metrics import Metrics
from tests.support.ledger import RecordingBatch, RecordingCall, queue_job
from tests.support.ledger_plans import (
    BACKLOG,
    ENVIRONMENTS,
    FINISHED,
    ORGANIZATIONS,
    ExplainingConnection,
    OneConnectionStore,
    Rows,
    environment,
    fill,
)
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps
from tests.support.servers import fresh_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.embedded.postgres import EmbeddedPostgres

pytestmark = pytest.mark.xdist_group("a million queue jobs")

_SETTINGS = LedgerSettings(call_takes=timedelta(), ring_answered_within=timedelta(minutes=5))
_MAKE_DUE = """
UPDATE queue_jobs SET run_at = clock_timestamp() - interval '1 second'
WHERE id IN (SELECT id FROM queue_jobs WHERE state = 'SCHEDULED' ORDER BY run_at LIMIT $1)
"""
_RUN_ALL_RUNG_LANES = """
WITH first AS (
    SELECT DISTINCT ON (queue, lane) id FROM queue_jobs JOIN queue_lanes USING (queue, lane)
    WHERE queue_jobs.state = 'AVAILABLE' ORDER BY queue, lane
), claimed AS (
    UPDATE queue_lanes SET state = 'RUNNING', claim = nextval('queue_claims')
)
UPDATE queue_jobs SET state = 'RUNNING', attempt = attempt + 1, started_at = now()
FROM first WHERE queue_jobs.id = first.id
"""
# What one pass may ring: as many messages as the window takes.
MOST_LANES = _SETTINGS.max_waiting_messages * _SETTINGS.max_lanes_per_message
# What a statement may read when it is not named.
_FEW = 10
# Statements that only one mix of rows comes to.
_ONLY_FOR_SOME = {"request_cancel", "fail", "close_lanes"}
_MIXES = {"finished": FINISHED, "backlog": BACKLOG}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def millions(postgres: EmbeddedPostgres) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Gives the address of a database with a mix of a million queue jobs, filled once, whatever order tests come in."""
    async with AsyncExitStack() as stack:
        urls: dict[str, str] = {}

        async def of_mix(name: str) -> str:
            if name not in urls:
                url = await stack.enter_async_context(fresh_database(postgres))
                connection = await asyncpg.connect(url)
                await fill(connection, _MIXES[name])
                await connection.close()
                urls[name] = url
            return urls[name]

        yield of_mix


@pytest_asyncio.fixture(loop_scope="session", params=_MIXES)
async def million(millions: Callable[[str], Awaitable[str]], request: pytest.FixtureRequest) -> str:
    """The address of a database with a million queue jobs, and the statistics of an empty table."""
    return await millions(request.param)


@pytest.fixture(params=["analyzed", "never analyzed"])
async def big(million: str, request: pytest.FixtureRequest) -> AsyncIterator[ExplainingConnection]:
    """A connection inside a transaction that is rolled back, statistics included."""
    connection = await asyncpg.connect(million)
    transaction = connection.transaction()
    await transaction.start()
    if request.param == "analyzed":
        await connection.execute("ANALYZE queue_jobs")
    yield ExplainingConnection(connection)
    await transaction.rollback()
    await connection.close()


@dataclass(frozen=True)
class Ledger:
    """The product's own classes over one explaining connection."""

    connection: ExplainingConnection
    store: OneConnectionStore
    publisher: MemoryPublisher
    batch: RecordingBatch
    call: RecordingCall
    relay: Relay
    rescue: Rescue
    runner: QueueJobRunner
    leases: LeaseKeeper


@pytest.fixture
def ledger(big: ExplainingConnection) -> Ledger:
    store = OneConnectionStore(big)
    publisher = MemoryPublisher()
    batch, call = RecordingBatch(), RecordingCall()
    finality = Finality(handlers={"registerJob": batch, "indexEndpoint": call})
    leases = LeaseKeeper(store=store, settings=_SETTINGS)
    return Ledger(
        connection=big,
        store=store,
        publisher=publisher,
        batch=batch,
        call=call,
        relay=Relay(store=store, publisher=publisher, wake_ups=MemoryWakeUps(), settings=_SETTINGS),
        rescue=Rescue(store=store, publisher=publisher, finality=finality, observer=Metrics(), settings=_SETTINGS),
        runner=QueueJobRunner(
            store=store,
            batch_handlers={"registerJob": batch},
            calling_handlers={"indexEndpoint": call},
            finality=finality,
            leases=leases,
            settings=_SETTINGS,
            observer=Metrics(),
            jitter=lambda: 0.0,
        ),
        leases=leases,
    )


async def test_relay_and_workers_read_little_more_than_they_take(ledger: Ledger) -> None:
    raw = ledger.connection.connection
    await raw.execute(_MAKE_DUE, 2_500)

    await ledger.relay.run_once()
    messages = ledger.publisher.messages["default"]
    for lanes in messages[:3]:
        await ledger.runner.run_queue_jobs(Queue.DEFAULT, lanes)
    ledger.batch.fails = lambda queue_job: AttemptFailedError("no", reason="NO") if queue_job.id.int % 50 == 1 else None
    with capture_logs():
        await ledger.runner.run_queue_jobs(Queue.DEFAULT, messages[3])
    for lanes in ledger.publisher.messages["execution"][:3]:
        await ledger.runner.run_queue_jobs(Queue.EXECUTION, lanes)

    assert len(ledger.batch.done) > 200
    assert len(ledger.call.finished) >= 2
    expect_modest(
        ledger,
        {
            "promote_due": _SETTINGS.max_promoted_at_once,
            "outlook": 1 + ENVIRONMENTS + 4,
            # Two entries of each long lane.
            "ring": 2 * MOST_LANES,
            "pull": 500,
            "complete": 200 + 50,
            "fail": 10,
            "close_lanes": 50,
            "start": 1,
            "lock_running": 1,
            "release": 1,
        },
    )


@pytest.mark.parametrize("million", ["finished"], indirect=True)
async def test_few_are_rung_by_what_waits_and_what_is_open(ledger: Ledger) -> None:
    await ledger.relay.run_once()
    raw = ledger.connection.connection
    open_lanes = await raw.fetchval("SELECT count(*) FROM queue_lanes WHERE queue = 'default'")
    await raw.execute("UPDATE queue_jobs SET state = 'SCHEDULED', run_at = '2999-01-01' WHERE state = 'AVAILABLE'")
    await raw.execute(
        "INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)"
        " SELECT 'execution', 'called-' || n, $1, 'RUNG', now() + interval '1 hour' FROM generate_series(1, 1000) AS n",
        environment(7),
    )
    few = 16
    async with ledger.store.reading(Pool.RELAY) as tx:
        await tx.ledger.enqueue([queue_job(str(n), lane=f"few-{n}", environment_id=environment(7)) for n in range(few)])
        ledger.connection.plans.clear()
        found = await tx.ledger.ring_few(dict.fromkeys(Queue, MOST_LANES), few=few, answer_within=timedelta(seconds=5))

    assert (len(found.rung[Queue.DEFAULT]), found.is_crowded) == (few, False)
    expect_modest(ledger, {"ring_few": 5 * few})
    (plan,) = ledger.connection.plans
    assert plan.rows_of("queue_lanes") <= open_lanes + 2 * few


@pytest.mark.parametrize("million", ["backlog"], indirect=True)
async def test_crowd_is_known_by_its_first_few(ledger: Ledger) -> None:
    async with ledger.store.reading(Pool.RELAY) as tx:
        few = await tx.ledger.ring_few(dict.fromkeys(Queue, 1), few=16, answer_within=timedelta(seconds=5))

    assert few.is_crowded
    expect_modest(ledger, {"ring_few": len(Queue) * 17})


@pytest.mark.parametrize("million", ["backlog"], indirect=True)
async def test_batch_of_long_lanes_reads_no_more_than_its_share_of_each(ledger: Ledger) -> None:
    await ledger.relay.run_once()
    ledger.connection.plans.clear()

    await ledger.runner.run_queue_jobs(Queue.DEFAULT, [f"tenant-{number}" for number in range(50)])

    assert len(ledger.batch.done) == 200
    expect_modest(
        ledger,
        {"pull": 500, "complete": 200 + 50},
    )


@pytest.mark.parametrize("million", ["backlog"], indirect=True)
async def test_paused_queue_is_not_walked_at_all(ledger: Ledger) -> None:
    await ledger.connection.connection.execute("INSERT INTO queue_pauses (queue) VALUES ('default'), ('execution')")
    await ledger.relay.run_once()
    assert not any(ledger.publisher.messages.values())
    expect_modest(ledger, {"promote_due": _SETTINGS.max_promoted_at_once})


@pytest.mark.parametrize("million", ["backlog"], indirect=True)
async def test_each_lane_is_compared_with_its_own_pause_only(ledger: Ledger) -> None:
    raw = ledger.connection.connection
    await raw.execute(
        "INSERT INTO queue_pauses (queue, lane) SELECT DISTINCT queue, lane FROM queue_jobs WHERE state = 'AVAILABLE'"
        " AND queue = 'default' AND lane LIKE 'endpoint-%'"
    )
    paused = await raw.fetchval("SELECT count(*) FROM queue_pauses")
    await ledger.relay.run_once()
    lanes = [lane for message in ledger.publisher.messages["default"] for lane in message]
    assert {lane.partition("-")[0] for lane in lanes} == {"tenant"}
    await ledger.runner.run_queue_jobs(Queue.DEFAULT, lanes[:50])
    pauses = {plan.block: plan.rows_of("queue_pauses") for plan in ledger.connection.plans}
    assert paused > 4_000
    # A lane that is due in several priorities is met in each.
    assert pauses["ring"] <= 4 * paused
    assert pauses["pull"] == 0


async def test_rescue_and_leases_read_little_more_than_the_open_lanes(ledger: Ledger) -> None:
    raw = ledger.connection.connection
    await ledger.relay.run_once()
    ledger.connection.plans.clear()
    await raw.execute(_RUN_ALL_RUNG_LANES)
    for row in await raw.fetch("SELECT claim FROM queue_lanes WHERE state = 'RUNNING' LIMIT 50"):
        ledger.leases.hold(row["claim"])
    await ledger.leases.run_once()
    overdue = "UPDATE queue_lanes SET lease_until = clock_timestamp() - interval '1 second'"
    await raw.execute(overdue)
    ledger.publisher.messages.clear()

    assert await ledger.rescue.run_once() > 50
    for queue in Queue:
        ledger.publisher.messages[queue.value] = [["elsewhere"]] * _SETTINGS.max_waiting_messages
    await raw.execute(overdue)
    assert await ledger.rescue.run_once() == 0
    await raw.execute(_RUN_ALL_RUNG_LANES)
    await raw.execute(overdue)
    assert await ledger.rescue.run_once() == 0
    at_once = 1_000
    expect_modest(
        ledger,
        {
            "renew": 50,
            "overdue_lanes": at_once,
            "lock_abandoned": 2 * at_once,
            "rescue_running": at_once,
            "ring_again": at_once,
            "put_off": at_once,
            "free_lanes": at_once,
        },
    )


async def test_cancelling_superseding_and_pruning_read_what_they_end(ledger: Ledger) -> None:
    async with ledger.store.reading(Pool.CALL_BACKS) as tx:
        await tx.ledger.cancel_lane("endpoint-7", message="m")
        await tx.ledger.supersede_lane(Queue.DEFAULT, "endpoint-8")
        assert await tx.ledger.delete_old(Retention(completed=timedelta(minutes=30), max_rows_at_once=5_000)) == 5_000

    of_a_lane = 300
    expect_modest(
        ledger,
        {
            "lock_running_everywhere": of_a_lane,
            "request_cancel": 1,
            "lock_waiting_everywhere": of_a_lane,
            "cancel": of_a_lane,
            "lock_waiting_of_lane": of_a_lane,
            "supersede": of_a_lane,
            "delete_old": 3 * 5_000,
        },
    )


async def test_statistics_read_a_sample_however_much_there_is(ledger: Ledger) -> None:
    await ledger.relay.run_once()
    ledger.connection.plans.clear()
    async with ledger.store.reading() as tx:
        for seen in (Seen(), Seen(environment_id=environment(7)), Seen(organization_id=UUID(int=7))):
            await tx.queue_control.stats(seen, known_kinds=["registerJob"])

    sample = 6 * MAX_COUNTED + MAX_COMPLETED_COUNTED
    expect_modest(
        ledger, {"sample_of_all": sample, "sample_of_environments": sample, "open_lanes": MOST_LANES, "pauses": 1}
    )


@pytest.mark.parametrize("big", ["analyzed"], indirect=True)
async def test_lists_by_environment_and_state_read_one_page_of_each(ledger: Ledger) -> None:
    async with ledger.store.reading() as tx:
        for state in (None, *QueueJobState):
            for number in (7, 8):
                wanted = QueueJobFilter(environment_id=environment(number), state=state)
                await tx.queue_control.list_queue_jobs(wanted, limit=100, before=None)
            wanted = QueueJobFilter(organization_id=UUID(int=7), state=state)
            for queue_job in (await tx.queue_control.list_queue_jobs(wanted, limit=100, before=None))[:1]:
                await tx.queue_control.get(queue_job.id)

    of_each_environment = 100 * ENVIRONMENTS // ORGANIZATIONS * len(QueueJobState)
    expect_modest(ledger, {"list_by_environment": of_each_environment, "get": 1})


async def test_what_is_not_due_is_not_read(ledger: Ledger) -> None:
    raw = ledger.connection.connection
    await ledger.relay.run_once()
    await raw.execute(_MAKE_DUE, 5)
    ledger.connection.plans.clear()

    async with ledger.store.reading(Pool.RELAY) as tx:
        assert await tx.ledger.promote_due(limit=2_000) >= 5
        assert await tx.ledger.overdue_lanes(limit=1_000) == []
    async with ledger.store.reading(Pool.CALL_BACKS) as tx:
        assert await tx.ledger.delete_old(Retention(completed=timedelta(days=9))) == 0
    expect_modest(ledger, {"promote_due": 100})
    (overdue,) = [plan for plan in ledger.connection.plans if plan.block == "overdue_lanes"]
    assert sum(node.get("Rows Removed by Filter", 0) for node in overdue.nodes) == 0


async def test_lists_do_not_depend_on_statistics(ledger: Ledger) -> None:
    async with ledger.store.reading() as tx:
        for state in (None, *QueueJobState):
            for wanted in (
                QueueJobFilter(environment_id=environment(7), state=state),
                QueueJobFilter(environment_id=environment(8), state=state),
                QueueJobFilter(organization_id=UUID(int=7), state=state),
            ):
                await tx.queue_control.list_queue_jobs(wanted, limit=100, before=None)
                if state is not None:
                    await tx.queue_control.matching(wanted, limit=100)
    of_each_environment = 100 * ENVIRONMENTS // ORGANIZATIONS * len(QueueJobState)
    expect_modest(ledger, {"list_by_environment": of_each_environment, "matching": 1_000})


async def test_lists_of_all_by_state_read_one_page_of_each_environment(ledger: Ledger) -> None:
    async with ledger.store.reading() as tx:
        for state in QueueJobState:
            wanted = QueueJobFilter(state=state)
            await tx.queue_control.list_queue_jobs(wanted, limit=100, before=None)
            await tx.queue_control.matching(wanted, limit=100)
        none_of_it = QueueJobFilter(state=QueueJobState.CANCELLED, queue=Queue.EVENTS)
        assert await tx.queue_control.list_queue_jobs(none_of_it, limit=100, before=None) == []
        assert await tx.queue_control.matching(none_of_it, limit=100) == []

    of_each_environment = 100 * ENVIRONMENTS
    expect_modest(ledger, {"list_by_environment": of_each_environment, "matching": of_each_environment})


async def test_lists_of_a_lone_environment_read_one_page_of_each_state(postgres: EmbeddedPostgres) -> None:
    """Nearly all rows are what is looked for, so that any index looks cheap."""
    async with fresh_database(postgres) as url:
        connection = await asyncpg.connect(url)
        try:
            await fill(connection, (Rows("COMPLETED", 20_000, environment=7),))
            await connection.execute("ANALYZE queue_jobs")
            big = ExplainingConnection(connection)
            async with OneConnectionStore(big).reading() as tx:
                for state in (None, QueueJobState.COMPLETED, QueueJobState.DISCARDED):
                    wanted = QueueJobFilter(environment_id=environment(7), state=state)
                    page = await tx.queue_control.list_queue_jobs(wanted, limit=51, before=None)
                    assert len(page) == (0 if state is QueueJobState.DISCARDED else 51)
                    if state is not None:
                        assert len(await tx.queue_control.matching(wanted, limit=51)) == len(page)
        finally:
            await connection.close()
    for plan in big.plans:
        assert plan.rows_read <= 200, plan
        assert plan.pages <= 1_000, plan


def expect_modest(ledger: Ledger, most: dict[str, int]) -> None:
    """Check that nothing read the whole table, nor much more than the rows named for each block."""
    for plan in ledger.connection.plans:
        rows = most.get(plan.block, _FEW)
        assert not plan.scans_all, plan
        assert plan.rows_read <= 2 * rows, plan
        # A change of one row writes to each of the table's nine indexes, a few pages deep. A look at what comes first
        # passes by the entries of what was first until now.
        assert plan.pages <= 10_000 + 40 * rows, plan
    assert {plan.block for plan in ledger.connection.plans} >= set(most) - _ONLY_FOR_SOME
