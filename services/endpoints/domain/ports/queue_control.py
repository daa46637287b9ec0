"""What operators ask of the ledger: to look at it, to retry and to pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from services.endpoints.domain.queue_job import Queue, QueueJobRecord, QueueJobState
    from services.endpoints.domain.queue_stats import QueuePause, QueueStats


@dataclass(frozen=True, slots=True)
class QueueJobFilter:
    """Which queue jobs to list or to retry; None means any. The times are half-open: `from` is in, `before` is not."""

    environment_id: UUID | None = None
    organization_id: UUID | None = None
    queue: Queue | None = None
    state: QueueJobState | None = None
    kind: str | None = None
    lane: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Whose part of the ledger is counted: one environment, those of an organization, or with None everything."""

    environment_id: UUID | None = None
    organization_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class RetriedQueueJob:
    """A queue job that an operator retries, with the state it is retried from."""

    id: UUID
    kind: str
    args: Mapping[str, Any]
    environment_id: UUID
    state: QueueJobState


class QueueControl(Protocol):
    """Statements of operators. Every state change repeats the state it expects."""

    async def get(self, queue_job_id: UUID) -> QueueJobRecord | None:
        """Read one queue job with its errors."""
        ...

    async def list_queue_jobs(self, wanted: QueueJobFilter, *, limit: int, before: UUID | None) -> list[QueueJobRecord]:
        """Read queue jobs with an id smaller than `before`, newest first, each with its last error only and no args."""
        ...

    async def matching(self, wanted: QueueJobFilter, *, limit: int) -> list[UUID]:
        """Read the ids of queue jobs, oldest first; `wanted` names a state."""
        ...

    async def read(self, queue_job_ids: Sequence[UUID]) -> list[RetriedQueueJob]:
        """Read queue jobs in id order without locking them: the first, and more up to about 4 MiB of args."""
        ...

    async def lock(self, queue_job_ids: Sequence[UUID]) -> dict[UUID, QueueJobState]:
        """Lock queue jobs in id order and return their states, whatever these are; those that are gone are left out."""
        ...

    async def retry(self, queue_job_ids: Sequence[UUID]) -> int:
        """Make SCHEDULED or final queue jobs AVAILABLE, final ones with a fresh set of attempts; return how many."""
        ...

    async def pause(
        self, queue: Queue, lane: str | None, *, environment_id: UUID | None, paused_by: str = "", reason: str = ""
    ) -> QueuePause:
        """Pause a queue or one lane of it, which is of `environment_id`; the first pause stays as it is."""
        ...

    async def resume(self, queue: Queue, lane: str | None) -> bool:
        """End a pause; False means that there was none."""
        ...

    async def forget_lane(self, lane: str) -> None:
        """End the pauses of a lane in every queue, because its owner is gone."""
        ...

    async def stats(self, seen: Seen, *, known_kinds: Sequence[str]) -> list[QueueStats]:
        """Read each queue's numbers."""
        ...
