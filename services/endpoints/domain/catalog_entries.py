"""What indexes found, as callers read it; customer JSON stays text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class JobQueue:
    """The queue of runs that an SDK before 2.1 asked for."""

    name: str
    max_jobs: int


@dataclass(frozen=True, slots=True)
class JobIntegration:
    """One integration a job version uses, by the key its code gives it."""

    key: str
    slug: str
    title: str
    definition_id: str
    definition_name: str
    auth_source: str
    setup_status: str


@dataclass(frozen=True, slots=True)
class EventExample:
    """A payload to try a job with; `payload_json` is None when there is none."""

    slug: str
    name: str
    icon: str | None
    payload_json: str | None


@dataclass(frozen=True, slots=True)
class JobVersion:
    """One version of a job in one environment.

    `trigger_type` is `static`, `scheduled`, `dynamic` or `invoke`. `event_names` are those of the event specification.
    `is_active` is False when its endpoint no longer offers it. `concurrency_limit_json` and `properties_json` are None
    when the job has none.
    """

    id: UUID
    version: str
    is_active: bool
    endpoint_id: UUID
    endpoint_slug: str
    trigger_type: str
    trigger_json: str
    event_names: tuple[str, ...]
    event_specification_json: str
    properties_json: str | None
    start_position: str
    preprocess_runs: bool
    concurrency_limit_json: str | None
    queue: JobQueue | None
    integrations: tuple[JobIntegration, ...]
    examples: tuple[EventExample, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job in one environment with the version its alias `latest` names."""

    id: UUID
    slug: str
    title: str
    internal: bool
    environment_id: UUID
    latest: JobVersion
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of an environment to list; an absent part does not restrict, texts must be equal."""

    environment_id: UUID
    endpoint_id: UUID | None = None
    slug: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source of events.

    `enabled`: its endpoint still offers it. `active`: its third party knows about it. `options` are (name, value)
    pairs, sorted.
    """

    id: UUID
    key: str
    version: str
    channel: str
    params_json: str | None
    active: bool
    enabled: bool
    options: tuple[tuple[str, str], ...]
    integration_slug: str
    register_source_job_json: str | None
    endpoint_id: UUID
    environment_id: UUID
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DynamicTrigger:
    """A dynamic trigger (`type` EVENT) or a dynamic schedule (SCHEDULE); `jobs` are (slug, version), sorted."""

    id: UUID
    type: str
    slug: str
    enabled: bool
    jobs: tuple[tuple[str, str], ...]
    register_source_job_json: str | None
    endpoint_id: UUID
    environment_id: UUID
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of a job (`job_slug`) or of a dynamic schedule (`dynamic_schedule_slug`): exactly one is set.

    `schedule_json` is `{type, options}`. `next_event_at` None means that it is still to be computed.
    """

    id: UUID
    key: str
    schedule_json: str
    active: bool
    job_id: UUID | None
    job_slug: str | None
    dynamic_trigger_id: UUID | None
    dynamic_schedule_slug: str | None
    environment_id: UUID
    last_event_at: datetime | None
    next_event_at: datetime | None
    created_at: datetime
    updated_at: datetime
