"""What operators do with the ledger: look at it, retry, cancel, pause and resume, each in their own environments."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.catalog import KINDS
from services.endpoints.domain.errors import NotFoundError, PermissionDeniedError
from services.endpoints.domain.lanes import lane_owner
from services.endpoints.domain.operator_decisions import cancel_refusal
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.queue_control import QueueJobFilter, Seen
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.tenancy import PrincipalKind
from services.endpoints.operations.authorization import require_environment
from services.endpoints.operations.shared_reads import SharedReads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from services.endpoints.domain.errors import KongflowError
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.publisher import WakeUps
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.queue_job import Queue, QueueJobRecord
    from services.endpoints.domain.queue_stats import QueuePause, QueueStats
    from services.endpoints.domain.tenancy import Principal
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.retries import Retried, Retries
    from services.endpoints.operations.watches import Watches

MAX_RETRIED: Final = 10_000
_RETRIED_TOGETHER: Final = 200
_WATCH_QUIET: Final = timedelta(milliseconds=250)
_RESTS_TIMES: Final = 3
_CANCELLED_BY_OPERATOR: Final = "An operator cancelled it."


@dataclass(frozen=True, slots=True)
class RetryMany:
    """A request to retry what matches `wanted`, which names a state; `most` is 1 to 10,000."""

    wanted: QueueJobFilter
    most: int
    allow_repeat: bool = False
    validate_only: bool = False


@dataclass(slots=True)
class RetriedMany:
    """What a retry by filter did; `refusals` are by queue job."""

    matched: int = 0
    retried: int = 0
    refusals: dict[UUID, KongflowError] = field(default_factory=dict)
    has_more: bool = False


class QueueJobOperations:
    """What operators do with queue jobs; each sees and touches only those of their own environments."""

    def __init__(
        self,
        *,
        store: Store,
        finality: Finality,
        retries: Retries,
        watches: Watches,
        wake_ups: WakeUps,
        known_kinds: frozenset[str] = frozenset(KINDS),
    ) -> None:
        """Hold the ports; queue jobs of other kinds than `known_kinds` are shown as unknown."""
        self._store = store
        self._finality = finality
        self._retries = retries
        self._watches = watches
        self._wake_ups = wake_ups
        self._known_kinds = sorted(known_kinds)
        self._stats: SharedReads[Seen, list[QueueStats]] = SharedReads()
        self._watched_stats: SharedReads[Seen, list[QueueStats]] = SharedReads()
        self._counting_for_watches = asyncio.Lock()
        self._rests_until = -math.inf

    async def list_queue_jobs(
        self, principal: Principal, wanted: QueueJobFilter, page: PageRequest
    ) -> Page[QueueJobRecord]:
        """Return queue jobs, newest first.

        Raises:
            NotFoundError: the filter names an environment that is not there for this principal.
        """
        async with self._store.reading() as tx:
            visible = await self._visible(tx, principal, wanted)
            before = UUID(page.after) if page.after else None
            rows = await tx.queue_control.list_queue_jobs(visible, limit=page.limit, before=before)
        return page_of(rows, page, lambda queue_job: str(queue_job.id))

    async def get_queue_job(self, principal: Principal, queue_job_id: UUID) -> QueueJobRecord:
        """Return one queue job with its errors.

        Raises:
            NotFoundError: there is none for this principal.
        """
        async with self._store.reading() as tx:
            return await self._owned(tx, principal, queue_job_id)

    async def retry(
        self, principal: Principal, queue_job_id: UUID, *, allow_repeat: bool
    ) -> tuple[QueueJobRecord, bool]:
        """Let a queue job run again now; the flag says that it had been COMPLETED, so that its effect is repeated.

        Raises:
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, it has not ended, or it is COMPLETED and `allow_repeat` is false, or what it
                belongs to is gone; ALREADY_EXISTS, the same work waits as another queue job.
        """

        async def work(tx: Transaction) -> tuple[QueueJobRecord, bool]:
            await self._owned(tx, principal, queue_job_id)
            outcome = await self._retries.retry(tx, [queue_job_id], allow_repeat=allow_repeat)
            if queue_job_id in outcome.refusals:
                raise outcome.refusals[queue_job_id]
            queue_job = await self._owned(tx, principal, queue_job_id)
            return queue_job, any(each.state is QueueJobState.COMPLETED for each in outcome.queue_jobs)

        return await self._store.transact(work)

    async def retry_many(self, principal: Principal, request: RetryMany) -> RetriedMany:
        """Let all queue jobs of a filter run again, oldest first, up to 200 or about 4 MiB of them in one transaction.

        Raises:
            NotFoundError: the filter names an environment that is not there for this principal.
            ConflictError, DatabaseUnavailableError: what was retried before stays so.
        """
        async with self._store.reading() as tx:
            visible = await self._visible(tx, principal, request.wanted)
            found = await tx.queue_control.matching(visible, limit=request.most + 1)
        matching = found[: request.most]
        result = RetriedMany(matched=len(matching), has_more=len(found) > len(matching))
        if request.validate_only:
            return result
        while matching:
            outcome = await self._retry_together(matching[:_RETRIED_TOGETHER], request)
            matching = [*outcome.left, *matching[_RETRIED_TOGETHER:]]
            result.retried += len(outcome.queue_jobs)
            result.refusals |= outcome.refusals
        return result

    async def cancel(self, principal: Principal, queue_job_id: UUID) -> QueueJobRecord:
        """Cancel a queue job: at once when it waits; one that is RUNNING ends without effect.

        Repeating changes nothing.

        Raises:
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, it is COMPLETED or DISCARDED.
        """

        async def work(tx: Transaction) -> QueueJobRecord:
            await self._owned(tx, principal, queue_job_id)
            held = await tx.ledger.lock_queue_job(queue_job_id)
            if held is None:
                raise NotFoundError("queue job", str(queue_job_id))
            if error := cancel_refusal(queue_job_id, held.state):
                raise error
            if held.state is QueueJobState.RUNNING:
                await tx.ledger.request_cancel([queue_job_id])
            elif not held.state.is_final:
                cancelled = await tx.ledger.cancel([queue_job_id], message=_CANCELLED_BY_OPERATOR)
                await self._finality.settle(tx, cancelled, isolating=True)
            return await self._owned(tx, principal, queue_job_id)

        return await self._store.transact(work)

    async def pause(self, principal: Principal, queue: Queue, lane: str | None, *, reason: str = "") -> QueuePause:
        """Let nothing more be taken from a queue or from one lane of it; who did and `reason` are kept.

        Repeating changes nothing, the reason included.

        Raises:
            NotFoundError: whoever the lane belongs to is not there for this principal.
            PermissionDeniedError: it is a whole queue or belongs to no environment, and the principal is no admin; or
                the lane is of another environment of its own organization.
        """

        async def work(tx: Transaction) -> QueuePause:
            environment_id = await self._environment_of(tx, principal, lane)
            return await tx.queue_control.pause(
                queue, lane, environment_id=environment_id, paused_by=principal.name, reason=reason
            )

        return await self._store.transact(work)

    async def resume(self, principal: Principal, queue: Queue, lane: str | None) -> bool:
        """End a pause; False means that there was none.

        Raises:
            NotFoundError: as in `pause`, but never for an admin.
            PermissionDeniedError: as in `pause`.
        """

        async def work(tx: Transaction) -> bool:
            if principal.kind is not PrincipalKind.ADMIN:
                await self._environment_of(tx, principal, lane)
            return await tx.queue_control.resume(queue, lane)

        return await self._store.transact(work)

    async def stats(self, principal: Principal, environment_id: UUID | None) -> list[QueueStats]:
        """Return each queue's numbers, of the environments the principal sees.

        Raises:
            NotFoundError: `environment_id` is not there for this principal.
        """
        return await self._shown(principal, environment_id, self._counted)

    async def stats_of_all(self) -> list[QueueStats]:
        """Return each queue's numbers, of everybody and of upkeep."""
        return await self._counted(Seen())

    async def watch_stats(
        self, principal: Principal, environment_id: UUID | None, *, readmit: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[list[QueueStats], None]:
        """Yield each queue's numbers at once, soon after each change, and every second; less often when many watch.

        Raises:
            NotFoundError: `environment_id` is not there for this principal.
            UnauthenticatedError: `readmit` no longer recognises the caller.
            KongflowError: QUOTA_EXCEEDED, the tenant has too many watches open; DRAINING, this server stops.
        """
        with (
            closing(self._wake_ups.subscribe()) as wake_up,
            self._watches.open(principal, wake_up, advice="watch on at another one", readmit=readmit) as watch,
        ):
            while True:
                yield await self._shown(principal, environment_id, self._counted_for_watches)
                await watch.changed(quiet=_WATCH_QUIET)

    async def _retry_together(self, queue_job_ids: list[UUID], request: RetryMany) -> Retried:
        return await self._store.transact(
            lambda tx: self._retries.retry(
                tx, queue_job_ids, allow_repeat=request.allow_repeat, only_state=request.wanted.state
            )
        )

    async def _shown(
        self,
        principal: Principal,
        environment_id: UUID | None,
        counted: Callable[[Seen], Awaitable[list[QueueStats]]],
    ) -> list[QueueStats]:
        wanted = environment_id or principal.environment_id
        seen = Seen(environment_id=wanted, organization_id=None if wanted else principal.organization_id)
        if wanted is not None:
            async with self._store.reading() as tx:
                require_environment(principal, await tx.tenancy.known_environment(wanted), name=wanted)
        stats = await counted(seen)
        return stats if principal.kind is PrincipalKind.ADMIN else [_without_admins(each) for each in stats]

    async def _counted_for_watches(self, seen: Seen) -> list[QueueStats]:
        """Count for all watches of the same, after those of others, and rest three times as long as it took.

        However many are watched, counting for them takes a quarter of one connection's time.
        """

        async def count() -> list[QueueStats]:
            async with self._counting_for_watches:
                await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
                began = time.monotonic()
                stats = await self._counted(seen)
                self._rests_until = time.monotonic() + _RESTS_TIMES * (time.monotonic() - began)
                return stats

        return await self._watched_stats.read(seen, count)

    async def _counted(self, seen: Seen) -> list[QueueStats]:
        async def count() -> list[QueueStats]:
            async with self._store.reading() as tx:
                return await tx.queue_control.stats(seen, known_kinds=self._known_kinds)

        return await self._stats.read(seen, count)

    async def _owned(self, tx: Transaction, principal: Principal, queue_job_id: UUID) -> QueueJobRecord:
        queue_job = await tx.queue_control.get(queue_job_id)
        if queue_job is None:
            raise NotFoundError("queue job", str(queue_job_id))
        if principal.kind is not PrincipalKind.ADMIN:
            environment = await tx.tenancy.known_environment(queue_job.environment_id)
            try:
                require_environment(principal, environment, name=queue_job.environment_id)
            except NotFoundError as error:
                raise NotFoundError("queue job", str(queue_job_id)) from error
        return queue_job

    async def _environment_of(self, tx: Transaction, principal: Principal, lane: str | None) -> UUID | None:
        """Return the environment that a lane belongs to; None for a whole queue and for a lane of nobody's."""
        owner = lane_owner(lane) if lane is not None else None
        if owner is None:
            if principal.kind is not PrincipalKind.ADMIN:
                what = "whole queue" if lane is None else "lane that belongs to no environment"
                raise PermissionDeniedError(f"To pause or resume a {what} needs an admin token.")
            return None
        environment_id = owner.environment_id
        if owner.endpoint_id is not None:
            endpoint = await tx.endpoints.get(owner.endpoint_id)
            environment_id = endpoint.environment_id if endpoint is not None else None
        if environment_id is not None:
            with suppress(NotFoundError):
                environment = await tx.tenancy.known_environment(environment_id)
                return require_environment(principal, environment, name=environment_id).id
        raise NotFoundError("lane", str(lane))

    async def _visible(self, tx: Transaction, principal: Principal, wanted: QueueJobFilter) -> QueueJobFilter:
        """Return the filter narrowed to what the principal may see."""
        environment_id = wanted.environment_id or principal.environment_id
        if environment_id is not None:
            require_environment(principal, await tx.tenancy.known_environment(environment_id), name=environment_id)
            return replace(wanted, environment_id=environment_id)
        return replace(wanted, organization_id=principal.organization_id)


def _without_admins(stats: QueueStats) -> QueueStats:
    """Return a queue's numbers less who paused the whole of it, which is no tenant's business."""
    if all(pause.lane is not None for pause in stats.pauses):
        return stats
    pauses = tuple(pause if pause.lane is not None else replace(pause, paused_by="") for pause in stats.pauses)
    return replace(stats, pauses=pauses)
