"""Opens events and invocations again when an operator retries their queue jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.event import EventState
from services.endpoints.domain.operator_decisions import wrong_state
from services.endpoints.operations.dispatch_args import UNREADABLE, delivered_event, invoked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.errors import KongflowError
    from services.endpoints.domain.ports.queue_control import RetriedQueueJob
    from services.endpoints.domain.ports.store import Transaction

_EVENT_GONE: Final = "The event that the queue job belongs to is gone."
_EVENT_CANCELLED: Final = "The event that the queue job delivers was cancelled; replay it to send it once more."


class RetryDelivery:
    """What a retried `deliverEvent` does: a FAILED event waits again.

    One that was DELIVERED stays so, and a repeated queue job finds nothing left to do: to send an event once more is
    to replay it.
    """

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Take nothing: events come after their queue jobs."""

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose event is gone or was cancelled."""
        event_ids = [event_id for each in queue_jobs if (event_id := delivered_event(each.args)) is not None]
        await tx.dispatch.lock_events(event_ids)
        states = await tx.dispatch.read_event_states(event_ids)
        refusals: dict[UUID, KongflowError] = {}
        for queue_job in queue_jobs:
            event_id = delivered_event(queue_job.args)
            state = states.get(event_id) if event_id is not None else None
            message = None
            if state is None:
                message = UNREADABLE if event_id is None else _EVENT_GONE
            elif state is EventState.CANCELLED:
                message = _EVENT_CANCELLED
            if message is not None:
                refusals[queue_job.id] = wrong_state(queue_job.id, queue_job.state, message)
        return refusals

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Make the FAILED events PENDING."""
        event_ids = [delivered_event(queue_job.args) for queue_job in queue_jobs]
        await tx.dispatch.reopen_events([event_id for event_id in event_ids if event_id is not None])


class RetryInvocation:
    """What a retried `events.invokeDispatcher` does: its invocation waits again.

    It is decided anew, so that one that was skipped, or COMPLETED for another version, may now make runs; a run of the
    same version is never made twice.
    """

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Take nothing: invocations come after their queue jobs."""

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose event is gone."""
        keys = {key for each in queue_jobs if (key := invoked(each.args)) is not None}
        kept = await tx.dispatch.lock_invocations(keys)
        refusals: dict[UUID, KongflowError] = {}
        for queue_job in queue_jobs:
            key = invoked(queue_job.args)
            if key is None or key not in kept:
                message = UNREADABLE if key is None else _EVENT_GONE
                refusals[queue_job.id] = wrong_state(queue_job.id, queue_job.state, message)
        return refusals

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Make the invocations PENDING."""
        keys = {key for each in queue_jobs if (key := invoked(each.args)) is not None}
        await tx.dispatch.reopen_invocations(keys)
