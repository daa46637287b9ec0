"""An event: something that happened and was told once, idempotent by (environment, event id)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.queue_job import Priority

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

DEFAULT_SOURCE: Final = "trigger.dev"


class EventState(Enum):
    """How far an event is; only PENDING is followed by another."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class PayloadType(Enum):
    """What a payload stands for."""

    JSON = "JSON"
    REQUEST = "REQUEST"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a sender says, checked: `event_id` None is made by the server, `event_time` None is now.

    At most one of `deliver_at` and `deliver_in` is given; neither means now. `payload_json` and `context_json` are the
    sender's own texts.
    """

    name: str
    payload_json: str = "{}"
    context_json: str = "{}"
    event_id: str | None = None
    source: str = DEFAULT_SOURCE
    event_time: datetime | None = None
    deliver_at: datetime | None = None
    deliver_in: timedelta | None = None
    priority: Priority = Priority.NORMAL
    account: str | None = None
    payload_type: PayloadType = PayloadType.JSON
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One event record; `payload_json` and `context_json` are None in lists. `account` is the identifier."""

    id: UUID
    event_id: str
    environment_id: UUID
    name: str
    source: str
    payload_json: str | None
    context_json: str | None
    payload_type: PayloadType
    account: str | None
    event_time: datetime
    state: EventState
    deliver_at: datetime
    priority: Priority
    match_count: int
    queue_job_id: UUID
    replay_of: UUID | None
    is_test: bool
    created_at: datetime
    updated_at: datetime
    delivered_at: datetime | None
    cancelled_at: datetime | None
