"""Lets queue jobs run again, with everything they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from services.endpoints.domain.operator_decisions import retry_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.errors import KongflowError
    from services.endpoints.domain.ports.queue_control import RetriedQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJobState
    from services.endpoints.operations.handlers import OnRetry


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of the queue jobs of one transaction; the states are those from before.

    Those that are `left` were too large to go with the others.
    """

    queue_jobs: Sequence[RetriedQueueJob] = ()
    refusals: Mapping[UUID, KongflowError] = field(default_factory=dict)
    left: Sequence[UUID] = ()


class Retries:
    """Knows each kind's `on_retry`; kinds nobody knows have none."""

    def __init__(self, *, handlers: Mapping[str, OnRetry]) -> None:
        """Take the handlers by kind."""
        self._handlers = handlers

    async def retry(
        self,
        tx: Transaction,
        queue_job_ids: Sequence[UUID],
        *,
        allow_repeat: bool,
        only_state: QueueJobState | None = None,
    ) -> Retried:
        """Retry queue jobs, named in the order of their ids; each that may not be is refused for itself.

        Those that are gone, or with `only_state` in another state by now, are passed over.
        """
        known = await tx.queue_control.read(queue_job_ids)
        for handler, batch in self._by_handler(known):
            await handler.hold(tx, batch)
        # Whom a queue job is for never changes: its args are read once.
        states = await tx.queue_control.lock([queue_job.id for queue_job in known])
        locked = [
            replace(queue_job, state=state)
            for queue_job in known
            if (state := states.get(queue_job.id)) is not None and only_state in {None, state}
        ]
        refusals: dict[UUID, KongflowError] = {}
        for queue_job in locked:
            if error := retry_refusal(queue_job.id, queue_job.state, allow_repeat=allow_repeat):
                refusals[queue_job.id] = error
        for handler, batch in self._by_handler([each for each in locked if each.id not in refusals]):
            refusals |= await handler.refuse(tx, batch)
        retried = [queue_job for queue_job in locked if queue_job.id not in refusals]
        if retried:
            await tx.queue_control.retry([queue_job.id for queue_job in retried])
            for handler, batch in self._by_handler(retried):
                await handler.on_retry(tx, batch)
        left = [queue_job_id for queue_job_id in queue_job_ids if known and queue_job_id > known[-1].id]
        return Retried(retried, refusals, left)

    def _by_handler(self, queue_jobs: Sequence[RetriedQueueJob]) -> list[tuple[OnRetry, list[RetriedQueueJob]]]:
        batches: dict[OnRetry, list[RetriedQueueJob]] = {}
        for queue_job in queue_jobs:
            if handler := self._handlers.get(queue_job.kind):
                batches.setdefault(handler, []).append(queue_job)
        return list(batches.items())
