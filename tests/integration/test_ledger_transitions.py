"""The ledger's statements change states exactly as the table of transitions says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import pytest

from services.endpoints.domain.ports.ledger import Failure, OverdueLane
from services.endpoints.domain.queue_job import Priority, Queue, QueueJob, QueueJobState
from services.endpoints.domain.transitions import TRANSITIONS, Transition
from services.endpoints.store.ledger import LostQueueJobError
from services.endpoints.store.queries import load
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.endpoints.domain.ports.ledger import Ledger
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import NewQueueJob
    from tests.support.ledger import World

NOUNS = sorted(path.stem for path in Path("services/endpoints/store/sql").glob("*.sql"))
HOLDER = UUID("01890000-0000-7000-8000-00000000000a")
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2120, 1, 1, tzinfo=UTC)
SECONDS = timedelta(seconds=9)


def pulled(new: NewQueueJob) -> QueueJob:
    return QueueJob(
        id=new.id,
        environment_id=new.environment_id,
        kind=new.kind,
        args=new.args,
        queue=Queue.DEFAULT,
        lane=new.lane,
        priority=Priority.NORMAL,
        attempt=1,
        max_attempts=3,
        unended=0,
    )


async def complete(ledger: Ledger, new: NewQueueJob) -> None:
    try:
        await ledger.complete([pulled(new)])
    except LostQueueJobError:
        return


class Statement(NamedTuple):
    """A statement that changes states, by the name of its block, and the transition it makes."""

    block: str
    transition: Transition
    run: Callable[[Transaction, NewQueueJob], Awaitable[object]]

    def __str__(self) -> str:
        return f"{self.block}-{self.transition.name}"


def fail(new: NewQueueJob, *, retry_in: timedelta | None, counts_attempt: bool = True) -> list[Failure]:
    return [Failure(new.id, new.kind, "R", "m", retry_in, counts_attempt=counts_attempt)]


STATEMENTS = (
    Statement("ledger.promote_due", Transition.FALL_DUE, lambda tx, _new: tx.ledger.promote_due(limit=10)),
    Statement(
        "ledger.hasten_held_back",
        Transition.HASTEN,
        lambda tx, _new: tx.ledger.open_windows([HOLDER], window="window", waiting="waiting"),
    ),
    Statement("ledger.hasten", Transition.HASTEN, lambda tx, new: tx.ledger.hasten(new.lane, reason="R")),
    Statement(
        "ledger.reschedule",
        Transition.HASTEN,
        lambda tx, new: tx.ledger.reschedule(
            new.id, run_at=PAST, args=new.args, priority=Priority.LOW, fresh_attempts=1
        ),
    ),
    Statement(
        "ledger.reschedule",
        Transition.PUT_OFF,
        lambda tx, new: tx.ledger.reschedule(
            new.id, run_at=FUTURE, args=new.args, priority=Priority.LOW, fresh_attempts=1
        ),
    ),
    Statement(
        "ledger.move",
        Transition.HASTEN,
        lambda tx, new: tx.ledger.move(new.id, run_at=PAST, priority=Priority.LOW),
    ),
    Statement(
        "ledger.move",
        Transition.PUT_OFF,
        lambda tx, new: tx.ledger.move(new.id, run_at=FUTURE, priority=Priority.LOW),
    ),
    Statement("ledger.start", Transition.START, lambda tx, new: tx.ledger.start(pulled(new), lease=SECONDS)),
    Statement("ledger.complete", Transition.COMPLETE, lambda tx, new: complete(tx.ledger, new)),
    Statement("ledger.fail", Transition.FAIL, lambda tx, new: tx.ledger.fail(fail(new, retry_in=SECONDS))),
    Statement("ledger.fail", Transition.FAIL_FOR_GOOD, lambda tx, new: tx.ledger.fail(fail(new, retry_in=None))),
    Statement(
        "ledger.fail",
        Transition.SNOOZE,
        lambda tx, new: tx.ledger.fail(fail(new, retry_in=SECONDS, counts_attempt=False)),
    ),
    Statement(
        "ledger.rescue_running",
        Transition.RESCUE,
        lambda tx, new: tx.ledger.rescue_running(
            [OverdueLane(Queue.DEFAULT, new.lane, is_running=True, is_suspect=False)], max_rescues=10
        ),
    ),
    Statement(
        "ledger.supersede", Transition.SUPERSEDE, lambda tx, new: tx.ledger.supersede_lane(Queue.DEFAULT, new.lane)
    ),
    Statement("ledger.cancel", Transition.CANCEL, lambda tx, new: tx.ledger.cancel([new.id], message="m")),
    Statement("queue_control.retry", Transition.RETRY, lambda tx, new: tx.queue_control.retry([new.id])),
)
CHANGES_A_STATE = re.compile(r"UPDATE queue_jobs SET(?:(?!\bWHERE\b).)*?[\s(]state =", re.DOTALL)


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
async def test_statement_leads_where_the_table_says_and_leaves_other_states_alone(
    world: World, statement: Statement
) -> None:
    for state in QueueJobState:
        new = queue_job(state.value, lane=f"lane-{state.value}")
        await world.enqueue(new)
        await world.connection.execute(
            'UPDATE queue_jobs SET state = $2, attempt = 1, started_at = now(), errors = \'[{"reason": "R"}]\','
            " run_at = clock_timestamp() - interval '1 second',"
            " finalized_at = CASE WHEN $2 IN ('COMPLETED', 'DISCARDED', 'CANCELLED') THEN now() END WHERE id = $1",
            new.id,
            state.value,
        )
        await world.connection.execute(
            "INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)"
            " VALUES ('default', $1, $2, 'RUNG', now())",
            new.lane,
            new.environment_id,
        )
        await world.connection.execute(
            "INSERT INTO queue_uniques (key, value, queue_job_id, expires_at)"
            " SELECT claim.key, lane, coalesce(claim.holder, id), run_at"
            " FROM queue_jobs, (VALUES ('waiting', NULL), ('window', $2::uuid)) AS claim (key, holder) WHERE id = $1",
            new.id,
            HOLDER,
        )
        async with world.store.transaction() as tx:
            await statement.run(tx, new)
        wanted = TRANSITIONS[statement.transition].get(state, state)
        assert (await world.states())[state.value] == wanted.value, state
        await world.connection.execute("DELETE FROM queue_jobs")


def test_every_transition_has_its_statement() -> None:
    assert set(Transition) == {statement.transition for statement in STATEMENTS}


def test_no_other_statement_changes_a_state() -> None:
    blocks = {f"{noun}.{name}": text for noun in NOUNS for name, text in load(noun).items()}
    assert {name for name, text in blocks.items() if CHANGES_A_STATE.search(text)} == {
        statement.block for statement in STATEMENTS
    }
