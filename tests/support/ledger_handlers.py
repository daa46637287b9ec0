"""Handlers whose every effect is a row, and whose outcomes the model decides."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from services.endpoints.domain.attempt import AttemptFailedError
from tests.support.ledger_model import RETRY_AFTER, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from services.endpoints.domain.ports.ledger import Failure, FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.store.postgres import PostgresTransaction

JOURNAL = """
CREATE TABLE model_effects (position bigint GENERATED ALWAYS AS IDENTITY, name text NOT NULL);
CREATE TABLE model_finals (name text NOT NULL, state text NOT NULL);
"""


class ServerKilledError(BaseException):
    """Stands for kill -9: no handler of ours sees it, and what was not committed is gone."""


def _raise(outcome: Outcome) -> None:
    """Do what an attempt with this outcome does before it has an effect."""
    match outcome:
        case Outcome.FAIL | Outcome.BEGIN_FAILS:
            raise AttemptFailedError("It broke.", reason="BROKEN")
        case Outcome.FAIL_FOR_GOOD:
            raise AttemptFailedError("It is bad.", reason="BAD", is_retryable=False)
        case Outcome.RETRY_AFTER:
            raise AttemptFailedError("Later.", reason="BUSY", retry_after=timedelta(minutes=RETRY_AFTER))
        case Outcome.SURPRISE:
            raise ValueError("nobody named this")
        case Outcome.KILL:
            raise ServerKilledError


async def _note_final(tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
    rows = [(each.args["name"], each.state.value) for each in queue_jobs]
    await _connection(tx).executemany("INSERT INTO model_finals (name, state) VALUES ($1, $2)", rows)


@dataclass(eq=False)
class ModelBatch:
    """Has one row as the effect of each queue job."""

    outcomes: Callable[[str], Outcome]

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:
        for queue_job in queue_jobs:
            await _connection(tx).execute("INSERT INTO model_effects (name) VALUES ($1)", queue_job.args["name"])
            _raise(self.outcomes(queue_job.args["name"]))

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        await _note_final(tx, queue_jobs)


@dataclass(eq=False)
class CustomerCalls:
    """Makes calls that are answered when the machine says so; `made` counts them, `begun` hands each one over."""

    outcomes: Callable[[str], Outcome]
    made: Counter[str] = field(default_factory=Counter)
    begun: asyncio.Queue[tuple[str, asyncio.Future[None]]] = field(default_factory=asyncio.Queue)

    async def begin(self, tx: Transaction, queue_job: QueueJob) -> str | None:
        await tx.ledger.now()
        name: str = queue_job.args["name"]
        outcome = self.outcomes(name)
        if outcome is Outcome.BEGIN_FAILS:
            _raise(outcome)
        return None if outcome is Outcome.NOTHING_TO_CALL else name

    async def call(self, begun: str) -> None:
        self.made[begun] += 1
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun.put_nowait((begun, answered))
        await answered
        _raise(self.outcomes(begun))

    async def finish(self, tx: Transaction, _queue_job: QueueJob, begun: str, _answer: None) -> None:
        await _connection(tx).execute("INSERT INTO model_effects (name) VALUES ($1)", begun)
        if self.outcomes(begun) is Outcome.FINISH_FAILS:
            raise ValueError("nobody named this")

    async def on_call_failed(self, tx: Transaction, _begun: str, _error: Exception) -> None:
        await tx.ledger.now()

    async def on_failed(self, tx: Transaction, _queue_job: QueueJob, _failure: Failure) -> None:
        await tx.ledger.now()

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        await _note_final(tx, queue_jobs)


def _connection(tx: Transaction) -> asyncpg.Connection[asyncpg.Record]:
    return cast("PostgresTransaction", tx).connection
