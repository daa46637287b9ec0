"""A run: one attempt to carry an event through a job version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class RunState(Enum):
    """How far a run is."""

    PENDING = "PENDING"


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `number` counts the runs of its job from 1 without gaps. `account` is the identifier."""

    id: UUID
    number: int
    environment_id: UUID
    state: RunState
    job_slug: str
    job_version_id: UUID
    version: str
    event_record_id: UUID
    event_id: str
    dispatcher_id: UUID
    endpoint_id: UUID
    account: str | None
    is_test: bool
    created_at: datetime
    updated_at: datetime


class InvocationState(Enum):
    """How far an event that was given to a dispatcher is."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Invocation:
    """An event that was given to a dispatcher; `reason` says why nothing ran of it, or not everything."""

    event_record_id: UUID
    dispatcher_id: UUID
    queue_job_id: UUID
    state: InvocationState
    run_count: int
    reason: str | None
    created_at: datetime
    updated_at: datetime
