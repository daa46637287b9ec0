"""A ledger with handlers of the test's own: everything real but Redis, the worker and the customers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.queue_job import NewQueueJob, Priority, Queue, QueueJob, QueueJobState
from services.endpoints.domain.retry import Backoff
from services.endpoints.domain.tracing import NO_TRACER
from services.endpoints.operations.finality import Finality
from services.endpoints.operations.gathering import RunResult
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.telemetry.metrics import Metrics
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    import asyncpg

    from services.endpoints.domain.ports.ledger import Failure, FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.store.postgres import PostgresStore

ENVIRONMENT = UUID("01890000-0000-7000-8000-000000000001")

_A_MINUTE = timedelta(minutes=1)


@dataclass(eq=False)
class RecordingBatch:
    """A batch handler that remembers what it did; `fails` decides what it cannot do, `before` is awaited for each.

    `passing_errors` are raised one by one, each in place of one `on_final`.
    """

    fails: Callable[[QueueJob], Exception | None] = lambda _queue_job: None
    before: Callable[[QueueJob], Awaitable[None]] | None = None
    done: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    final: list[tuple[str, QueueJobState, str | None]] = field(default_factory=list)
    final_error: Exception | None = None
    passing_errors: list[Exception] = field(default_factory=list)

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:
        await tx.ledger.now()
        self.batches.append(len(queue_jobs))
        for queue_job in queue_jobs:
            if self.before is not None:
                await self.before(queue_job)
            if error := self.fails(queue_job):
                raise error
        self.done += [queue_job.args["name"] for queue_job in queue_jobs]

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        await tx.ledger.now()
        if self.final_error is not None:
            raise self.final_error
        if self.passing_errors:
            raise self.passing_errors.pop()
        self.final += [(each.args["name"], each.state, each.reason) for each in queue_jobs]


@dataclass(eq=False)
class RecordingCall:
    """A calling handler; `answers` may hold back or fail the call."""

    answers: Callable[[QueueJob], Any] = lambda _queue_job: "answer"
    calls: list[str] = field(default_factory=list)
    finished: list[tuple[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    final: list[tuple[str, QueueJobState, str | None]] = field(default_factory=list)
    has_something: bool = True
    begin_error: Exception | None = None
    on_finish: Callable[[Transaction], Awaitable[None]] | None = None
    begin_error_of: dict[str, Exception] = field(default_factory=dict)
    begin_kills: set[str] = field(default_factory=set)
    failed_error: Exception | None = None
    final_error: Exception | None = None

    async def begin(self, tx: Transaction, queue_job: QueueJob) -> QueueJob | None:
        await tx.ledger.now()
        if queue_job.args["name"] in self.begin_kills:
            raise asyncio.CancelledError
        if error := self.begin_error_of.get(queue_job.args["name"], self.begin_error):
            raise error
        return queue_job if self.has_something else None

    async def call(self, begun: QueueJob) -> Any:
        self.calls.append(begun.args["name"])
        answer = self.answers(begun)
        if asyncio.isfuture(answer) or asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def finish(self, tx: Transaction, queue_job: QueueJob, begun: QueueJob, answer: Any) -> None:
        await tx.ledger.now()
        assert begun.id == queue_job.id
        if self.on_finish is not None:
            await self.on_finish(tx)
        self.finished.append((queue_job.args["name"], answer))

    async def on_call_failed(self, tx: Transaction, _begun: QueueJob, _error: Exception) -> None:
        await tx.ledger.now()

    async def on_failed(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        await tx.ledger.now()
        if self.failed_error is not None:
            raise self.failed_error
        self.failed.append(f"{queue_job.args['name']}: {failure.message}")

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        await tx.ledger.now()
        if self.final_error is not None:
            raise self.final_error
        self.final += [(each.args["name"], each.state, each.reason) for each in queue_jobs]


@dataclass(frozen=True, slots=True)
class HeldCalls:
    """Calls that have been made and are not answered yet."""

    answer: asyncio.Future[str]
    called: asyncio.Event


class World:
    """One ledger, its relay, its rescue and a runner; `batch` handles kind "batch", `call` kind "call"."""

    def __init__(self, store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.store = store
        self.connection = connection
        # Nothing repeats by itself or stops early while a test works off what is due, however slow the machine.
        self.settings = LedgerSettings(backoff=Backoff(base=_A_MINUTE), batch_takes=_A_MINUTE, call_takes=_A_MINUTE)
        self.publisher = MemoryPublisher()
        self.batch = RecordingBatch()
        self.call = RecordingCall()
        self.metrics = Metrics()
        self.finality = Finality(handlers={"batch": self.batch, "call": self.call}, observer=self.metrics)
        self.leases = LeaseKeeper(store=store, settings=self.settings)
        self.relay = self.new_relay()
        self.rescue = Rescue(
            store=store,
            publisher=self.publisher,
            finality=self.finality,
            observer=self.metrics,
            settings=self.settings,
        )
        self.runner = self.new_runner()

    def new_relay(
        self,
        *,
        max_calls_per_environment: int | None = None,
        max_waiting_messages: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Relay:
        settings = replace(
            self.settings,
            max_calls_per_environment=max_calls_per_environment or self.settings.max_calls_per_environment,
            max_waiting_messages=max_waiting_messages or self.settings.max_waiting_messages,
        )
        if max_waiting_messages:
            self.publisher = MemoryPublisher(window=max_waiting_messages)
        return Relay(
            store=self.store,
            publisher=self.publisher,
            wake_ups=MemoryWakeUps(),
            settings=settings,
            monotonic=monotonic,
        )

    def new_runner(
        self, *, call_takes: timedelta | None = None, batches_at_once: int = 3, tracer: Tracer = NO_TRACER
    ) -> QueueJobRunner:
        takes = self.settings.call_takes if call_takes is None else call_takes
        return QueueJobRunner(
            store=self.store,
            batch_handlers={"batch": self.batch},
            calling_handlers={"call": self.call},
            finality=self.finality,
            leases=self.leases,
            settings=replace(self.settings, call_takes=takes),
            observer=self.metrics,
            jitter=lambda: 0.0,
            batches_at_once=batches_at_once,
            tracer=tracer,
        )

    def hold_calls(self) -> HeldCalls:
        """Let the customer answer when the test says so."""
        held = HeldCalls(asyncio.get_running_loop().create_future(), asyncio.Event())

        def hold(_queue_job: QueueJob) -> asyncio.Future[str]:
            held.called.set()
            return held.answer

        self.call.answers = hold
        return held

    async def enqueue(self, *queue_jobs: NewQueueJob) -> None:
        async with self.store.transaction() as tx:
            await tx.ledger.enqueue(queue_jobs)

    async def work_off(self, *queues: Queue) -> RunResult:
        """Ring and answer until nothing is rung any more."""
        total = RunResult()
        while True:
            await self.relay.run_once()
            messages = [(queue, lanes) for queue in queues or Queue for lanes in self.take(queue)]
            if not messages:
                return total
            for queue, lanes in messages:
                total += await self.runner.run_queue_jobs(queue, lanes)

    def take(self, queue: Queue) -> list[list[str]]:
        """Pop every message of a queue, as its workers do."""
        return self.publisher.messages.pop(queue.value, [])

    async def let_leases_run_out(self) -> None:
        await self.connection.execute("UPDATE queue_lanes SET lease_until = clock_timestamp() - interval '1 second'")

    async def let_everything_fall_due(self) -> None:
        await self.connection.execute(
            "UPDATE queue_jobs SET run_at = clock_timestamp() - interval '1 second' WHERE state = 'SCHEDULED'"
        )

    async def states(self) -> dict[str, str]:
        rows = await self.connection.fetch("SELECT args ->> 'name' AS name, state FROM queue_jobs")
        return {row["name"]: row["state"] for row in rows}

    async def row(self, name: str) -> asyncpg.Record:
        row = await self.connection.fetchrow(
            "SELECT state, attempt, rescues, unended, run_at, errors::text AS errors,"
            " run_at - clock_timestamp() AS due_in FROM queue_jobs WHERE args ->> 'name' = $1",
            name,
        )
        assert row is not None
        return row

    async def somebody_waits_for_a_lock(self) -> bool:
        count: int = await self.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return count > 0

    async def lanes(self) -> dict[str, asyncpg.Record]:
        rows = await self.connection.fetch("SELECT lane, state, claim, rings, suspect FROM queue_lanes")
        return {row["lane"]: row for row in rows}


def queue_job(
    name: str,
    *,
    kind: str = "batch",
    queue: Queue | None = None,
    lane: str = "lane-a",
    priority: Priority = Priority.NORMAL,
    max_attempts: int = 3,
    run_at: datetime | None = None,
    environment_id: UUID = ENVIRONMENT,
) -> NewQueueJob:
    return NewQueueJob(
        id=new_uuid7(),
        environment_id=environment_id,
        kind=kind,
        args={"name": name},
        queue=queue or (Queue.EXECUTION if kind == "call" else Queue.DEFAULT),
        lane=lane,
        priority=priority,
        max_attempts=max_attempts,
        run_at=run_at,
    )


def failing(*names: str, error: Exception | None = None) -> Callable[[QueueJob], Exception | None]:
    """Return a decision that fails the queue jobs of these names."""
    failure = error or AttemptFailedError("it broke", reason="BROKEN")
    return lambda queue_job: failure if queue_job.args["name"] in names else None
