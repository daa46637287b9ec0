"""Carries out registrations and tells their indexes what became of each item."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.endpoint_index import ItemState
from services.endpoints.domain.ports.indexes import ItemResult
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.operations.registration import registered_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.operations.index_requests import IndexRequests
    from services.endpoints.operations.registration import Registration


class RegisterItems:
    """The handler of the four kinds of registration."""

    def __init__(self, *, registration: Registration, index_requests: IndexRequests) -> None:
        """Hold what registers and what settles indexes."""
        self._registration = registration
        self._index_requests = index_requests

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:
        """Register all items of a batch, whatever their kinds and endpoints."""
        outcomes = await self._registration.run(tx, queue_jobs)
        await tx.indexes.set_items(
            [
                ItemResult(outcome.index_id, outcome.kind, outcome.key, ItemState[outcome.result.name], outcome.reason)
                for outcome in outcomes
            ]
        )

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Mark the items of registrations that failed for good, and settle every index that was touched."""
        failed = [queue_job for queue_job in queue_jobs if queue_job.state is not QueueJobState.COMPLETED]
        if failed:
            results = []
            for queue_job in failed:
                kind, key = registered_item(queue_job.kind, queue_job.args)
                index_id = UUID(queue_job.args["indexId"])
                results.append(ItemResult(index_id, kind, key, ItemState.FAILED, queue_job.message))
            await tx.indexes.set_items(results)
        await self._index_requests.settle(tx, [UUID(queue_job.args["indexId"]) for queue_job in queue_jobs])
