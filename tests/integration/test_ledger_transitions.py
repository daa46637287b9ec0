"""The ledger's statements change states exactly as the table of transitions says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.ports.ledger import Failure, OverdueLane
from services.endpoints.domain.queue_job import Priority, Queue, QueueJob, QueueJobState
from services.endpoints.domain.transitions import TRANSITIONS, Transition
from services.endpoints.store.ledger import LostQueueJobError
from tests.support.ledger import queue_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.endpoints.domain.ports.ledger import Ledger
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import NewQueueJob
    from tests.support.ledger import World


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


STATEMENTS: dict[Transition, Callable[[Transaction, NewQueueJob], Awaitable[object]]] = {
    Transition.FALL_DUE: lambda tx, _new: tx.ledger.promote_due(limit=10),
    Transition.START: lambda tx, new: tx.ledger.start(pulled(new), lease=timedelta(seconds=10)),
    Transition.COMPLETE: lambda tx, new: complete(tx.ledger, new),
    Transition.FAIL: lambda tx, new: tx.ledger.fail([Failure(new.id, new.kind, "R", "m", timedelta(seconds=9))]),
    Transition.FAIL_FOR_GOOD: lambda tx, new: tx.ledger.fail([Failure(new.id, new.kind, "R", "m", None)]),
    Transition.SNOOZE: lambda tx, new: tx.ledger.fail(
        [Failure(new.id, new.kind, "R", "m", timedelta(seconds=9), counts_attempt=False)]
    ),
    Transition.RESCUE: lambda tx, new: tx.ledger.rescue_running(
        [OverdueLane(Queue.DEFAULT, new.lane, is_running=True, is_suspect=False)], max_rescues=10
    ),
    Transition.SUPERSEDE: lambda tx, new: tx.ledger.supersede_lane(Queue.DEFAULT, new.lane),
    Transition.RETRY: lambda tx, new: tx.queue_control.retry([new.id]),
    Transition.CANCEL: lambda tx, new: tx.ledger.cancel([new.id], message="m"),
}


@pytest.mark.parametrize("transition", STATEMENTS)
async def test_statement_leads_where_the_table_says_and_leaves_other_states_alone(
    world: World, transition: Transition
) -> None:
    for state in QueueJobState:
        new = queue_job(state.value, lane=f"lane-{state.value}")
        await world.enqueue(new)
        await world.connection.execute(
            "UPDATE queue_jobs SET state = $2, attempt = 1, started_at = now(),"
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
        async with world.store.transaction() as tx:
            await STATEMENTS[transition](tx, new)
        wanted = TRANSITIONS[transition].get(state, state)
        assert (await world.states())[state.value] == wanted.value, state
        await world.connection.execute("DELETE FROM queue_jobs")


def test_every_transition_has_its_statement() -> None:
    assert set(Transition) == set(STATEMENTS)
