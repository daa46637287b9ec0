"""What a kind of queue job must provide: a batch of effects, or a call to a customer between two transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.attempt import SnoozedError
    from services.endpoints.domain.errors import KongflowError
    from services.endpoints.domain.ports.ledger import Failure, FinalQueueJob
    from services.endpoints.domain.ports.queue_control import RetriedQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob

Begun = TypeVar("Begun")
Answer = TypeVar("Answer")


class Left(NamedTuple):
    """A queue job that a batch left: due as before, or snoozed."""

    queue_job: QueueJob
    snoozed: SnoozedError | None = None


class BatchHandler(Protocol):
    """A kind that only touches the database."""

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> Sequence[Left] | None:
        """Do the effects of all `queue_jobs` in as few statements as possible.

        Returns those it left, so that the transaction stays short; None means none. Not all of them are due as before,
        or they would be run again at once, for ever. An exception undoes the batch, which is then halved until the
        culprit stands alone.

        Raises:
            AttemptFailedError: with the reason to store.
        """
        ...

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Do what follows when queue jobs of this kind became final, in the transaction that made them so."""
        ...


class CallingHandler(Protocol[Begun, Answer]):
    """A kind that calls a customer's endpoint, with no transaction open meanwhile."""

    async def begin(self, tx: Transaction, queue_job: QueueJob) -> Begun | None:
        """Read what the call needs; None means that there is nothing to call for any more."""
        ...

    async def call(self, begun: Begun) -> Answer:
        """Call the customer.

        Raises:
            AttemptFailedError: with the reason to store and whether repeating may help.
        """
        ...

    async def finish(self, tx: Transaction, queue_job: QueueJob, begun: Begun, answer: Answer) -> None:
        """Write the effect and enqueue what follows."""
        ...

    async def on_call_failed(self, tx: Transaction, begun: Begun, error: Exception) -> None:
        """Note what a failed call says about the customer, after its failure was stored; cancelled ones say nothing."""
        ...

    async def on_failed(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        """Note an attempt that failed and will be repeated."""
        ...

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Do what follows when queue jobs of this kind became final, in the transaction that made them so."""
        ...


class OnFinal(Protocol):
    """The part of a handler that every way into a final state runs."""

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Do what follows."""
        ...


class OnRetry(Protocol):
    """What a kind does when an operator retries queue jobs of it; kinds without one are simply run again."""

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Take the locks that come before those of queue jobs; the states shown may have changed since."""
        ...

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Return which of the locked queue jobs may not run again, and why."""
        ...

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Open again what the queue jobs belong to, in the transaction that made them AVAILABLE."""
        ...
