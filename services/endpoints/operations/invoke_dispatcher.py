"""Invokes dispatchers: makes the runs of what each starts."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.attempt import SnoozedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.invocation import decide
from services.endpoints.domain.ports.dispatch import InvocationOutcome, WantedRun
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.run import InvocationState
from services.endpoints.operations.dispatch_args import invoked, required
from services.endpoints.operations.fair_shares import in_turns
from services.endpoints.operations.handlers import Left

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.invocation import Decision
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.dispatch import InvocationKey
    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob

MAX_RUNS_AT_ONCE: Final = 10_000
_BEING_DELETED: Final = SnoozedError(
    "An endpoint that the event starts a job of is being deleted.",
    reason=AttemptReason.ENDPOINT_BEING_DELETED,
    delay=timedelta(seconds=1),
)


class InvokeDispatcher:
    """The handler of `events.invokeDispatcher`."""

    def __init__(self, *, new_id: NewId, max_runs: int = MAX_RUNS_AT_ONCE) -> None:
        """Hold the ports; one transaction makes little more than `max_runs`."""
        self._new_id = new_id
        self._max_runs = max_runs

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> Sequence[Left]:
        """Make the runs of every invocation that is still PENDING; a repeated one makes none twice.

        What would make the transaction long is left: an invocation is begun only while few runs came of those before.
        Nothing waits for an endpoint that is being deleted: what it would run is decided when that has ended.

        Raises:
            AttemptFailedError: the args do not name an invocation.
        """
        keys = [required(invoked(queue_job.args)) for queue_job in queue_jobs]
        states = await tx.dispatch.lock_invocations(set(keys))
        owners = {key: queue_job.environment_id for key, queue_job in zip(keys, queue_jobs, strict=True)}
        pending = {key: owner for key, owner in owners.items() if states.get(key) is InvocationState.PENDING}
        if not pending:
            return ()
        decisions = await self._decide(tx, pending)
        held_back = await self._held_back(tx, decisions)
        decisions = {key: decision for key, decision in decisions.items() if key not in held_back}
        wanted = [
            WantedRun(self._new_id(), key, version.job_id, version.version_id)
            for key, decision in decisions.items()
            for version in decision.versions
        ]
        made = await tx.dispatch.make_runs(wanted)
        await tx.dispatch.settle_invocations(
            [
                InvocationOutcome(key, decision.state, made.get(key, 0), decision.reason)
                for key, decision in decisions.items()
            ]
        )
        left = pending.keys() - decisions.keys()
        return [
            Left(queue_job, _BEING_DELETED if key in held_back else None)
            for queue_job, key in zip(queue_jobs, keys, strict=True)
            if key in left
        ]

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Mark the invocations that failed for good or were cancelled, and say why."""
        failed = {
            key: queue_job.message
            for queue_job in queue_jobs
            if queue_job.state is not QueueJobState.COMPLETED and (key := invoked(queue_job.args)) is not None
        }
        if failed:
            await tx.dispatch.lock_invocations(failed)
            await tx.dispatch.settle_invocations(
                [InvocationOutcome(key, InvocationState.FAILED, reason=message) for key, message in failed.items()]
            )

    async def _decide(self, tx: Transaction, pending: Mapping[InvocationKey, UUID]) -> dict[InvocationKey, Decision]:
        """Return what becomes of one of the invocations, each of an environment, and of as many as are quickly done."""
        dispatchers = await tx.dispatch.read_dispatchers({key.dispatcher_id for key in pending})

        @cache
        def decision_of(dispatcher_id: UUID) -> Decision:
            return decide(dispatchers.get(dispatcher_id))

        decisions: dict[InvocationKey, Decision] = {}
        runs = 0
        ordered = in_turns(
            pending, owner=pending.__getitem__, size=lambda key: len(decision_of(key.dispatcher_id).versions)
        )
        for key in ordered:
            decision = decision_of(key.dispatcher_id)
            if decisions and runs + len(decision.versions) > self._max_runs:
                break
            decisions[key] = decision
            runs += len(decision.versions)
        return decisions

    async def _held_back(self, tx: Transaction, decisions: Mapping[InvocationKey, Decision]) -> set[InvocationKey]:
        """Hold the endpoints that are to run something; return the invocations of those that could not be held."""
        wanted = {version.endpoint_id for decision in decisions.values() for version in decision.versions}
        missing = wanted - await tx.dispatch.hold_endpoints(wanted) if wanted else wanted
        if not missing:
            return set()
        return {
            key
            for key, decision in decisions.items()
            if not missing.isdisjoint(version.endpoint_id for version in decision.versions)
        }
