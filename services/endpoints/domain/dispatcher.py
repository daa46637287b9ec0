"""A dispatcher: a rule that maps matching events to a job version or a dynamic trigger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class DispatcherOrigin(Enum):
    """Who wrote it: an index, which alone rewrites it, or a caller."""

    INDEX = "INDEX"
    API = "API"


class DispatchableType(Enum):
    """What it starts."""

    JOB_VERSION = "JOB_VERSION"
    DYNAMIC_TRIGGER = "DYNAMIC_TRIGGER"


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """One dispatcher as it is stored; the filters are JSON texts that may no longer parse.

    `is_enabled` is true when its endpoint offers it and no operator disabled it. `account` is the identifier.
    """

    id: UUID
    environment_id: UUID
    origin: DispatcherOrigin
    event_names: tuple[str, ...]
    source: str
    payload_filter_json: str
    context_filter_json: str
    is_enabled: bool
    is_manual: bool
    account: str | None
    dispatchable_type: DispatchableType
    dispatchable_id: UUID
    created_at: datetime
    updated_at: datetime
