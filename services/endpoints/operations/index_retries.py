"""Opens an endpoint index again when an operator retries one of its queue jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.operator_decisions import wrong_state
from services.endpoints.domain.ports.indexes import ItemKey
from services.endpoints.operations.registration import registered_item

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ports.queue_control import RetriedQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.operations.index_requests import IndexRequests


class RetryIndex:
    """What a retried `indexEndpoint` does: its index waits again, with nothing found yet."""

    def __init__(self, *, requests: IndexRequests) -> None:
        """Hold what knows which index waits."""
        self._requests = requests

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Let requests for these endpoints wait, so that none begins another index meanwhile."""
        endpoints = [await tx.endpoints.get(endpoint_id) for endpoint_id in {_endpoint_id(each) for each in queue_jobs}]
        slugs = {(endpoint.environment_id, endpoint.slug) for endpoint in endpoints if endpoint is not None}
        for environment_id, slug in sorted(slugs):
            await self._requests.serialize(tx, environment_id, slug)

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose index is gone, and those that would be the second to wait for an endpoint and source."""
        kept = set(await tx.indexes.lock(sorted({_index_id(queue_job) for queue_job in queue_jobs})))
        refusals: dict[UUID, KongflowError] = {}
        waiting: dict[tuple[UUID, str], UUID] = {}
        # The newest first: of several that were given up, it is the one to try.
        for queue_job in sorted(queue_jobs, key=lambda each: each.id, reverse=True):
            if _index_id(queue_job) not in kept:
                refusals[queue_job.id] = wrong_state(
                    queue_job.id, queue_job.state, "The endpoint index that the queue job belongs to is gone."
                )
                continue
            key = (_endpoint_id(queue_job), _source(queue_job))
            other = waiting.get(key) or await self._requests.waiting(tx, *key)
            if other is not None and other != queue_job.id:
                refusals[queue_job.id] = _waits_already(queue_job, other)
            else:
                waiting[key] = queue_job.id
        return refusals

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Make the indexes wait again; requests join them. What only waited for its next attempt stays as it is."""
        for queue_job in queue_jobs:
            await self._requests.wait_again(tx, _endpoint_id(queue_job), _source(queue_job), queue_job_id=queue_job.id)
        await tx.indexes.fetch_again([_index_id(each) for each in queue_jobs if each.state.is_final])


class RetryRegistration:
    """What a retried registration does: its item is PENDING again, and its index REGISTERING."""

    async def hold(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Take nothing: registrations are ordered by their numbers."""

    async def refuse(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> Mapping[UUID, KongflowError]:
        """Refuse those whose endpoint is gone."""
        endpoint_ids = {UUID(queue_job.args["endpointId"]) for queue_job in queue_jobs}
        gone = {each for each in sorted(endpoint_ids) if await tx.endpoints.get(each) is None}
        return {
            queue_job.id: wrong_state(
                queue_job.id, queue_job.state, "The endpoint that the queue job belongs to was deleted."
            )
            for queue_job in queue_jobs
            if UUID(queue_job.args["endpointId"]) in gone
        }

    async def on_retry(self, tx: Transaction, queue_jobs: Sequence[RetriedQueueJob]) -> None:
        """Open the items and indexes again, as far as they are kept."""
        await tx.indexes.register_again(
            [
                ItemKey(_index_id(queue_job), *registered_item(queue_job.kind, queue_job.args))
                for queue_job in queue_jobs
                if queue_job.state.is_final
            ]
        )


def _endpoint_id(queue_job: RetriedQueueJob) -> UUID:
    return UUID(queue_job.args["id"])


def _index_id(queue_job: RetriedQueueJob) -> UUID:
    return UUID(queue_job.args["indexId"])


def _source(queue_job: RetriedQueueJob) -> str:
    return str(queue_job.args.get("source", IndexSource.MANUAL.value))


def _waits_already(queue_job: RetriedQueueJob, other: UUID) -> KongflowError:
    return KongflowError(
        f"Another index of this endpoint and source waits already, as queue job {other}.",
        reason=Reason.ALREADY_EXISTS,
        metadata={"resource": "queue job", "queue_job_id": str(other), "refused_queue_job_id": str(queue_job.id)},
    )
