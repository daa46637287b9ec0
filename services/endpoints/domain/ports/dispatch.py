"""What delivering an event asks of the store: who wants it, what it was given to, and the runs that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from services.endpoints.domain.event import EventState, PayloadType
    from services.endpoints.domain.invocation import InvokedDispatcher
    from services.endpoints.domain.queue_job import Priority
    from services.endpoints.domain.run import InvocationState, Run, RunState


class EventKind(NamedTuple):
    """What dispatchers listen to."""

    environment_id: UUID
    name: str
    source: str


class InvocationKey(NamedTuple):
    """An event and the dispatcher it was given to; sorted as their rows are locked."""

    event_record_id: UUID
    dispatcher_id: UUID


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event that waits to be delivered, without what it says. `account_id` is the id of the account's row."""

    id: UUID
    event_id: str
    kind: EventKind
    account_id: UUID | None
    payload_type: PayloadType
    priority: Priority


@dataclass(frozen=True, slots=True)
class EventContent:
    """What an event says, as it came."""

    payload_json: str
    context_json: str


@dataclass(frozen=True, slots=True)
class Listener:
    """A dispatcher that listens to some kind of event; its filters are hardly longer than `filter_bytes`."""

    dispatcher_id: UUID
    account_id: UUID | None
    filter_bytes: int


@dataclass(frozen=True, slots=True)
class StoredFilters:
    """What a dispatcher asks of events: JSON texts that may no longer be filters."""

    payload_filter_json: str
    context_filter_json: str


@dataclass(frozen=True, slots=True)
class NewInvocation:
    """An event for a dispatcher, and the queue job that will carry it."""

    key: InvocationKey
    queue_job_id: UUID


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A run to make unless there is one of its event, dispatcher and version; its version decides the rest."""

    id: UUID
    key: InvocationKey
    job_id: UUID
    version_id: UUID


@dataclass(frozen=True, slots=True)
class InvocationOutcome:
    """What became of an invocation; `runs` were made now."""

    key: InvocationKey
    state: InvocationState
    runs: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any. The times are half-open: `from` is in, `before` is not."""

    environment_id: UUID
    job_slug: str | None = None
    event_record_id: UUID | None = None
    state: RunState | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Dispatch(Protocol):
    """Statements that deliver events, invoke dispatchers and keep runs.

    Every state change repeats the state it expects.
    """

    async def lock_events(self, event_record_ids: Collection[UUID]) -> None:
        """Lock events by id."""
        ...

    async def read_event_states(self, event_record_ids: Collection[UUID]) -> Mapping[UUID, EventState]:
        """Read how far events are; those that are gone are left out."""
        ...

    async def read_pending(self, event_record_ids: Collection[UUID]) -> Mapping[UUID, PendingEvent]:
        """Read those of the events that are PENDING."""
        ...

    async def read_contents(self, event_record_ids: Collection[UUID]) -> Mapping[UUID, EventContent]:
        """Read what events say."""
        ...

    async def find_listeners(
        self, kinds: Collection[EventKind], account_ids: Collection[UUID]
    ) -> Mapping[EventKind, Sequence[Listener]]:
        """Read, in one statement, the dispatchers that listen to each kind, by id: enabled, and not manual.

        Left out are those of other accounts than these, but not those of no account. Kinds must differ.
        """
        ...

    async def read_filters(self, dispatcher_ids: Collection[UUID]) -> Mapping[UUID, StoredFilters]:
        """Read the filters of dispatchers, whole; those that are gone are left out."""
        ...

    async def insert_invocations(self, invocations: Sequence[NewInvocation]) -> list[NewInvocation]:
        """Write invocations; return, in the order given, those that were not there yet."""
        ...

    async def mark_delivered(self, matches: Mapping[UUID, int]) -> None:
        """Make PENDING events DELIVERED, each with the number of dispatchers that wanted it."""
        ...

    async def fail_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make PENDING events FAILED."""
        ...

    async def cancel_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make PENDING events CANCELLED."""
        ...

    async def reopen_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make FAILED events PENDING."""
        ...

    async def lock_invocations(self, keys: Collection[InvocationKey]) -> Mapping[InvocationKey, InvocationState]:
        """Lock invocations by key and return their states, read after the locks; those that are gone are left out."""
        ...

    async def read_dispatchers(self, dispatcher_ids: Collection[UUID]) -> Mapping[UUID, InvokedDispatcher]:
        """Read dispatchers with what they start now; those that are gone are left out."""
        ...

    async def hold_endpoints(self, endpoint_ids: Collection[UUID]) -> set[UUID]:
        """Lock endpoints against their deletion without waiting for any; those that are being deleted are left out."""
        ...

    async def make_runs(self, wanted: Sequence[WantedRun]) -> Mapping[InvocationKey, int]:
        """Write the runs that are missing, numbered in this order, and return how many of each invocation.

        The numbers of a job have no gaps: its counter is locked until the transaction ends, and what rolls back takes
        no number. The invocations are locked, and the endpoints held: their deletion takes its locks the other way.
        """
        ...

    async def settle_invocations(self, outcomes: Sequence[InvocationOutcome]) -> None:
        """End PENDING invocations that are locked; the runs made now are added to those made before."""
        ...

    async def reopen_invocations(self, keys: Collection[InvocationKey]) -> None:
        """Make ended invocations PENDING that are locked."""
        ...

    async def get_run(self, run_id: UUID) -> Run | None:
        """Read one run."""
        ...

    async def list_runs(self, wanted: RunFilter, *, limit: int, before: UUID | None) -> list[Run]:
        """Read runs, newest first; those with an id smaller than `before`."""
        ...

    async def delete_old_events(self, *, older_than: timedelta, limit: int) -> int:
        """Delete events that ended long enough ago, with their invocations and runs.

        At most `limit` rows of each table go; events with an invocation that is still PENDING stay. Returns how many
        rows went, of all tables together.
        """
        ...

    async def delete_runs(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete at most `limit` runs that would go with an endpoint; return False once there may be no more.

        Those are its own, and those of the versions that it offers, which another endpoint may have offered before.
        """
        ...
