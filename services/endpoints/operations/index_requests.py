"""Asks for an index: joins one that waits, keeps the window between two, and never loses the last request."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.catalog import INDEX_ENDPOINT, new_queue_job
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.ports.ledger import UniqueKey
from services.endpoints.domain.queue_job import Priority, QueueJobState
from services.endpoints.domain.tenancy import EnvironmentType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any
    from uuid import UUID

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_index import EndpointIndex, IndexSource
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.ledger import WaitingQueueJob, Window
    from services.endpoints.domain.ports.store import Transaction

_WAITING: Final = "indexEndpoint"
_WINDOW: Final = "indexEndpoint.window"
_WAITING_CLAIM_LASTS: Final = timedelta(days=400)
_MAX_POSTPONED: Final = timedelta(seconds=60)
_QUIET_SINCE: Final = "quietSince"
_NONE: Final = timedelta()


@dataclass(frozen=True, slots=True)
class IndexWish:
    """What somebody asks for; `run_at` None means now, `force` means past the window.

    With `has_moved` the endpoint got another url: what its old one asked for is no reason to wait, nor is the window
    that an index of the old one began.
    With `past_window` the window is no reason to wait, but what the endpoint asked for is.
    With `quiet` the index waits until no such wish has come for so long, but no more than a minute after the first of
    them since it was last fetched.
    """

    source: IndexSource
    reason: str | None = None
    source_data_json: str | None = None
    run_at: datetime | None = None
    priority: Priority = Priority.NORMAL
    force: bool = False
    has_moved: bool = False
    past_window: bool = False
    quiet: timedelta = _NONE


@dataclass(frozen=True, slots=True)
class IndexRequested:
    """The index that will answer a wish; `deduplicated` when it waits, because of the window or for an earlier wish."""

    index: EndpointIndex
    queue_job_id: UUID
    deduplicated: bool
    run_time: datetime


class IndexRequests:
    """Turns wishes into at most one waiting index per endpoint and source."""

    def __init__(self, *, new_id: NewId, window: timedelta, max_attempts: int = INDEX_ENDPOINT.max_attempts) -> None:
        """Hold the length of the window and how many attempts an index has; DEVELOPMENT has no window and one."""
        self._new_id = new_id
        self._window = window
        self._kind = replace(INDEX_ENDPOINT, max_attempts=max_attempts)

    async def serialize(self, tx: Transaction, environment_id: UUID, slug: str) -> None:
        """Let requests about one endpoint follow one another: the first lock of each."""
        await tx.ledger.serialize(f"endpoint:{environment_id}:{slug}")

    async def request_first(
        self, tx: Transaction, endpoint: Endpoint, environment_type: EnvironmentType, source: IndexSource
    ) -> IndexRequested:
        """Enqueue the first index of an endpoint that this transaction made: there is none to join, and no window."""
        value = _of(endpoint.id, source.value)
        return await self._enqueue(
            tx, endpoint, environment_type, IndexWish(source), value=value, run_at=None, deduplicated=False
        )

    async def request(
        self, tx: Transaction, endpoint: Endpoint, environment_type: EnvironmentType, wish: IndexWish
    ) -> IndexRequested:
        """Return the index that answers `wish`; the caller has serialized the endpoint in this transaction.

        A waiting index of the same source is joined: the last reason and source data win, `joined_run_at` says when it
        starts, and if it has failed before, it has all its attempts once more. Otherwise one is enqueued: now, at
        `run_at`, or when the window ends, whichever is last; with `force` it is now, whatever `run_at` says.
        """
        value = _of(endpoint.id, wish.source.value)
        waiting = await self._lock_waiting(tx, value)
        # After the lock: an index that began meanwhile has closed its window. Held until the end: who opens the window
        # finds what this wish left waiting for it.
        now, window = await tx.ledger.clock_and_window(_WINDOW, value)
        earliest = max(wish.run_at or now, now + wish.quiet)
        window_end = _window_end(window, waiting, now=now)
        is_free = wish.force or wish.has_moved or wish.past_window
        is_held_back = not is_free and window_end is not None and window_end > earliest
        if is_held_back and window_end is not None:
            earliest = window_end
        if wish.force:
            earliest = now
        if waiting is not None:
            joined = await self._join(tx, endpoint, environment_type, wish, waiting, earliest=earliest, now=now)
            if joined is not None:
                return joined
        return await self._enqueue(
            tx,
            endpoint,
            environment_type,
            wish,
            value=value,
            run_at=earliest if earliest > now else None,
            deduplicated=is_held_back,
        )

    async def open_window(self, tx: Transaction, queue_job_ids: Sequence[UUID]) -> None:
        """Let the next wish run at once, and the one that waits for the window, because these indexes failed."""
        if queue_job_ids:
            await tx.ledger.open_windows(queue_job_ids, window=_WINDOW, waiting=_WAITING)

    async def settle(self, tx: Transaction, index_ids: Sequence[UUID]) -> None:
        """Recompute indexes after their items changed, and open the windows of those that failed."""
        wanted = sorted(set(index_ids))
        await tx.indexes.lock(wanted)
        await self.open_window(tx, await tx.indexes.settle(wanted))

    async def waiting(self, tx: Transaction, endpoint_id: UUID, source: str) -> UUID | None:
        """Return the queue job of the index that waits for this endpoint and source; None when there is none.

        The caller has serialized the endpoint, so that none comes in meanwhile; one that is found may begin any moment.
        """
        return await tx.ledger.waiting_claimant(_WAITING, _of(endpoint_id, source))

    async def wait_again(self, tx: Transaction, endpoint_id: UUID, source: str, *, queue_job_id: UUID) -> None:
        """Let wishes join an index that waits once more; the caller has serialized the endpoint."""
        await tx.ledger.claim(UniqueKey(_WAITING, _of(endpoint_id, source), queue_job_id, _WAITING_CLAIM_LASTS))

    async def close_window(
        self, tx: Transaction, *, endpoint_id: UUID, source: str, environment_type: EnvironmentType, queue_job_id: UUID
    ) -> None:
        """Begin the window: an index of this endpoint and source starts its fetch now."""
        if environment_type is not EnvironmentType.DEVELOPMENT and self._window:
            await tx.ledger.claim(UniqueKey(_WINDOW, _of(endpoint_id, source), queue_job_id, self._window))

    async def _lock_waiting(self, tx: Transaction, value: str) -> WaitingQueueJob | None:
        queue_job = await tx.ledger.lock_claimant(_WAITING, value)
        if queue_job is None or queue_job.state not in {QueueJobState.SCHEDULED, QueueJobState.AVAILABLE}:
            return None
        return queue_job

    async def _join(
        self,
        tx: Transaction,
        endpoint: Endpoint,
        environment_type: EnvironmentType,
        wish: IndexWish,
        waiting: WaitingQueueJob,
        *,
        earliest: datetime,
        now: datetime,
    ) -> IndexRequested | None:
        index = await tx.indexes.join(waiting.id, source_data_json=wish.source_data_json, reason=wish.reason)
        if index is None:
            return None
        quiet_since = _quiet_since(waiting, wish, now=now)
        run_at = joined_run_at(waiting, wish, earliest=earliest, now=now, quiet_since=quiet_since)
        await tx.ledger.reschedule(
            waiting.id,
            run_at=run_at,
            args=_args(endpoint.id, index.id, wish, quiet_since=quiet_since),
            priority=wish.priority,
            fresh_attempts=self._kind.attempts_in(environment_type),
        )
        return IndexRequested(index, waiting.id, deduplicated=True, run_time=run_at)

    async def _enqueue(
        self,
        tx: Transaction,
        endpoint: Endpoint,
        environment_type: EnvironmentType,
        wish: IndexWish,
        *,
        value: str,
        run_at: datetime | None,
        deduplicated: bool,
    ) -> IndexRequested:
        queue_job_id, index_id = self._new_id(), self._new_id()
        index = await tx.indexes.insert(
            index_id=index_id,
            endpoint_id=endpoint.id,
            source=wish.source,
            source_data_json=wish.source_data_json,
            reason=wish.reason,
            queue_job_id=queue_job_id,
        )
        # What the caller is told now and what a repeat of its request reads later are one time.
        run_time = run_at or index.created_at
        queue_job = new_queue_job(
            INDEX_ENDPOINT,
            _args(endpoint.id, index_id, wish, quiet_since=index.created_at if wish.quiet else None),
            queue_job_id=queue_job_id,
            lane=endpoint_lane(endpoint.id),
            environment_id=endpoint.environment_id,
            max_attempts=self._kind.attempts_in(environment_type),
            priority=wish.priority,
            run_at=run_time,
        )
        unique = UniqueKey(_WAITING, value, queue_job_id, _WAITING_CLAIM_LASTS)
        await tx.ledger.enqueue([queue_job], unique=unique)
        return IndexRequested(index, queue_job_id, deduplicated=deduplicated, run_time=run_time)


def joined_run_at(
    waiting: WaitingQueueJob, wish: IndexWish, *, earliest: datetime, now: datetime, quiet_since: datetime | None
) -> datetime:
    """Return when a waiting index runs after `wish` joined it.

    Alone, the wish would run at `earliest`. An index that waits after a failed attempt keeps its time, which the
    endpoint may have asked for, unless the wish forces or the endpoint has moved. A wish for quiet moves the index
    back, within a minute of the first such wish, at `quiet_since`, so that a steady stream of them cannot starve it; no
    other wish makes it later, and none lets it wait for a time that only an earlier one named.
    """
    is_kept = waiting.has_begun and not (wish.force or wish.has_moved)
    run_at = waiting.run_at if is_kept else min(waiting.run_at, earliest)
    if wish.quiet and quiet_since is not None and not wish.force:
        return max(run_at, min(now + wish.quiet, quiet_since + _MAX_POSTPONED))
    return run_at


def _quiet_since(waiting: WaitingQueueJob, wish: IndexWish, *, now: datetime) -> datetime | None:
    """Return when the first wish for quiet came that no fetch of the waiting index has answered, `wish` included."""
    since = waiting.args.get(_QUIET_SINCE)
    if since is not None:
        known = datetime.fromisoformat(since)
        if waiting.started_at is None or known > waiting.started_at:
            return known
    return now if wish.quiet else None


def _of(endpoint_id: UUID, source: str) -> str:
    return f"{endpoint_id}:{source}"


def _window_end(window: Window | None, waiting: WaitingQueueJob | None, *, now: datetime) -> datetime | None:
    if window is None or window.expires_at <= now:
        return None
    if waiting is not None and window.queue_job_id == waiting.id:
        return None
    return window.expires_at


def _args(endpoint_id: UUID, index_id: UUID, wish: IndexWish, *, quiet_since: datetime | None = None) -> dict[str, Any]:
    args: dict[str, Any] = {"id": str(endpoint_id), "indexId": str(index_id), "source": wish.source.value}
    if wish.force:
        args["force"] = True
    if quiet_since is not None:
        args[_QUIET_SINCE] = quiet_since.isoformat()
    if wish.reason is not None:
        args["reason"] = wish.reason
    if wish.source_data_json is not None:
        args["sourceData"] = json.loads(wish.source_data_json)
    return args
