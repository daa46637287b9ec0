"""Reads the ledger for operators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.catalog import KINDS
from services.endpoints.domain.errors import NotFoundError
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.ledger import QueueJobFilter
from services.endpoints.domain.tenancy import PrincipalKind
from services.endpoints.operations.authorization import require_environment

if TYPE_CHECKING:
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.queue_job import QueueJobRecord, QueueStats
    from services.endpoints.domain.tenancy import Principal


class QueueJobOperations:
    """What operators read of the ledger; each sees only the queue jobs of their own environments."""

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store

    async def list_queue_jobs(
        self, principal: Principal, wanted: QueueJobFilter, page: PageRequest
    ) -> Page[QueueJobRecord]:
        """Return queue jobs, newest first.

        Raises:
            NotFoundError: the filter names an environment that is not there for this principal.
        """
        async with self._store.reading() as tx:
            seen = await self._visible(tx, principal, wanted)
            before = UUID(page.after) if page.after else None
            rows = await tx.ledger.list_queue_jobs(seen, limit=page.limit, before=before)
        return page_of(rows, page, lambda queue_job: str(queue_job.id))

    async def get_queue_job(self, principal: Principal, queue_job_id: UUID) -> QueueJobRecord:
        """Return one queue job with its errors.

        Raises:
            NotFoundError: there is none for this principal.
        """
        async with self._store.reading() as tx:
            queue_job = await tx.ledger.get(queue_job_id)
            if queue_job is None:
                raise NotFoundError("queue job", str(queue_job_id))
            if principal.kind is not PrincipalKind.ADMIN:
                environment = await tx.tenancy.get_environment(queue_job.environment_id)
                try:
                    require_environment(principal, environment, name=queue_job.environment_id)
                except NotFoundError as error:
                    raise NotFoundError("queue job", str(queue_job_id)) from error
        return queue_job

    async def stats(self, principal: Principal, environment_id: UUID | None) -> list[QueueStats]:
        """Return each queue's depth and ages, of the environments the principal sees.

        Raises:
            NotFoundError: `environment_id` is not there for this principal.
        """
        async with self._store.reading() as tx:
            seen = await self._visible(tx, principal, QueueJobFilter(environment_id=environment_id))
            return await tx.ledger.stats(
                environment_id=seen.environment_id, organization_id=seen.organization_id, known_kinds=sorted(KINDS)
            )

    async def _visible(self, tx: Transaction, principal: Principal, wanted: QueueJobFilter) -> QueueJobFilter:
        """Return the filter narrowed to what the principal may see."""
        environment_id = wanted.environment_id or principal.environment_id
        if environment_id is not None:
            require_environment(principal, await tx.tenancy.get_environment(environment_id), name=environment_id)
            return replace(wanted, environment_id=environment_id)
        return replace(wanted, organization_id=principal.organization_id)
