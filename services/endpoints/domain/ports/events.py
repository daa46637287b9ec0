"""What operations ask of the events that were taken in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from services.endpoints.domain.event import Event, EventState, NewEvent


@dataclass(frozen=True, slots=True)
class EventToWrite:
    """An event with all its ids; `event_id` is the sender's or one made for it, `lane` that of its delivery."""

    id: UUID
    event_id: str
    queue_job_id: UUID
    lane: str
    content: NewEvent


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list has; None takes all. Times are of `created_at`, the second one excluded."""

    environment_id: UUID
    name: str | None = None
    source: str | None = None
    state: EventState | None = None
    account: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """An event that is to be sent once more; its payload and context take `bytes` where they are stored."""

    id: UUID
    event_id: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ReplayToWrite:
    """A replay with all its ids."""

    id: UUID
    event_id: str
    queue_job_id: UUID
    lane: str
    original: Original


class Events(Protocol):
    """Statements on event records. Every state change repeats the state it expects."""

    async def add_accounts(self, environment_id: UUID, accounts: Sequence[tuple[UUID, str]]) -> None:
        """Insert the accounts, an id for each identifier, that the environment does not have; touch no other."""
        ...

    async def write(self, environment_id: UUID, events: Sequence[EventToWrite], *, max_attempts: int) -> list[Event]:
        """Insert events, each with the queue job that delivers it, in one statement; return those it inserted.

        Left out are events whose event id is taken, and all when there is no such environment. An event and its queue
        job have the same time, by the database's clock. Event ids must differ; accounts must be there.
        """
        ...

    async def get(self, event_record_id: UUID) -> Event | None:
        """Read one event by its id."""
        ...

    async def find(self, environment_id: UUID, event_ids: Sequence[str]) -> list[Event]:
        """Read events by their event ids."""
        ...

    async def read_sizes(self, environment_id: UUID, event_ids: Sequence[str]) -> Mapping[str, int]:
        """Read how many bytes, or hardly more, the payloads and contexts of events have, by their event ids."""
        ...

    async def lock(self, event_record_id: UUID) -> None:
        """Lock one event, if it is still there, whose queue job this transaction has locked."""
        ...

    async def replace(self, event_record_id: UUID, content: NewEvent) -> datetime | None:
        """Give a locked event other content and another time, and return that; None when it is no longer to come."""
        ...

    async def list_events(self, wanted: EventFilter, *, limit: int, before: UUID | None) -> list[Event]:
        """Read events without payloads, newest first; `before` is the id of the last one seen."""
        ...

    async def of_ids(self, environment_id: UUID, event_record_ids: Sequence[UUID]) -> list[Original]:
        """Read which of these an environment has, oldest first."""
        ...

    async def matching(self, wanted: EventFilter, *, limit: int) -> list[Original]:
        """Read which events match, oldest first; both times must be given."""
        ...

    async def replay(self, environment_id: UUID, replays: Sequence[ReplayToWrite], *, max_attempts: int) -> None:
        """Insert copies of events, due now, each with its queue job; originals that are gone are left out."""
        ...

    async def between(self, environment_id: UUID, first: UUID, last: UUID) -> list[Event]:
        """Read the events with ids from `first` to `last`, without payloads, by id."""
        ...
