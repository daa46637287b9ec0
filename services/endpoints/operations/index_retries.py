"""Opens an endpoint index again when an operator retries one of its queue jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.operator_decisions import wrong_state
from services.endpoints.domain.ports.indexes import ItemKey
from services.endpoints.operations.dispatch_args import UNREADABLE
from services.endpoints.operations.registration import registered_item

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ports.queue_control import RetriedQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.operations.index_requests import IndexRequests

_INDEX_GONE: Final = "The endpoint index that the queue job belongs to is gone."
_FETCHED_AGAIN: Final = (
    "The endpoint index that the queue job belongs to was fetched again since, with registrations of its own."
)
_ENDPOINT_GONE: Final = "The endpoint that the queue job belongs to was deleted."


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What a queue job fetches."""

    queue_job: RetriedQueueJob
    endpoint_id: UUID
    index_id: UUID
    source: str


@dataclass(frozen=True, slots=True)
class _Registration:
    """What a queue job registers."""

    queue_job: RetriedQueueJob
    endpoint_id: UUID
    item: ItemKey
    index_sequence: int


class RetryIndex:
    """What a retried `indexEndpoint` does: its index waits again, with nothing found yet."""

    def __init__(self, *, requests: IndexRequests) -> None:
        """Hold what knows which index waits."""
        self._requests = requests

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Let requests for these endpoints wait, so that none begins another index meanwhile."""
        endpoint_ids = {fetch.endpoint_id for fetch in map(_fetch, queue_jobs) if fetch is not None}
        endpoints = [await tx.endpoints.get(endpoint_id) for endpoint_id in endpoint_ids]
        slugs = {(endpoint.environment_id, endpoint.slug) for endpoint in endpoints if endpoint is not None}
        for environment_id, slug in sorted(slugs):
            await self._requests.serialize(tx, environment_id, slug)

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose index is gone, and those that would be the second to wait for an endpoint and source."""
        # The newest first: of several that were given up, it is the one to try.
        fetches = {each.id: _fetch(each) for each in sorted(queue_jobs, key=lambda each: each.id, reverse=True)}
        kept = set(await tx.indexes.lock(sorted({fetch.index_id for fetch in fetches.values() if fetch is not None})))
        refusals: dict[UUID, KongflowError] = {}
        waiting: dict[tuple[UUID, str], UUID] = {}
        for queue_job in queue_jobs:
            fetch = fetches[queue_job.id]
            if fetch is None or fetch.index_id not in kept:
                message = UNREADABLE if fetch is None else _INDEX_GONE
                refusals[queue_job.id] = wrong_state(queue_job.id, queue_job.state, message)
        for queue_job_id, fetch in fetches.items():
            if fetch is None or queue_job_id in refusals:
                continue
            key = (fetch.endpoint_id, fetch.source)
            other = waiting.get(key) or await self._requests.waiting(tx, *key)
            if other is not None and other != queue_job_id:
                refusals[queue_job_id] = _waits_already(queue_job_id, other)
            else:
                waiting[key] = queue_job_id
        return refusals

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Make the indexes wait again; requests join them. What only waited for its next attempt stays as it is.

        Whoever retries one wants it now: like a forced one it calls once, even an endpoint that is left alone.
        """
        fetches = [fetch for fetch in map(_fetch, queue_jobs) if fetch is not None]
        await tx.ledger.force_next([fetch.queue_job.id for fetch in fetches])
        for fetch in fetches:
            await self._requests.wait_again(tx, fetch.endpoint_id, fetch.source, queue_job_id=fetch.queue_job.id)
        await tx.indexes.fetch_again([fetch.index_id for fetch in fetches if fetch.queue_job.state.is_final])


class RetryRegistration:
    """What a retried registration does: its item is PENDING again, and its index REGISTERING."""

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Take nothing: registrations are ordered by their numbers."""

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose endpoint is gone, and those that another fetch of their index has replaced."""
        registrations = {queue_job.id: _registration(queue_job) for queue_job in queue_jobs}
        endpoint_ids = {each.endpoint_id for each in registrations.values() if each is not None}
        gone = {endpoint_id for endpoint_id in endpoint_ids if await tx.endpoints.get(endpoint_id) is None}
        index_ids = {each.item.index_id for each in registrations.values() if each is not None}
        sequences = await tx.indexes.sequences(sorted(index_ids))
        refusals: dict[UUID, KongflowError] = {}
        for queue_job in queue_jobs:
            registration = registrations[queue_job.id]
            if registration is None:
                message = UNREADABLE
            elif registration.endpoint_id in gone:
                message = _ENDPOINT_GONE
            elif sequences.get(registration.item.index_id, registration.index_sequence) != registration.index_sequence:
                message = _FETCHED_AGAIN
            else:
                continue
            refusals[queue_job.id] = wrong_state(queue_job.id, queue_job.state, message)
        return refusals

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Open the items and indexes again, as far as they are kept."""
        registrations = [_registration(queue_job) for queue_job in queue_jobs if queue_job.state.is_final]
        await tx.indexes.register_again([each.item for each in registrations if each is not None])


def _fetch(queue_job: RetriedQueueJob) -> _Fetch | None:
    """Return what a queue job fetches; None when its args do not say."""
    args = queue_job.args
    try:
        source = str(args.get("source", IndexSource.MANUAL.value))
        return _Fetch(queue_job, UUID(args["id"]), UUID(args["indexId"]), source)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _registration(queue_job: RetriedQueueJob) -> _Registration | None:
    """Return what a queue job registers; None when its args do not say."""
    args = queue_job.args
    try:
        item = ItemKey(UUID(args["indexId"]), *registered_item(queue_job.kind, args))
        return _Registration(queue_job, UUID(args["endpointId"]), item, int(args["indexSequence"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _waits_already(queue_job_id: UUID, other: UUID) -> KongflowError:
    return KongflowError(
        f"Another index of this endpoint and source waits already, as queue job {other}.",
        reason=Reason.ALREADY_EXISTS,
        metadata={"resource": "queue job", "queue_job_id": str(other), "refused_queue_job_id": str(queue_job_id)},
    )
