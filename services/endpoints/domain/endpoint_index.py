"""An endpoint index: one request to discover what an endpoint offers, with its result per item."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


class IndexSource(Enum):
    """Who asked for an index."""

    MANUAL = "MANUAL"
    API = "API"
    INTERNAL = "INTERNAL"
    HOOK = "HOOK"


class IndexState(Enum):
    """How far an index has come; the last three are final."""

    PENDING = "PENDING"
    FETCHING = "FETCHING"
    REGISTERING = "REGISTERING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return self in FINAL_INDEX_STATES


FINAL_INDEX_STATES: Final = frozenset({IndexState.SUCCEEDED, IndexState.PARTIALLY_SUCCEEDED, IndexState.FAILED})


# Stored as the reason of what an answer left out; by it alone such an item is told from one that is switched off.
ABSENT: Final = "The endpoint no longer offers it."


class ItemKind(Enum):
    """What sort of thing an index found."""

    JOB = "JOB"
    SOURCE = "SOURCE"
    DYNAMIC_TRIGGER = "DYNAMIC_TRIGGER"
    DYNAMIC_SCHEDULE = "DYNAMIC_SCHEDULE"
    WEBHOOK = "WEBHOOK"
    HTTP_ENDPOINT = "HTTP_ENDPOINT"


class ItemState(Enum):
    """What became of one thing that an index found."""

    PENDING = "PENDING"
    REGISTERED = "REGISTERED"
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    DISABLED = "DISABLED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class EndpointIndex:
    """One row of `endpoint_indexes`; `data` is left empty unless it was asked for.

    `stats` has the protocol's camelCase keys. `revision` grows with every visible change: a watch resumes from it.
    `pending_items` of `items` wait for their registration.
    """

    id: UUID
    endpoint_id: UUID
    state: IndexState
    stats: Mapping[str, int]
    data_json: str | None
    source: IndexSource
    source_data_json: str | None
    reason: str | None
    error: str | None
    sequence: int | None
    revision: int
    queue_job_id: UUID
    created_at: datetime
    updated_at: datetime
    items: int
    pending_items: int


@dataclass(frozen=True, slots=True)
class IndexOrigin:
    """Of which endpoint an index is, which queue job carries it, and when it was asked for."""

    endpoint_id: UUID
    queue_job_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointIndexItem:
    """What became of one item of an index; `ordinal` counts from 0 in the order of the answer."""

    index_id: UUID
    ordinal: int
    kind: ItemKind
    key: str
    version: str | None
    state: ItemState
    reason: str | None
    created_at: datetime
    updated_at: datetime
