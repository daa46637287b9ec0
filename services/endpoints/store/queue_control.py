"""What operators do with the ledger, on PostgreSQL; the statements are in `sql/queue_control.sql`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.queue_control import QueueJobFilter, RetriedQueueJob, Seen
from services.endpoints.domain.queue_job import Priority, Queue, QueueJobError, QueueJobRecord, QueueJobState
from services.endpoints.domain.queue_stats import (
    MAX_COMPLETED_COUNTED,
    MAX_COUNTED,
    RATE_WINDOW,
    Latency,
    QueuePause,
    QueueStats,
    StateSample,
    queue_stats,
)
from services.endpoints.store.errors import translated
from services.endpoints.store.ledger import MAX_BYTES_TOGETHER
from services.endpoints.store.queries import decided, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import asyncpg

_SQL: Final = load("queue_control")


class PostgresQueueControl:
    """The operators' statements on one connection; `changed` is called when a relay or a watcher should look."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, changed: Callable[[], None]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._changed = changed

    async def get(self, queue_job_id: UUID) -> QueueJobRecord | None:
        """Read one queue job."""
        rows = await self._fetch("get", queue_job_id)
        return _record(rows[0]) if rows else None

    async def list_queue_jobs(self, wanted: QueueJobFilter, *, limit: int, before: UUID | None) -> list[QueueJobRecord]:
        """Read queue jobs, newest first, each with its last error and without its args."""
        seen = (wanted.environment_id, wanted.organization_id)
        if (*seen, wanted.state) == (None, None, None):
            rows = await self._fetch("list_of_all", *_without_state(wanted), before, limit)
        else:
            rows = await self._fetch("list_by_environment", *_properties(wanted), before, limit, *seen)
        return [_record(row) for row in rows]

    async def matching(self, wanted: QueueJobFilter, *, limit: int) -> list[UUID]:
        """Read the ids of matching queue jobs, oldest first."""
        seen = (wanted.environment_id, wanted.organization_id)
        rows = await self._fetch("matching", *_properties(wanted), limit, *seen)
        return [row["id"] for row in rows]

    async def read(self, queue_job_ids: Sequence[UUID]) -> list[RetriedQueueJob]:
        """Read queue jobs by id."""
        return [_retried(row) for row in await self._fetch("read", queue_job_ids, MAX_BYTES_TOGETHER)]

    async def lock(self, queue_job_ids: Sequence[UUID]) -> dict[UUID, QueueJobState]:
        """Lock queue jobs by id; return their states."""
        return {row["id"]: QueueJobState(row["state"]) for row in await self._fetch("lock", queue_job_ids)}

    async def retry(self, queue_job_ids: Sequence[UUID]) -> int:
        """Let queue jobs run again now."""
        self._changed()
        return len(await self._fetch("retry", queue_job_ids))

    async def pause(
        self, queue: Queue, lane: str | None, *, environment_id: UUID | None, paused_by: str = "", reason: str = ""
    ) -> QueuePause:
        """Pause a queue or a lane."""
        self._changed()
        rows = await self._fetch("pause", queue.value, lane, environment_id, paused_by or None, reason or None)
        return _pause(rows[0])

    async def resume(self, queue: Queue, lane: str | None) -> bool:
        """End a pause."""
        self._changed()
        return bool(await self._fetch("resume", queue.value, lane))

    async def forget_lane(self, lane: str) -> None:
        """End the pauses of a lane."""
        await self._fetch("forget_lane", lane)

    async def stats(self, seen: Seen, *, known_kinds: Sequence[str]) -> list[QueueStats]:
        """Read each queue's numbers."""
        scope = (seen.environment_id, seen.organization_id)
        counted = (known_kinds, MAX_COUNTED, MAX_COMPLETED_COUNTED)
        if scope == (None, None):
            rows = await self._fetch("sample_of_all", *counted, RATE_WINDOW)
        else:
            rows = await self._fetch("sample_of_environments", *counted, *scope, RATE_WINDOW)
        return queue_stats(
            [_sample(row) for row in rows],
            latencies={Queue(row["queue"]): _latency(row) for row in rows if row["measured"]},
            open_lanes={Queue(row["queue"]): row["lanes"] for row in await self._fetch("open_lanes", *scope)},
            pauses=[_pause(row) for row in await self._fetch("pauses", *scope)],
        )

    async def _fetch(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(decided(_SQL[block], arguments), *arguments)


def _properties(wanted: QueueJobFilter) -> tuple[object, ...]:
    queue, *others = _without_state(wanted)
    return (queue, wanted.state.value if wanted.state else None, *others)


def _without_state(wanted: QueueJobFilter) -> tuple[object, ...]:
    return (
        wanted.queue.value if wanted.queue else None,
        wanted.kind,
        wanted.lane,
        wanted.created_from,
        wanted.created_before,
    )


def _retried(row: asyncpg.Record) -> RetriedQueueJob:
    return RetriedQueueJob(
        id=row["id"],
        kind=row["kind"],
        args=json.loads(row["args"]),
        environment_id=row["environment_id"],
        state=QueueJobState(row["state"]),
    )


def _pause(row: asyncpg.Record) -> QueuePause:
    return QueuePause(Queue(row["queue"]), row["lane"], row["created_at"], row["paused_by"] or "", row["reason"] or "")


def _sample(row: asyncpg.Record) -> StateSample:
    return StateSample(
        queue=Queue(row["queue"]),
        state=QueueJobState(row["state"]),
        count=row["queue_jobs"],
        is_capped=row["is_capped"],
        oldest_seconds=row["oldest_seconds"],
        unknown_kinds=row["unknown_kinds"],
        per_second=row["per_second"],
    )


def _latency(row: asyncpg.Record) -> Latency:
    p50, p95, p99 = row["percentiles"]
    return Latency(p50, p95, p99, measured=row["measured"])


def _record(row: asyncpg.Record) -> QueueJobRecord:
    return QueueJobRecord(
        id=row["id"],
        environment_id=row["environment_id"],
        kind=row["kind"],
        args_json=row["args"],
        queue=Queue(row["queue"]),
        lane=row["lane"],
        priority=Priority(row["priority"]),
        state=QueueJobState(row["state"]),
        run_at=row["run_at"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        rescues=row["rescues"],
        errors=tuple(
            QueueJobError(datetime.fromisoformat(entry["time"]), entry["attempt"], entry["reason"], entry["message"])
            for entry in json.loads(row["errors"])
        ),
        cancel_requested_at=row["cancel_requested_at"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finalized_at=row["finalized_at"],
    )
