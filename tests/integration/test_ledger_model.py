"""Short histories of the real ledger by the hundred, faults included, each step compared with a model in plain Python.

`KONGFLOW_LEDGER_HISTORIES` runs that many instead, longer and not the same each time.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from services.endpoints.domain.queue_job import Priority, Queue
from services.endpoints.store.postgres import PostgresStore
from tests.support.ledger_machine import LedgerUnderTest
from tests.support.ledger_model import ANSWERS, BATCH_OUTCOMES, CALL_OUTCOMES, FINAL, Outcome

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from tests.support.ledger_machine import CallInFlight

_HISTORIES = int(os.environ.get("KONGFLOW_LEDGER_HISTORIES", "0"))
_PROFILE = settings(
    max_examples=_HISTORIES or 60,
    stateful_step_count=50 if _HISTORIES else 25,
    derandomize=not _HISTORIES,
    database=None,
    deadline=None,
    print_blob=bool(_HISTORIES),
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

LANES = st.sampled_from(["lane-a", "lane-b", "lane-c"])
MAYBE_LANES = st.one_of(st.none(), LANES)
PICKS = st.integers(0, 11)

# Far more than the database takes to give up any statement.
_STEP_WITHIN = timedelta(seconds=60)


async def _ending(work: Coroutine[Any, Any, None]) -> None:
    """Have a step that hangs fail: the test's own timeout would be one more failure that hypothesis plays again."""
    async with asyncio.timeout(_STEP_WITHIN.total_seconds()):
        await work


class LedgerMachine(RuleBasedStateMachine):
    """One history, most of it in queues whose work is done in batches."""

    queues: tuple[Queue, ...] = (Queue.DEFAULT, Queue.DEFAULT, Queue.EVENTS, Queue.EXECUTION)

    def __init__(self, runner: asyncio.Runner, ledger: LedgerUnderTest) -> None:
        super().__init__()
        self._runner = runner
        self.ledger = ledger
        self.run(ledger.begin())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.run(_ending(work))

    # Callers and operators.

    @rule(
        pick=PICKS,
        lane=LANES,
        is_newer=st.sampled_from([False, False, False, True]),
        priority=st.sampled_from(Priority),
        max_attempts=st.integers(1, 3),
        delay=st.sampled_from([0, 0, 0, 1, 7]),
        outcome=PICKS,
        rolled_back=st.sampled_from([False, False, False, True]),
    )
    def enqueue(
        self,
        *,
        pick: int,
        lane: str,
        is_newer: bool,
        priority: Priority,
        max_attempts: int,
        delay: int,
        outcome: int,
        rolled_back: bool,
    ) -> None:
        queue = self._queue(pick)
        is_call = queue is Queue.EXECUTION
        outcomes = CALL_OUTCOMES if is_call else BATCH_OUTCOMES
        self.run(
            self.ledger.enqueue(
                place=(queue, lane),
                kind="newer" if is_newer else "call" if is_call else "batch",
                priority=priority,
                max_attempts=max_attempts,
                delay=delay,
                outcome=outcomes[outcome % len(outcomes)],
                rolled_back=rolled_back,
            )
        )

    def _queue(self, pick: int) -> Queue:
        return self.queues[pick % len(self.queues)]

    @rule(pick=PICKS, lane=LANES, outcomes=st.lists(st.integers(-6, 5), min_size=2, max_size=6))
    def enqueue_several(self, pick: int, lane: str, outcomes: list[int]) -> None:
        queue = self._queue(pick)
        possible = CALL_OUTCOMES if queue is Queue.EXECUTION else BATCH_OUTCOMES
        for number, outcome in enumerate(outcomes):
            self.run(
                self.ledger.enqueue(
                    place=(queue, lane),
                    kind="call" if queue is Queue.EXECUTION else "batch",
                    priority=Priority(1 + number % 2),
                    max_attempts=2,
                    delay=0,
                    outcome=possible[max(outcome, 0)],
                    rolled_back=False,
                )
            )

    @precondition(lambda self: self.ledger.model.jobs)
    @rule(pick=PICKS)
    def cure(self, pick: int) -> None:
        """What failed so far will succeed."""
        jobs = list(self.ledger.model.jobs.values())
        jobs[pick % len(jobs)].outcome = Outcome.SUCCEED

    @rule(pick=PICKS, lane=MAYBE_LANES)
    def pause(self, pick: int, lane: str | None) -> None:
        self.run(self.ledger.pause(self._queue(pick), lane))

    @precondition(lambda self: self.ledger.model.pauses)
    @rule(pick=PICKS)
    def resume(self, pick: int) -> None:
        pauses = sorted(self.ledger.model.pauses, key=str)
        self.run(self.ledger.resume(*pauses[pick % len(pauses)]))

    @precondition(lambda self: len(self.ledger.model.in_state(*FINAL)) < len(self.ledger.model.jobs))
    @rule(lane=LANES)
    def cancel_lane(self, lane: str) -> None:
        self.run(self.ledger.cancel_lane(lane))

    @precondition(lambda self: self.ledger.model.jobs)
    @rule(pick=PICKS, retries=st.sampled_from([True, True, False]))
    def retry_or_cancel(self, pick: int, *, retries: bool) -> None:
        names = sorted(self.ledger.model.jobs)
        name = names[pick % len(names)]
        self.run(self.ledger.retry(name) if retries else self.ledger.cancel(name))

    @precondition(lambda self: self._short_lanes())
    @rule(pick=PICKS)
    def cancel_while_it_is_pulled(self, pick: int) -> None:
        lanes = self._short_lanes()
        self.run(self.ledger.cancel_while_it_is_pulled(*lanes[pick % len(lanes)]))

    def _short_lanes(self) -> list[tuple[Queue, str]]:
        """Return rung lanes of batches, of whose name no call runs and nothing waits in another queue."""
        model = self.ledger.model
        return sorted(
            (
                (queue, name)
                for (queue, name), lane in model.lanes.items()
                if queue is not Queue.EXECUTION
                and (lane.state, lane.rings) == ("RUNG", 1)
                and all(
                    job.queue is queue for job in model.jobs.values() if job.lane == name and job.state not in FINAL
                )
            ),
            key=str,
        )

    @precondition(lambda self: self.ledger.model.in_state("SCHEDULED", "AVAILABLE"))
    @rule(pick=PICKS, lane=LANES)
    def supersede(self, pick: int, lane: str) -> None:
        self.run(self.ledger.supersede((self._queue(pick), lane)))

    # Time, relays, sweeps and Redis.

    @rule(minutes=st.sampled_from([1, 4, 6, 11, 30]))
    def pass_time(self, minutes: int) -> None:
        self.run(self.ledger.pass_time(minutes))

    @rule(relays=st.sampled_from([(0,), (1,), (0, 1)]))
    def ring(self, relays: tuple[int, ...]) -> None:
        self.run(self.ledger.ring([self.ledger.relays[number] for number in relays]))

    @precondition(lambda self: self.ledger.model.lanes)
    @rule(sweeps=st.sampled_from([(0,), (1,), (0, 1)]))
    def sweep(self, sweeps: tuple[int, ...]) -> None:
        self.run(self.ledger.sweep([self.ledger.sweeps[number] for number in sweeps]))

    @precondition(lambda self: self.ledger.model.lanes)
    @rule(server=st.integers(0, 2))
    def nobody_answers_until_all_leases_run_out(self, server: int) -> None:
        self.run(self.ledger.pass_time(11))
        self.run(self.ledger.sweep(self.ledger.sweeps[:1]))
        if server < 2:
            self._deliver_all(server)

    @precondition(lambda self: self.ledger.waiting_messages())
    @rule(pick=PICKS)
    def lose_messages(self, pick: int) -> None:
        """Lose one message, or all of them as FLUSHALL does."""
        messages = self.ledger.waiting_messages()
        if pick < len(messages):
            self.ledger.lose(*messages[pick])
        else:
            self.ledger.flush()

    # Servers.

    @precondition(lambda self: self.ledger.waiting_messages())
    @rule(pick=PICKS, server=st.integers(0, 1), stays=st.sampled_from([False, False, True]))
    def deliver(self, pick: int, server: int, *, stays: bool) -> None:
        """A message that stays is delivered again later, to any server."""
        messages = self.ledger.waiting_messages()
        queue, lanes = messages[pick % len(messages)]
        if not stays:
            self.ledger.lose(queue, lanes)
        self.run(self.ledger.deliver([self.ledger.servers[server]], queue, lanes))

    @precondition(lambda self: self.ledger.model.in_state("AVAILABLE"))
    @rule(server=st.integers(0, 1))
    def ring_and_deliver_all(self, server: int) -> None:
        self.run(self.ledger.ring(self.ledger.relays[:1]))
        self._deliver_all(server)

    def _deliver_all(self, server: int) -> None:
        for queue, lanes in self.ledger.waiting_messages():
            self.ledger.lose(queue, lanes)
            self.run(self.ledger.deliver([self.ledger.servers[server]], queue, lanes))
            self.run(self.ledger.compare())

    @precondition(lambda self: self._calm_messages())
    @rule(pick=PICKS)
    def deliver_to_both_servers_at_once(self, pick: int) -> None:
        messages = self._calm_messages()
        self.run(self.ledger.deliver(self.ledger.servers, *messages[pick % len(messages)]))

    def _calm_messages(self) -> list[tuple[Queue, list[str]]]:
        """Return messages of lanes that no server died on: there both servers together do what one of them would."""
        lanes, jobs = self.ledger.model.lanes, self.ledger.model.jobs.values()
        return [
            (queue, names)
            for queue, names in self.ledger.waiting_messages()
            if all(lanes[queue, name].rings == 1 for name in names if (queue, name) in lanes)
            and not any(job.queue is queue and job.outcome is Outcome.KILL for job in jobs)
        ]

    @precondition(lambda self: self.ledger.in_flight)
    @rule(pick=PICKS)
    def cancel_running(self, pick: int) -> None:
        self.run(self.ledger.cancel_lane(self._picked(pick).model.place[1]))

    @precondition(lambda self: self.ledger.in_flight)
    @rule(pick=PICKS, outcome=st.sampled_from(ANSWERS))
    def customer_answers(self, pick: int, outcome: Outcome) -> None:
        call = self._picked(pick)
        self.ledger.model.jobs[call.model.name].outcome = outcome
        self.run(self.ledger.answer(call))

    @precondition(lambda self: self.ledger.in_flight)
    @rule(pick=PICKS)
    def server_dies_during_call(self, pick: int) -> None:
        self.run(self.ledger.kill(self._picked(pick)))

    @precondition(lambda self: self.ledger.in_flight)
    @rule(server=st.integers(0, 1))
    def renew(self, server: int) -> None:
        self.run(self.ledger.renew(self.ledger.servers[server]))

    def _picked(self, pick: int) -> CallInFlight:
        return self.ledger.in_flight[pick % len(self.ledger.in_flight)]

    @invariant()
    def ledger_is_as_the_model_says(self) -> None:
        self.run(self.ledger.compare())

    def teardown(self) -> None:
        try:
            self.run(self.ledger.heal())
        finally:
            self.run(self.ledger.end())


class CallingMachine(LedgerMachine):
    """One history in which customers are called."""

    queues = (Queue.EXECUTION,)


@pytest.fixture
def ledger_and_loop(database_url: str) -> Iterator[tuple[asyncio.Runner, LedgerUnderTest]]:
    """The ledger on a database of this test's own, and the loop that its processes share."""
    with (
        asyncio.Runner() as runner,
        capture_logs(),
    ):  # printing every failure that was asked for costs more than all else
        store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
        runner.run(store.open())
        connection = runner.run(asyncpg.connect(database_url))
        ledger = LedgerUnderTest(store, connection)
        runner.run(ledger.prepare())
        try:
            yield runner, ledger
        finally:
            runner.run(connection.close())
            runner.run(store.close())


@pytest.mark.timeout(300 if not _HISTORIES else 24 * 3600)
@pytest.mark.parametrize("machine", [LedgerMachine, CallingMachine])
def test_every_history_goes_as_the_model_says_and_ends_with_nothing_lost(
    machine: type[LedgerMachine], ledger_and_loop: tuple[asyncio.Runner, LedgerUnderTest]
) -> None:
    run_state_machine_as_test(partial(machine, *ledger_and_loop), settings=_PROFILE)  # type: ignore[arg-type] # any factory will do
