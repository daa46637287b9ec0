"""The real ledger, its relays, sweeps and servers beside the model: hypothesis decides what happens next."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.queue_job import NewQueueJob, Queue
from services.endpoints.domain.retry import Backoff
from services.endpoints.domain.tenancy import Principal, PrincipalKind
from services.endpoints.operations.finality import Finality
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.queue_jobs import QueueJobOperations
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.retries import Retries
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.operations.watches import Watches
from services.endpoints.telemetry.metrics import Metrics
from tests.support import ledger_model
from tests.support.eventually import eventually
from tests.support.ledger_handlers import JOURNAL, CustomerCalls, ModelBatch, ServerKilledError
from tests.support.ledger_model import LedgerModel, ModelCall, Outcome
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    import asyncpg

    from services.endpoints.domain.queue_job import Priority
    from services.endpoints.operations.gathering import RunResult
    from services.endpoints.store.postgres import PostgresStore, PostgresTransaction
    from tests.support.ledger_model import Place

_MINUTE: Final = timedelta(minutes=1)
_SETTINGS: Final = LedgerSettings(
    ring_answered_within=ledger_model.RING_ANSWERED_WITHIN * _MINUTE,
    lease=ledger_model.LEASE * _MINUTE,
    # One batch a call, which the model can follow.
    max_queue_jobs_per_call=ledger_model.LIMIT,
    call_takes=timedelta(),
    max_rescues=ledger_model.MAX_RESCUES,
    max_unended_attempts=ledger_model.MAX_UNENDED,
    # Half of it is jitter, which is 0 here: 2, 4, 8 minutes.
    backoff=Backoff(base=4 * _MINUTE, cap=1_000 * _MINUTE),
)
_OPERATOR: Final = Principal(PrincipalKind.ADMIN, "admin")
_CLEAR: Final = (
    "DELETE FROM queue_jobs; DELETE FROM queue_lanes; DELETE FROM queue_pauses;"
    " DELETE FROM model_effects; DELETE FROM model_finals"
)
_PASS: Final = """
UPDATE queue_jobs SET run_at = run_at - $1::interval;
UPDATE queue_lanes SET lease_until = lease_until - $1::interval
"""


@dataclass(frozen=True)
class Server:
    """One server: what it runs and the leases it renews."""

    runner: QueueJobRunner
    leases: LeaseKeeper


@dataclass(eq=False)
class CallInFlight:
    """A call that a customer has not answered; `model` is the same call in the model."""

    server: Server
    task: asyncio.Task[RunResult]
    answered: asyncio.Future[None]
    model: ModelCall


class LedgerUnderTest:
    """Does each thing to the ledger and to the model, then compares them."""

    def __init__(self, store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.store = store
        self.connection = connection
        self.forget()

    async def prepare(self) -> None:
        await self.connection.execute(JOURNAL)

    def forget(self) -> None:
        """Begin a new history with new processes."""
        self.model = LedgerModel()
        self.publisher = MemoryPublisher()
        self.in_flight: list[CallInFlight] = []
        self.shifted = timedelta()
        self.batch = ModelBatch(self._outcome)
        self.call = CustomerCalls(self._outcome)
        self.batch_handlers: dict[str, ModelBatch] = {"batch": self.batch}
        self.calling_handlers: dict[str, CustomerCalls] = {"call": self.call}
        self.finality = Finality(handlers={"batch": self.batch, "call": self.call, "newer": self.batch})
        self.operators = QueueJobOperations(
            store=self.store,
            finality=self.finality,
            retries=Retries(handlers={}),
            watches=Watches(),
            wake_ups=MemoryWakeUps(),
        )
        self.servers = [self._new_server(), self._new_server()]
        self.relays = [
            Relay(store=self.store, publisher=self.publisher, wake_ups=MemoryWakeUps(), settings=_SETTINGS)
            for _ in range(2)
        ]
        self.sweeps = [
            Rescue(
                store=self.store,
                publisher=self.publisher,
                finality=self.finality,
                observer=Metrics(),
                settings=_SETTINGS,
            )
            for _ in range(2)
        ]

    def _outcome(self, name: str) -> Outcome:
        return self.model.jobs[name].outcome

    def _new_server(self) -> Server:
        leases = LeaseKeeper(store=self.store, settings=_SETTINGS)
        runner = QueueJobRunner(
            store=self.store,
            batch_handlers=self.batch_handlers,
            calling_handlers=self.calling_handlers,
            finality=self.finality,
            leases=leases,
            settings=_SETTINGS,
            observer=Metrics(),
            jitter=lambda: 0.0,
        )
        return Server(runner, leases)

    async def begin(self) -> None:
        await self.connection.execute(_CLEAR)
        self.forget()

    async def end(self) -> None:
        """Let no task of this history outlive it."""
        for call in self.in_flight:
            call.answered.set_exception(ServerKilledError())
        await asyncio.gather(*(call.task for call in self.in_flight), return_exceptions=True)

    # What callers, operators and time do.

    async def enqueue(
        self,
        *,
        place: Place,
        kind: str,
        priority: Priority,
        max_attempts: int,
        delay: int,
        outcome: Outcome,
        rolled_back: bool,
    ) -> None:
        name = f"{kind}-{len(self.model.jobs)}"
        try:
            async with self.store.transaction() as tx:
                now = await tx.ledger.now()
                queue_job = NewQueueJob(
                    id=new_uuid7(),
                    environment_id=UUID(int=1 + ord(place[1][-1]) % 2),
                    kind=kind,
                    args={"name": name},
                    queue=place[0],
                    lane=place[1],
                    priority=priority,
                    max_attempts=max_attempts,
                    run_at=now + delay * _MINUTE if delay else None,
                )
                await tx.ledger.enqueue([queue_job])
                _end_request(rolled_back=rolled_back)
        except _ChangedItsMindError:
            return
        self.model.enqueue(
            name,
            place=place,
            kind=kind,
            priority=priority,
            max_attempts=max_attempts,
            delay=delay,
            outcome=outcome,
        )

    async def pass_time(self, minutes: int) -> None:
        for statement in _PASS.split(";"):
            await self.connection.execute(statement, minutes * _MINUTE)
        self.shifted += minutes * _MINUTE
        self.model.now += minutes

    async def pause(self, queue: Queue, lane: str | None) -> None:
        await self.operators.pause(_OPERATOR, queue, lane)
        self.model.pauses.add((queue, lane))

    async def resume(self, queue: Queue, lane: str | None) -> None:
        await self.operators.resume(_OPERATOR, queue, lane)
        self.model.pauses.discard((queue, lane))

    async def cancel_lane(self, lane: str) -> None:
        async def cancel(tx: PostgresTransaction) -> None:
            await self.finality.settle(tx, await tx.ledger.cancel_lane(lane, message="Not wanted."))

        await self.store.transact(cancel)
        self.model.cancel_lane(lane)

    async def cancel(self, name: str) -> None:
        await self._asking(
            self.operators.cancel(_OPERATOR, await self._id_of(name)), is_allowed=self.model.cancel(name)
        )

    async def retry(self, name: str) -> None:
        asking = self.operators.retry(_OPERATOR, await self._id_of(name), allow_repeat=True)
        await self._asking(asking, is_allowed=self.model.retry(name))

    async def _asking(self, work: Awaitable[object], *, is_allowed: bool) -> None:
        if is_allowed:
            await work
            return
        with pytest.raises(KongflowError) as refused:
            await work
        assert refused.value.reason is Reason.WRONG_STATE

    async def _id_of(self, name: str) -> UUID:
        queue_job_id: UUID = await self.connection.fetchval(
            "SELECT id FROM queue_jobs WHERE args ->> 'name' = $1", name
        )
        return queue_job_id

    async def cancel_while_it_is_pulled(self, queue: Queue, lane: str) -> None:
        """Cancel what waits in a lane after a call back chose it and before the call back has it locked."""
        async with self.store.transaction() as tx:
            final = await tx.ledger.cancel_lane(lane, message="Not wanted.")
            await self.finality.settle(tx, final)
            self.model.cancel_lane(lane)
            self.model.run_batch(queue, [lane], left=(), died=False)
            call_back = asyncio.create_task(self.servers[0].runner.run_queue_jobs(queue, [lane]))
            await eventually(lambda: self._waits_or_is_done(call_back))
        result = await call_back
        assert result.is_nothing_due, result

    async def _waits_or_is_done(self, task: asyncio.Task[RunResult]) -> bool:
        waiting: bool = await self.connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database())"
        )
        return waiting or task.done()

    async def supersede(self, place: Place) -> None:
        await self.store.transact(lambda tx: tx.ledger.supersede_lane(*place))
        self.model.supersede(place)

    # What relays, sweeps and Redis do.

    async def ring(self, relays: Sequence[Relay]) -> None:
        await self._publishing([relay.run_once for relay in relays], self.model.ring)

    async def sweep(self, sweeps: Sequence[Rescue]) -> None:
        await self._publishing([sweep.run_once for sweep in sweeps], self.model.sweep)

    async def _publishing(
        self, works: Sequence[Callable[[], Awaitable[object]]], in_model: Callable[[], Collection[Place]]
    ) -> None:
        """Do the same work in several processes at once: each lane's name is published once."""
        before = self._named_lanes()
        await asyncio.gather(*(work() for work in works))
        assert self._named_lanes() - before == Counter(in_model())

    def _named_lanes(self) -> Counter[Place]:
        return Counter(
            (Queue(queue), lane)
            for queue, messages in self.publisher.messages.items()
            for message in messages
            for lane in message
        )

    def waiting_messages(self) -> list[tuple[Queue, list[str]]]:
        return [
            (Queue(queue), message)
            for queue, messages in sorted(self.publisher.messages.items())
            for message in messages
        ]

    def lose(self, queue: Queue, message: list[str]) -> None:
        self.publisher.messages[queue.value].remove(message)

    def flush(self) -> None:
        self.publisher.messages.clear()

    # What servers do.

    async def deliver(self, servers: Sequence[Server], queue: Queue, lanes: list[str]) -> None:
        """Give one message to one server, or the same to several at once."""
        if queue is Queue.EXECUTION:
            await self._deliver_call(servers, lanes)
        else:
            await self._deliver_batch(servers, queue, lanes)

    async def _deliver_batch(self, servers: Sequence[Server], queue: Queue, lanes: list[str]) -> None:
        available = {job.name for job in self.model.in_state("AVAILABLE")}
        last = await self.connection.fetchval("SELECT coalesce(max(position), 0) FROM model_effects")
        ends = await asyncio.gather(
            *(server.runner.run_queue_jobs(queue, lanes) for server in servers), return_exceptions=True
        )
        died = any(isinstance(end, ServerKilledError) for end in ends)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, ServerKilledError):
                raise end
        await self._check_order_of_effects(last)
        still = await self.connection.fetch("SELECT args ->> 'name' AS name FROM queue_jobs WHERE state = 'AVAILABLE'")
        self.model.run_batch(queue, lanes, left=available - {row["name"] for row in still}, died=died)

    async def _check_order_of_effects(self, last: int) -> None:
        rows = await self.connection.fetch("SELECT name FROM model_effects WHERE position > $1 ORDER BY position", last)
        jobs = [self.model.jobs[row["name"]] for row in rows]
        by_lane = sorted(jobs, key=lambda job: job.lane)  # stable: the order within a lane stays
        for lane, of_lane in groupby(by_lane, key=lambda job: job.lane):
            turns = [job.turn for job in of_lane]
            assert turns == sorted(turns), f"{lane}: out of turn"

    async def _deliver_call(self, servers: Sequence[Server], lanes: list[str]) -> None:
        assert len(lanes) == 1, "a call holds its message"
        wanted = self.model.begin_call((Queue.EXECUTION, lanes[0]))
        tasks = {
            asyncio.create_task(server.runner.run_queue_jobs(Queue.EXECUTION, lanes)): server for server in servers
        }
        begun = asyncio.create_task(self.call.begun.get())
        pending: set[asyncio.Task[Any]] = {*tasks, begun}
        try:
            # Either every server found nothing to call for, or one of them calls and the others are done.
            while pending and not (begun.done() and len(pending) <= 1) and pending != {begun}:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            # It would take the next call from whoever waits for that one.
            is_called = not begun.cancel()
        if not is_called:
            assert wanted is None, f"{wanted} was not called"
            return
        name, answered = begun.result()
        assert wanted is not None, f"{name} was called"
        assert name == wanted.name
        (task,) = [task for task in tasks if not task.done()]
        self.in_flight.append(CallInFlight(tasks[task], task, answered, wanted))

    async def answer(self, call: CallInFlight) -> None:
        """Let a customer answer; a late answer must be refused."""
        self.in_flight.remove(call)
        holds = self.model.holds(call.model)
        call.answered.set_result(None)
        result = await call.task
        assert result.is_nothing_due is not holds, result
        self.model.end_call(call.model)

    async def kill(self, call: CallInFlight) -> None:
        """Kill the server of a call: nobody renews its lease any more."""
        self.in_flight.remove(call)
        call.answered.set_exception(ServerKilledError())
        await asyncio.gather(call.task, return_exceptions=True)

    async def renew(self, server: Server) -> None:
        await server.leases.run_once()
        self.model.renew(call.model for call in self.in_flight if call.server is server)

    # What must hold.

    async def compare(self) -> None:
        await self._compare_queue_jobs()
        rows = await self.connection.fetch(
            "SELECT queue, lane, state, rings, suspect, claim IS NOT NULL AS is_held,"
            " lease_until <= clock_timestamp() AS is_overdue FROM queue_lanes"
        )
        assert {(Queue(row["queue"]), row["lane"]): tuple(row)[2:] for row in rows} == {
            place: (
                lane.state,
                lane.rings,
                lane.suspect,
                lane.owner is not None,
                lane.lease_until <= self.model.now,
            )
            for place, lane in self.model.lanes.items()
        }
        rows = await self.connection.fetch(
            "SELECT name, state, count(*) AS finals FROM model_finals GROUP BY name, state"
        )
        assert {(row["name"], row["state"]): row["finals"] for row in rows} == self.model.finals()
        rows = await self.connection.fetch("SELECT name, count(*) AS effects FROM model_effects GROUP BY name")
        assert {row["name"]: row["effects"] for row in rows} == {
            job.name: job.effects for job in self.model.jobs.values() if job.effects
        }

    async def _compare_queue_jobs(self) -> None:
        rows = await self.connection.fetch(
            "SELECT args ->> 'name' AS name, state, attempt, rescues, unended, max_attempts, queue, lane,"
            " cancel_requested_at IS NOT NULL AS cancel_requested,"
            " extract(epoch FROM run_at - clock_timestamp())::float8 AS due_in,"
            " extract(epoch FROM run_at + $1::interval)::float8 AS run_at FROM queue_jobs",
            self.shifted,
        )
        jobs = self.model.jobs
        assert {
            row["name"]: (row["state"], row["attempt"], row["rescues"], row["unended"], row["cancel_requested"])
            for row in rows
        } == {
            job.name: (job.state, job.attempt, job.rescues, job.unended, job.cancel_requested) for job in jobs.values()
        }
        for row in rows:
            job = jobs[row["name"]]
            # Real time goes on between two looks, by seconds and never by a minute.
            assert 0 <= (job.due - self.model.now) * 60 - row["due_in"] < 60, f"{job.name} is due in {row['due_in']} s"
            job.run_at = row["run_at"]
            assert row["attempt"] <= row["max_attempts"]
            assert self.call.made[job.name] <= job.calls_before + row["attempt"] + row["rescues"]
        running = Counter((row["queue"], row["lane"]) for row in rows if row["state"] == "RUNNING")
        assert set(running.values()) <= {1}, "a lane runs two things at once"

    async def heal(self) -> None:
        """End every fault and drain: everything must come to its end, killers of servers in the dead letters."""
        self.batch_handlers["newer"], self.calling_handlers["newer"] = self.batch, self.call
        self.model.known_kinds.add("newer")
        for job in self.model.jobs.values():
            if job.outcome is not Outcome.KILL:
                job.outcome = Outcome.SUCCEED
        for queue, lane in sorted(self.model.pauses, key=str):
            await self.resume(queue, lane)
        for _ in range(100):
            for call in list(self.in_flight):
                await self.answer(call)
            await self.ring(self.relays[:1])
            for queue, lanes in self.waiting_messages():
                self.lose(queue, lanes)
                await self.deliver(self.servers[:1], queue, lanes)
            await self.sweep(self.sweeps[:1])
            await self.compare()
            if len(self.model.in_state(*ledger_model.FINAL)) == len(self.model.jobs) and not self.model.lanes:
                return
            await self.pass_time(ledger_model.LEASE)
        raise AssertionError(f"still not final: {self.model.jobs}")


class _ChangedItsMindError(Exception):
    """A caller rolls back."""


def _end_request(*, rolled_back: bool) -> None:
    if rolled_back:
        raise _ChangedItsMindError
