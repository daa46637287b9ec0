"""The ledger's promises, on real PostgreSQL: nothing lost, nothing twice, one at a time per lane."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from services.endpoints.domain.attempt import AttemptFailedError, SnoozedError
from services.endpoints.domain.errors import ConflictError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Priority, Queue, QueueJobState
from services.endpoints.operations.gathering import RunResult
from tests.support.eventually import eventually
from tests.support.ledger import ENVIRONMENT, failing, queue_job

if TYPE_CHECKING:
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from tests.support.ledger import World

LATER = datetime(2999, 1, 1, tzinfo=UTC)


async def test_enqueue_is_rolled_back_with_its_transaction(world: World) -> None:
    async def enqueue_and_fail() -> None:
        async with world.store.transaction() as tx:
            await tx.ledger.enqueue([queue_job("a")])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await enqueue_and_fail()

    assert await world.states() == {}


async def test_enqueued_work_is_rung_run_and_leaves_its_lane_idle(world: World) -> None:
    await world.enqueue(queue_job("a"), queue_job("b", lane="lane-b"))

    assert await world.work_off() == RunResult(completed=2)
    assert await world.states() == {"a": "COMPLETED", "b": "COMPLETED"}
    assert await world.lanes() == {}
    assert sorted(world.batch.final) == [
        ("a", QueueJobState.COMPLETED, None),
        ("b", QueueJobState.COMPLETED, None),
    ]


async def test_open_lane_is_not_rung_twice(world: World) -> None:
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    await world.enqueue(queue_job("b"))
    await world.relay.run_once()

    assert world.take(Queue.DEFAULT) == [["lane-a"]]


async def test_relays_at_once_ring_each_lane_once(world: World) -> None:
    await world.enqueue(*(queue_job(str(number), lane=f"lane-{number}") for number in range(300)))

    await asyncio.gather(*(world.new_relay().run_once() for _ in range(4)))

    rung = [lane for lanes in world.take(Queue.DEFAULT) for lane in lanes]
    assert len(rung) == len(set(rung)) == 300


async def test_lanes_travel_together_but_alone_where_a_customer_is_called(world: World) -> None:
    await world.enqueue(
        *(queue_job(f"b{number}", lane=f"lane-{number}") for number in range(60)),
        *(queue_job(f"c{number}", kind="call", lane=f"lane-{number}") for number in range(3)),
    )
    await world.relay.run_once()

    assert [len(lanes) for lanes in world.take(Queue.DEFAULT)] == [50, 10]
    assert [len(lanes) for lanes in world.take(Queue.EXECUTION)] == [1, 1, 1]


async def test_environments_take_turns_whatever_their_backlog(world: World) -> None:
    other = UUID("01890000-0000-7000-8000-000000000002")
    await world.enqueue(
        *(queue_job(f"big{number}", kind="call", lane=f"big-{number}") for number in range(200)),
        *(
            queue_job(f"small{number}", kind="call", lane=f"small-{number}", environment_id=other)
            for number in range(3)
        ),
    )
    await world.relay.run_once()

    rung = {lanes[0] for lanes in world.take(Queue.EXECUTION)}
    assert len(rung) == world.settings.max_calls_per_environment + 3
    assert {"small-0", "small-1", "small-2"} <= rung


async def test_environment_that_holds_fewer_lanes_is_rung_first(world: World) -> None:
    other = UUID("01890000-0000-7000-8000-000000000002")
    relay = world.new_relay(max_calls_per_environment=100)
    await world.enqueue(*(queue_job(f"a{number}", kind="call", lane=f"a-{number}") for number in range(40)))
    await relay.run_once()
    world.take(Queue.EXECUTION)
    await world.enqueue(
        *(queue_job(f"more-a{number}", kind="call", lane=f"more-a-{number}") for number in range(60)),
        *(queue_job(f"b{number}", kind="call", lane=f"b-{number}", environment_id=other) for number in range(60)),
    )
    await relay.run_once()

    rung = [lanes[0] for lanes in world.take(Queue.EXECUTION)]
    assert rung[:40] == sorted(lane for lane in rung if lane.startswith("b-"))[:40]
    assert sum(lane.startswith("b-") for lane in rung) > 40


async def test_no_more_is_rung_than_the_window_takes_and_the_rest_follows(world: World) -> None:
    await world.enqueue(
        *(
            queue_job(
                f"{environment}-{number}",
                kind="call",
                lane=f"{environment}-{number}",
                environment_id=UUID(int=environment),
            )
            for environment in range(1, 6)
            for number in range(20)
        )
    )

    await world.relay.run_once()
    assert len(world.publisher.messages["execution"]) == world.settings.max_waiting_messages
    assert (await world.work_off()).completed == 100


async def test_environment_holds_a_share_of_the_calls_and_never_more(world: World) -> None:
    most = world.settings.max_calls_per_environment
    await world.enqueue(*(queue_job(str(number), kind="call", lane=f"lane-{number:03}") for number in range(most + 5)))
    await world.relay.run_once()
    first = world.take(Queue.EXECUTION)
    await world.relay.run_once()

    assert len(first) == most
    assert world.take(Queue.EXECUTION) == []
    await world.runner.run_queue_jobs(Queue.EXECUTION, first[0])
    await world.relay.run_once()
    assert world.take(Queue.EXECUTION) == [[f"lane-{most:03}"]]


async def test_lanes_of_one_environment_take_turns_and_urgent_ones_go_first(world: World) -> None:
    relay = world.new_relay(max_calls_per_environment=2)
    await world.enqueue(
        *(queue_job(f"{lane}{number}", kind="call", lane=lane) for lane in "abcde" for number in range(2))
    )
    rung = []
    for turn in range(4):
        await relay.run_once()
        taken = [lanes[0] for lanes in world.take(Queue.EXECUTION)]
        rung.append(taken)
        for lane in taken:
            await world.runner.run_queue_jobs(Queue.EXECUTION, [lane])
        if turn == 1:
            await world.enqueue(queue_job("urgent", kind="call", lane="z", priority=Priority.HIGH))

    assert rung == [["a", "b"], ["c", "d"], ["z", "e"], ["a", "b"]]


async def test_more_environments_than_one_look_sees_are_all_rung(world: World) -> None:
    await world.enqueue(
        *(queue_job(str(number), lane=f"lane-{number}", environment_id=UUID(int=number)) for number in range(1, 1_101))
    )
    await world.relay.run_once()

    rung = [lane for lanes in world.take(Queue.DEFAULT) for lane in lanes]
    assert len(rung) == len(set(rung)) == 1_100


async def test_environments_that_hold_the_same_take_turns(world: World) -> None:
    await world.enqueue(
        *(
            queue_job(
                f"{environment}-{number}",
                kind="call",
                lane=f"{environment}-{number}",
                environment_id=UUID(int=environment),
            )
            for environment in range(1, 5)
            for number in range(3)
        )
    )
    relay = world.new_relay(max_waiting_messages=1)
    rung = []
    for _ in range(8):
        await relay.run_once()
        (lane,) = world.take(Queue.EXECUTION)[0]
        rung.append(lane)
        await world.runner.run_queue_jobs(Queue.EXECUTION, [lane])

    assert [lane.partition("-")[0] for lane in rung] == ["1", "2", "3", "4"] * 2


async def test_what_falls_due_does_not_cost_environments_their_look(world: World) -> None:
    await world.enqueue(
        *(queue_job(str(number), lane=f"lane-{number}", environment_id=UUID(int=number)) for number in range(1, 701))
    )
    await world.enqueue(queue_job("later", lane="later", run_at=LATER))
    await world.connection.execute("UPDATE queue_jobs SET run_at = now() WHERE lane = 'later'")
    await world.relay.run_once()

    assert len([lane for lanes in world.take(Queue.DEFAULT) for lane in lanes]) == 701


async def test_message_of_who_holds_little_overtakes_what_waits_of_who_holds_much(world: World) -> None:
    other = UUID("01890000-0000-7000-8000-000000000002")
    await world.enqueue(*(queue_job(str(number), lane=f"big-{number}") for number in range(1_000)))
    await world.relay.run_once()
    await world.enqueue(queue_job("small", lane="small", environment_id=other))
    await world.relay.run_once()

    messages = world.publisher.messages["default"]
    assert len(messages) == 21
    assert messages.index(["small"]) < 10


async def test_doubled_and_forged_messages_find_nothing_due(world: World) -> None:
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()

    results = await asyncio.gather(*(world.new_runner().run_queue_jobs(Queue.DEFAULT, ["lane-a"]) for _ in range(20)))
    forged = await world.runner.run_queue_jobs(Queue.DEFAULT, ["never-rung"])

    assert sum(result.completed for result in results) == 1
    assert world.batch.done == ["a"]
    assert forged.is_nothing_due


async def test_call_back_that_waited_for_a_lane_does_nothing_again_and_leaves_what_came_meanwhile(world: World) -> None:
    await world.enqueue(queue_job("first"), queue_job("second"))
    await world.relay.run_once()
    async with world.store.transaction() as tx:
        held = await tx.ledger.pull(Queue.DEFAULT, ["lane-a"], limit=1)
        waiting = asyncio.create_task(world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"]))
        await eventually(world.somebody_waits_for_a_lock)
        await tx.ledger.complete(held.queue_jobs)
        await tx.ledger.enqueue([queue_job("third")])
        await tx.ledger.keep_lanes(Queue.DEFAULT, ["lane-a"], answer_within=timedelta(seconds=5))

    await waiting
    assert world.batch.done == ["second"]
    assert await world.lanes() == {}
    await world.work_off()
    assert world.batch.done == ["second", "third"]


async def test_priority_then_age_decides_within_a_lane(world: World) -> None:
    await world.enqueue(
        queue_job("late", priority=Priority.VERY_LOW),
        queue_job("second"),
        queue_job("third"),
        queue_job("first", priority=Priority.HIGH),
    )
    await world.work_off()

    assert world.batch.done == ["first", "second", "third", "late"]


async def test_batch_is_bounded_in_bytes_however_well_they_compress_and_the_rest_is_rung_again(world: World) -> None:
    await world.enqueue(*(queue_job(f"{number}-" + "a" * 1_000_000, lane=f"lane-{number}") for number in range(12)))
    await world.relay.run_once()
    [lanes] = world.take(Queue.DEFAULT)

    result = await world.runner.run_queue_jobs(Queue.DEFAULT, lanes)

    assert (result.completed, world.batch.batches) == (5, [5])
    assert await world.lanes() == {}
    await world.work_off()
    assert world.batch.batches == [5, 5, 2]


async def test_queue_job_that_is_larger_than_a_batch_is_run_by_itself(world: World) -> None:
    await world.enqueue(queue_job("a" * 5_000_000), queue_job("b", lane="lane-b"))
    await world.work_off()
    assert world.batch.batches == [1, 1]


async def test_one_batch_is_shared_among_its_lanes_and_the_unused_share_passed_on(world: World) -> None:
    await world.enqueue(*(queue_job(f"a{number}", lane="busy") for number in range(300)), queue_job("b", lane="calm"))
    await world.relay.run_once()

    result = await world.runner.run_queue_jobs(Queue.DEFAULT, ["busy", "calm"])

    assert result.completed == 301
    assert world.batch.batches == [200, 101]
    assert "b" in world.batch.done[:200]
    assert await world.lanes() == {}


async def test_call_that_took_its_time_leaves_the_rest_to_the_next_ring(world: World) -> None:
    await world.enqueue(*(queue_job(f"a{number}", lane="busy") for number in range(300)))
    await world.relay.run_once()

    result = await world.new_runner(call_takes=timedelta()).run_queue_jobs(Queue.DEFAULT, ["busy"])

    assert result.completed == 200
    assert await world.lanes() == {}
    assert (await world.work_off()).completed == 100


@pytest.mark.parametrize(("left", "is_kept"), [(1, True), (4, False)])
async def test_call_that_goes_on_keeps_its_lanes_from_being_rung_again_soon(
    world: World, left: int, *, is_kept: bool
) -> None:
    leases: list[datetime] = []

    async def before(_queue_job: QueueJob) -> None:
        leases.append(await world.connection.fetchval("SELECT lease_until FROM queue_lanes"))

    world.batch.before = before
    await world.enqueue(*(queue_job(f"a{number}", lane="busy") for number in range(201)))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET lease_until = now() + $1", timedelta(seconds=left))

    runner = world.new_runner(call_takes=timedelta(minutes=1))
    assert (await runner.run_queue_jobs(Queue.DEFAULT, ["busy"])).completed == 201
    assert len(set(leases[:200])) == 1
    assert (leases[-1] > leases[0]) is is_kept


async def test_delayed_work_is_run_when_due_and_not_before(world: World) -> None:
    await world.enqueue(queue_job("a", run_at=LATER))

    assert (await world.work_off()).is_nothing_due
    assert await world.states() == {"a": "SCHEDULED"}
    await world.let_everything_fall_due()
    assert (await world.work_off()).completed == 1


async def test_what_falls_due_now_does_not_wait_for_a_backlog_that_fell_due_before(world: World) -> None:
    backlog = [queue_job(f"a{number}", run_at=LATER - timedelta(minutes=30)) for number in range(40)]
    await world.enqueue(*backlog, queue_job("b", lane="lane-b", run_at=LATER))
    await world.connection.execute("UPDATE queue_jobs SET run_at = run_at - interval '1000 years'")

    async with world.store.transaction() as tx:
        assert await tx.ledger.promote_due(limit=10) == 10
    states = await world.states()
    assert states["b"] == "AVAILABLE"
    assert Counter(states.values()) == {"AVAILABLE": 10, "SCHEDULED": 31}


async def test_relay_looks_again_when_the_next_queue_job_falls_due(world: World) -> None:
    world.settings = replace(world.settings, safety_poll=timedelta(minutes=1))
    soon = datetime.now(UTC) + timedelta(seconds=20)
    await world.enqueue(queue_job("a", run_at=soon), queue_job("b", run_at=LATER))

    assert timedelta() < await world.new_relay().run_once() < timedelta(seconds=20)


async def test_relay_does_not_look_on_and_on_at_what_is_due_and_held_by_a_transaction(world: World) -> None:
    held = queue_job("held", run_at=LATER)
    await world.enqueue(held)
    await world.let_everything_fall_due()

    async with world.store.transaction() as tx:
        await tx.queue_control.lock([held.id])
        assert await world.relay.run_once() >= timedelta(milliseconds=100)
    await world.work_off()

    assert await world.states() == {"held": "COMPLETED"}


async def test_bad_queue_job_never_fails_its_neighbours(world: World) -> None:
    world.batch.fails = failing("7", "13")
    await world.enqueue(*(queue_job(str(number)) for number in range(20)))

    result = await world.work_off()

    assert result == RunResult(completed=18, failed=2)
    assert sorted(world.batch.done, key=int) == [str(number) for number in range(20) if number not in {7, 13}]
    assert (await world.row("7"))["state"] == "SCHEDULED"


async def test_failure_waits_for_its_backoff_and_ends_in_the_dead_letters_with_every_error(world: World) -> None:
    world.batch.fails = failing("a")
    await world.enqueue(queue_job("a", max_attempts=3))

    for _ in range(3):
        await world.work_off()
        await world.let_everything_fall_due()

    row = await world.row("a")
    errors = json.loads(row["errors"])
    assert (row["state"], row["attempt"]) == ("DISCARDED", 3)
    assert [(error["attempt"], error["reason"], error["message"]) for error in errors] == [
        (1, "BROKEN", "it broke"),
        (2, "BROKEN", "it broke"),
        (3, "BROKEN", "it broke"),
    ]
    assert world.batch.final == [("a", QueueJobState.DISCARDED, "BROKEN")]


async def test_what_cannot_succeed_by_repeating_is_not_repeated(world: World) -> None:
    world.batch.fails = failing("a", error=AttemptFailedError("never", reason="NEVER", is_retryable=False))
    await world.enqueue(queue_job("a"))
    await world.work_off()

    assert (await world.row("a"))["state"] == "DISCARDED"


async def test_text_of_an_unexpected_error_is_not_stored(world: World) -> None:
    world.batch.fails = failing("a", error=ValueError("a secret payload"))
    await world.enqueue(queue_job("a"))
    await world.work_off()

    errors = (await world.row("a"))["errors"]
    assert "secret" not in errors
    assert "ValueError" in errors


async def test_unknown_kind_waits_without_counting_an_attempt(world: World) -> None:
    await world.enqueue(queue_job("a", kind="fromTheFuture"), queue_job("b", kind="nextYear", queue=Queue.EXECUTION))
    await world.work_off()

    for name in ("a", "b"):
        row = await world.row(name)
        assert (row["state"], row["attempt"]) == ("SCHEDULED", 0)
        assert row["due_in"] > timedelta(seconds=50)
        assert json.loads(row["errors"])[0]["reason"] == "UNKNOWN_KIND"
    assert await world.lanes() == {}


async def test_snooze_waits_without_counting_an_attempt_and_leaves_its_batch_alone(world: World) -> None:
    snooze = SnoozedError("Not before the window opens.", reason="TOO_EARLY", delay=timedelta(minutes=7))
    world.batch.fails = lambda queue_job: snooze if queue_job.args["name"] == "a" else None
    world.call.answers = lambda _queue_job: snooze
    await world.enqueue(queue_job("a"), queue_job("b"), queue_job("c", kind="call", lane="lane-c", max_attempts=1))
    await world.work_off()

    for name in ("a", "c"):
        row = await world.row(name)
        assert (row["state"], row["attempt"]) == ("SCHEDULED", 0)
        assert timedelta(minutes=6) < row["due_in"] <= timedelta(minutes=7)
        assert json.loads(row["errors"])[0]["reason"] == "TOO_EARLY"
    assert (await world.states())["b"] == "COMPLETED"
    assert await world.lanes() == {}


async def test_paused_queue_and_paused_lane_are_neither_rung_nor_pulled(world: World) -> None:
    await world.enqueue(queue_job("a"), queue_job("b", lane="lane-b"))
    await world.relay.run_once()
    await world.connection.execute("INSERT INTO queue_pauses (queue, lane) VALUES ('default', 'lane-a')")

    assert (await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a", "lane-b"])).completed == 1
    assert (await world.work_off()).is_nothing_due
    await world.connection.execute("DELETE FROM queue_pauses")
    await world.connection.execute("INSERT INTO queue_pauses (queue) VALUES ('default')")
    assert (await world.work_off()).is_nothing_due
    await world.connection.execute("DELETE FROM queue_pauses")
    assert (await world.work_off()).completed == 1


async def test_unanswered_lane_is_rung_again(world: World) -> None:
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    world.publisher.messages.clear()
    assert await world.rescue.run_once() == 0

    await world.let_leases_run_out()
    assert await world.rescue.run_once() == 1

    assert world.publisher.messages["default"] == [["lane-a"]]
    assert (await world.lanes())["lane-a"]["rings"] == 2


async def test_messages_do_not_pile_up_while_workers_are_away(world: World) -> None:
    await world.enqueue(*(queue_job(str(number), kind="call", lane=f"lane-{number}") for number in range(64)))
    await world.new_relay(max_calls_per_environment=64).run_once()
    for _ in range(3):
        await world.let_leases_run_out()
        assert await world.rescue.run_once() == 0

    assert len(world.publisher.messages["execution"]) == 64
    assert {lane["rings"] for lane in (await world.lanes()).values()} == {1}
    assert (await world.work_off()).completed == 64


async def test_sweeps_at_once_ring_an_overdue_lane_once(world: World) -> None:
    await world.enqueue(*(queue_job(str(number), lane=f"lane-{number}") for number in range(20)))
    await world.relay.run_once()
    world.publisher.messages.clear()
    await world.let_leases_run_out()

    rung = await asyncio.gather(*(world.rescue.run_once() for _ in range(4)))

    assert sum(rung) == 20


async def test_call_holds_its_lane_with_a_claim_and_no_open_transaction(world: World) -> None:
    held = world.hold_calls()
    await world.enqueue(queue_job("a", kind="call"), queue_job("b", kind="call"))
    await world.relay.run_once()
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await held.called.wait()

    lane = (await world.lanes())["lane-a"]
    assert (lane["state"], lane["claim"] is not None) == ("RUNNING", True)
    assert await world.states() == {"a": "RUNNING", "b": "AVAILABLE"}
    open_transactions = await world.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
    )
    assert open_transactions == 0
    held.answer.set_result("late answer")
    assert await running == RunResult(completed=1)
    assert world.call.finished == [("a", "late answer")]


async def test_what_a_call_back_raises_after_its_worker_has_left_is_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def break_later(*_arguments: object) -> object:
        begun.set()
        await goes_on.wait()
        raise TypeError("a defect")

    monkeypatch.setattr(world.store, "transact", break_later)
    call_back = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await begun.wait()
    call_back.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call_back
    with capture_logs() as logs:
        goes_on.set()
        await world.runner.drain()
        await eventually(lambda: logs)

    (line,) = (line for line in logs if line["event"] == "call_back_failed")
    assert isinstance(line["exc_info"], TypeError)


async def test_call_goes_on_when_its_caller_leaves_and_drain_waits_for_it(world: World) -> None:
    held = world.hold_calls()
    await world.enqueue(queue_job("a", kind="call"))
    await world.relay.run_once()
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await held.called.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    held.answer.set_result("done")
    await world.runner.drain()

    assert await world.states() == {"a": "COMPLETED"}


async def test_renewed_lease_keeps_the_lane_and_a_lost_one_fences_its_writer(world: World) -> None:
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    called = asyncio.Event()

    def hold(queue_job: object) -> object:
        called.set()
        return first if len(world.call.calls) == 1 else "second"

    world.call.answers = hold
    await world.enqueue(queue_job("a", kind="call", max_attempts=1))
    await world.relay.run_once()
    frozen = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await called.wait()
    await world.let_leases_run_out()
    await world.leases.run_once()
    assert await world.rescue.run_once() == 0

    await world.let_leases_run_out()
    assert await world.rescue.run_once() == 1
    row = await world.row("a")
    assert (row["state"], row["attempt"], row["rescues"]) == ("AVAILABLE", 0, 1)
    assert await world.new_runner().run_queue_jobs(Queue.EXECUTION, ["lane-a"]) == RunResult(completed=1)
    first.set_result("too late")

    assert (await frozen).is_nothing_due
    assert world.call.finished == [("a", "second")]
    assert await world.states() == {"a": "COMPLETED"}


async def test_queue_job_that_is_rescued_too_often_is_discarded(world: World) -> None:
    await world.enqueue(queue_job("a", kind="call"))
    await world.relay.run_once()
    await world.connection.execute(
        "UPDATE queue_jobs SET state = 'RUNNING', attempt = 1, started_at = now(), rescues = 10"
    )
    await world.connection.execute("UPDATE queue_lanes SET state = 'RUNNING', claim = nextval('queue_claims')")
    await world.let_leases_run_out()
    await world.rescue.run_once()

    assert (await world.row("a"))["state"] == "DISCARDED"
    assert world.call.final == [("a", QueueJobState.DISCARDED, "LEASE_EXPIRED")]


async def test_failed_call_is_repeated_no_sooner_than_the_customer_asked(world: World) -> None:
    world.call.answers = lambda _queue_job: AttemptFailedError("busy", reason="BUSY", retry_after=timedelta(minutes=5))
    await world.enqueue(queue_job("a", kind="call"), queue_job("b", kind="call"))
    await world.work_off()

    row = await world.row("a")
    assert (row["state"], row["attempt"]) == ("SCHEDULED", 1)
    assert timedelta(minutes=4) < row["due_in"] <= timedelta(minutes=5)
    assert world.call.failed == ["a: busy", "b: busy"]


async def test_cancelled_call_ends_without_effect(world: World) -> None:
    held = world.hold_calls()
    await world.enqueue(queue_job("a", kind="call"), queue_job("b", kind="call"))
    await world.relay.run_once()
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await held.called.wait()
    async with world.store.transaction() as tx:
        await world.finality.settle(tx, await tx.ledger.cancel_lane("lane-a", message="no longer wanted"))
    held.answer.set_result("nobody wants it")
    await running

    assert await world.states() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert world.call.finished == []
    assert sorted(name for name, _, _ in world.call.final) == ["a", "b"]
    assert await world.lanes() == {}


async def test_cancelling_a_lane_takes_what_an_ending_attempt_enqueues(world: World) -> None:
    await world.enqueue(queue_job("older"), queue_job("a", kind="call"))
    await world.relay.run_once()
    cancelling: list[asyncio.Task[None]] = []

    async def cancel() -> None:
        async with world.store.transaction() as tx:
            await tx.ledger.cancel_lane("lane-a", message="no longer wanted")

    async def end(tx: Transaction) -> None:
        cancelling.append(asyncio.create_task(cancel()))
        await eventually(world.somebody_waits_for_a_lock)
        await tx.ledger.supersede_lane(Queue.DEFAULT, "lane-a")
        await tx.ledger.enqueue([queue_job("newer")])

    world.call.on_finish = end
    await world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"])
    await cancelling[0]

    assert await world.states() == {"older": "COMPLETED", "a": "COMPLETED", "newer": "CANCELLED"}


async def test_cancelling_a_lane_asks_what_begins_meanwhile_to_stop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.enqueue(queue_job("a", kind="call"), queue_job("b", kind="call"))
    await world.relay.run_once()
    held = world.hold_calls()
    cancelling: list[asyncio.Task[None]] = []

    async def cancel() -> None:
        async with world.store.transaction() as tx:
            await world.finality.settle(tx, await tx.ledger.cancel_lane("lane-a", message="no longer wanted"))

    async def begin(_tx: Transaction, queue_job: QueueJob) -> QueueJob:
        cancelling.append(asyncio.create_task(cancel()))
        await eventually(world.somebody_waits_for_a_lock)
        return queue_job

    monkeypatch.setattr(world.call, "begin", begin)
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-a"]))
    await held.called.wait()
    await cancelling[0]
    held.answer.set_result("nobody wants it")
    await running

    assert await world.states() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert world.call.finished == []


async def test_queue_job_with_nothing_to_call_for_completes(world: World) -> None:
    world.call.has_something = False
    await world.enqueue(queue_job("a", kind="call"))
    await world.work_off()

    assert world.call.calls == []
    assert await world.states() == {"a": "COMPLETED"}


async def test_call_that_finds_a_lane_rung_twice_marks_it_before_it_works(world: World) -> None:
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    await world.let_leases_run_out()
    await world.rescue.run_once()
    seen: list[bool] = []

    async def look(_queue_job: QueueJob) -> None:
        seen.append((await world.lanes())["lane-a"]["suspect"])

    world.batch.before = look
    assert (await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])).completed == 1
    assert seen == [True]
    assert await world.lanes() == {}


async def test_queue_job_whose_attempts_begin_and_never_end_is_discarded_as_poisoned(world: World) -> None:
    async def die(_queue_job: QueueJob) -> None:
        raise asyncio.CancelledError

    await world.enqueue(queue_job("poison"), queue_job("neighbour"))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")

    world.batch.before = die
    for _ in range(3):
        await asyncio.gather(world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"]), return_exceptions=True)
        await world.let_leases_run_out()
        assert await world.rescue.run_once() == 1
    world.batch.before = None
    await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])

    assert await world.states() == {"poison": "DISCARDED", "neighbour": "COMPLETED"}
    assert ("poison", QueueJobState.DISCARDED, "POISONED") in world.batch.final
    assert await world.lanes() == {}


async def test_doubled_messages_of_a_suspect_lane_poison_nothing(world: World) -> None:
    await world.enqueue(*(queue_job(str(number)) for number in range(5)))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")

    results = await asyncio.gather(*(world.new_runner().run_queue_jobs(Queue.DEFAULT, ["lane-a"]) for _ in range(8)))

    assert sum(result.completed for result in results) == 5
    assert set((await world.states()).values()) == {"COMPLETED"}
    assert len(world.batch.done) == 5


async def test_database_that_gives_way_is_no_poison(world: World) -> None:
    world.batch.fails = failing("a", error=ConflictError("gave way", retry_after=timedelta(seconds=1)))
    await world.enqueue(queue_job("a"))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3")
    for _ in range(5):
        with pytest.raises(ConflictError):
            await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-a"])
        await world.let_leases_run_out()
        await world.rescue.run_once()

    row = await world.row("a")
    assert (row["state"], row["unended"]) == ("AVAILABLE", 0)


async def test_suspect_lane_does_not_hold_up_the_others_of_its_message(world: World) -> None:
    await world.enqueue(*(queue_job(f"{number}", lane=f"lane-{number}") for number in range(3)))
    await world.relay.run_once()
    await world.connection.execute("UPDATE queue_lanes SET suspect = true, rings = 3 WHERE lane = 'lane-1'")

    result = await world.runner.run_queue_jobs(Queue.DEFAULT, ["lane-0", "lane-1", "lane-2"])

    assert result.completed == 3
    assert await world.lanes() == {}


async def test_call_that_cannot_be_prepared_is_a_failed_attempt(world: World) -> None:
    world.call.begin_error = ValueError("an unreadable key")
    await world.enqueue(queue_job("a", kind="call", max_attempts=2))
    await world.work_off()
    assert world.call.failed == ["a: The handler failed with ValueError."]
    await world.let_everything_fall_due()
    await world.work_off()

    row = await world.row("a")
    assert (row["state"], row["attempt"]) == ("DISCARDED", 2)
    assert world.call.final == [("a", QueueJobState.DISCARDED, "INTERNAL")]
    assert await world.lanes() == {}


async def test_what_follows_a_final_state_never_holds_up_the_lane(world: World) -> None:
    world.batch.final_error = ValueError("a defect")
    world.call.final_error = ValueError("a defect")
    world.call.answers = lambda _queue_job: AttemptFailedError("never", reason="NEVER", is_retryable=False)
    await world.enqueue(queue_job("a"), queue_job("b"), queue_job("c", kind="call"))
    await world.work_off()

    assert await world.states() == {"a": "COMPLETED", "b": "COMPLETED", "c": "DISCARDED"}
    assert await world.lanes() == {}


async def test_drain_waits_for_every_call_though_one_has_failed(world: World) -> None:
    held = world.hold_calls()
    await world.enqueue(queue_job("held", kind="call", lane="lane-1"), queue_job("refused", kind="call", lane="lane-2"))
    world.call.begin_error_of = {"refused": ConflictError("gave way", retry_after=timedelta(seconds=1))}
    await world.relay.run_once()
    running = asyncio.create_task(world.runner.run_queue_jobs(Queue.EXECUTION, ["lane-1", "lane-2"]))
    await held.called.wait()
    draining = asyncio.create_task(world.runner.drain())
    await asyncio.wait([draining], timeout=0.2)
    assert not draining.done()
    held.answer.set_result("done")
    await draining
    with pytest.raises(ConflictError):
        await running

    assert (await world.states())["held"] == "COMPLETED"


async def test_superseded_work_is_completed_without_running(world: World) -> None:
    await world.enqueue(queue_job("a"), queue_job("b", run_at=LATER), queue_job("c", lane="lane-c"))
    async with world.store.transaction(Pool.CALL_BACKS) as tx:
        assert await tx.ledger.supersede_lane(Queue.DEFAULT, "lane-a") == 2
    await world.work_off()

    assert await world.states() == {"a": "COMPLETED", "b": "COMPLETED", "c": "COMPLETED"}
    assert world.batch.done == ["c"]
    assert world.batch.final == [("c", QueueJobState.COMPLETED, None)]


async def test_superseding_leaves_other_kinds_of_work_alone(world: World) -> None:
    await world.enqueue(queue_job("a"), queue_job("b", kind="fromANewerServer"))
    async with world.store.transaction(Pool.CALL_BACKS) as tx:
        assert await tx.ledger.supersede_lane(Queue.DEFAULT, "lane-a", kinds=[queue_job("a").kind]) == 1

    assert await world.states() == {"a": "COMPLETED", "b": "AVAILABLE"}


async def test_many_callers_and_workers_leave_no_lane_behind_and_never_deadlock(world: World) -> None:
    """16 callers enqueue 10,000 queue jobs into 40 shared lanes while 4 relays and 4 runners work."""
    lanes = [f"lane-{number}" for number in range(40)]
    enqueuing = asyncio.Event()

    async def call(caller: int) -> None:
        for batch in range(25):
            await world.enqueue(
                *(
                    queue_job(f"{caller}-{batch}-{number}", lane=lanes[(caller + batch + number) % 40])
                    for number in range(25)
                )
            )

    async def work() -> None:
        relay, runner = world.new_relay(), world.new_runner()
        while not enqueuing.is_set() or len(world.batch.done) < 10_000:
            await relay.run_once()
            for message in world.take(Queue.DEFAULT):
                await runner.run_queue_jobs(Queue.DEFAULT, message)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await asyncio.gather(*(call(caller) for caller in range(16)))
    enqueuing.set()
    await asyncio.gather(*workers)

    assert len(world.batch.done) == len(set(world.batch.done)) == 10_000
    assert await world.lanes() == {}
    unfinished = await world.connection.fetchval("SELECT count(*) FROM queue_jobs WHERE state <> 'COMPLETED'")
    assert unfinished == 0


async def test_environment_of_upkeep_is_rung_like_any_other(world: World) -> None:
    await world.enqueue(
        queue_job("upkeep", queue=Queue.MAINTENANCE, lane="maintenance", environment_id=UUID(int=0)),
        queue_job("other", environment_id=ENVIRONMENT),
    )

    assert (await world.work_off()).completed == 2


@pytest.mark.parametrize("ends", ["completed", "failed"])
async def test_attempt_of_database_work_began_before_its_effect_and_after_it_was_enqueued(
    world: World, ends: str
) -> None:
    during: list[datetime] = []

    async def look(_queue_job: QueueJob) -> None:
        during.append(await world.connection.fetchval("SELECT clock_timestamp()"))

    world.batch.before = look
    if ends == "failed":
        world.batch.fails = failing("a")
    await world.enqueue(queue_job("a"))
    await world.work_off()

    (row,) = await world.connection.fetch(
        "SELECT created_at, started_at, coalesce(finalized_at, (errors -> -1 ->> 'time')::timestamptz) AS ended_at"
        " FROM queue_jobs"
    )
    assert row["created_at"] <= row["started_at"] < during[-1] < row["ended_at"]
