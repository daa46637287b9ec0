"""What callers do with events: send, read, cancel and replay."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.catalog import DELIVER_EVENT
from services.endpoints.domain.errors import (
    ConflictError,
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    NotFoundError,
    Reason,
)
from services.endpoints.domain.event import Event, EventState
from services.endpoints.domain.event_content import differing_fields
from services.endpoints.domain.identifiers import consecutive_ids
from services.endpoints.domain.lanes import event_lane
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.events import EventToWrite
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.operations.authorization import (
    acting_environment,
    environment_or_own,
    require_environment,
    require_owner,
)
from services.endpoints.operations.parts import in_parts
from services.endpoints.operations.replays import EVENTS_ARE_KEPT, replay_events
from services.endpoints.operations.shared_reads import SharedReads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.event import NewEvent
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.events import EventFilter
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.tenancy import Environment, Principal
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.replays import Replayed, ReplayEvents

_CANCELLED_WITH_EVENT: Final = "The event was cancelled."
_ATTEMPTS: Final = 3
_COMPARED_AT_ONCE: Final = 50
_MAX_BYTES_COMPARED_AT_ONCE: Final = 4 * 1024 * 1024
_TRY_AGAIN_AFTER: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class EventLookup:
    """Which event is meant: by `id`, or by `event_id` in an environment; None is the API key's own."""

    id: UUID | None = None
    event_id: str = ""
    environment_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class SentEvent:
    """What became of an event: written, replaced, or there already."""

    event: Event
    created: bool
    updated: bool = False


class EventOperations:
    """What callers do with events: send, read, cancel and replay."""

    def __init__(
        self,
        *,
        store: Store,
        new_id: NewId,
        finality: Finality,
        max_attempts: int = DELIVER_EVENT.max_attempts,
        kept_for: timedelta = EVENTS_ARE_KEPT,
    ) -> None:
        """Hold the ports, how many attempts a delivery has and for how long events are there to be replayed."""
        self._store = store
        self._finality = finality
        self._max_attempts = max_attempts
        self._kept_for = kept_for
        self._new_id = new_id
        self._environments: SharedReads[UUID, Environment | None] = SharedReads()

    async def send(
        self, principal: Principal, environment_id: UUID | None, content: NewEvent, *, update_if_pending: bool = False
    ) -> SentEvent:
        """Take in one event: the record and the queue job of its delivery, in one transaction.

        The same content again returns the first event. Other content replaces that of an event which is not yet due,
        when `update_if_pending` says so.

        Raises:
            NotFoundError: there is no such environment for this principal.
            KongflowError: ALREADY_EXISTS, the event id is taken by other content.
        """
        wanted = await self._admitted(principal, environment_id)
        event = _to_write(wanted, content, self._new_id(), self._new_id())
        for _ in range(_ATTEMPTS):
            if written := await self._write_one(wanted, event):
                return SentEvent(written, created=True)
            async with self._store.reading(Pool.CALLERS) as tx:
                found = await tx.events.find(wanted, [event.event_id])
                if not found and await tx.tenancy.get_environment(wanted) is None:
                    raise NotFoundError("environment", str(wanted))
            if found:
                return await self._compared(found[0], content, update_if_pending=update_if_pending)
        raise _vanishing(event.event_id)

    async def send_many(
        self, principal: Principal, environment_id: UUID | None, contents: Sequence[NewEvent]
    ) -> list[SentEvent]:
        """Take in up to 1,000 events, all or none; answers are in their order, those of older events without payloads.

        Raises:
            InvalidRequestError: two of one event id differ.
            NotFoundError: there is no such environment for this principal.
            KongflowError: ALREADY_EXISTS, an event id is taken by other content; `index` is in the metadata.
        """
        wanted = await self._admitted(principal, environment_id)
        ids = consecutive_ids(self._new_id(), len(contents))
        queue_job_ids = consecutive_ids(self._new_id(), len(contents))
        events: dict[str, EventToWrite] = {}
        places: dict[str, int] = {}
        order = []
        violations = []
        for index, (content, *new_ids) in enumerate(zip(contents, ids, queue_job_ids, strict=True)):
            event = _to_write(wanted, content, *new_ids)
            first = events.setdefault(event.event_id, event)
            places.setdefault(event.event_id, index)
            order.append(first)
            if first is not event and (differs := differing_fields(content, first.content)):
                description = f"must be sent once, or with the same content: {', '.join(differs)} differ"
                violations.append(FieldViolation(f"events[{index}].event_id", description))
        if violations:
            raise InvalidRequestError(violations)

        async def work(tx: Transaction) -> list[SentEvent]:
            await self._add_accounts(tx, wanted, contents)
            written = await tx.events.write(wanted, list(events.values()), max_attempts=self._max_attempts)
            sent = {event.event_id: SentEvent(event, created=True) for event in written}
            if taken := {event_id: places[event_id] for event_id in events if event_id not in sent}:
                sizes = await tx.events.read_sizes(wanted, list(taken))
                if not sent and not sizes and await tx.tenancy.get_environment(wanted) is None:
                    raise NotFoundError("environment", str(wanted))
                for part in in_parts(taken, size=lambda each: sizes.get(each, 0), most=_MAX_BYTES_COMPARED_AT_ONCE):
                    found = {event.event_id: event for event in await tx.events.find(wanted, part)}
                    sent |= await _same({event_id: taken[event_id] for event_id in part}, found, contents)
            return [sent[event.event_id] for event in order]

        return await self._store.transact(work)

    async def get(self, principal: Principal, lookup: EventLookup) -> Event:
        """Return one event.

        Raises:
            NotFoundError: there is none for this principal, or no such environment.
        """
        async with self._store.reading() as tx:
            return await owned_event(tx, principal, lookup)

    async def list_events(self, principal: Principal, wanted: EventFilter, page: PageRequest) -> Page[Event]:
        """Return events without payloads, newest first.

        Raises:
            NotFoundError: there is no such environment for this principal.
        """
        await self._admitted(principal, wanted.environment_id)
        async with self._store.reading(Pool.LISTS) as tx:
            before = UUID(page.after) if page.after else None
            rows = await tx.events.list_events(wanted, limit=page.limit, before=before)
        return page_of(rows, page, lambda event: str(event.id))

    async def cancel(self, principal: Principal, lookup: EventLookup) -> Event:
        """Cancel an event that was not delivered, and the queue job that would deliver it; repeating changes nothing.

        Raises:
            NotFoundError: there is none for this principal, or no such environment.
            KongflowError: WRONG_STATE, it was delivered or failed.
        """

        async def work(tx: Transaction) -> Event:
            event = await owned_event(tx, principal, lookup)
            cancelled = await tx.ledger.cancel([event.queue_job_id], message=_CANCELLED_WITH_EVENT)
            await self._finality.settle(tx, cancelled)
            current = await owned_event(tx, principal, EventLookup(id=event.id))
            if current.state is not EventState.CANCELLED:
                raise _not_to_cancel(current)
            return current

        return await self._store.transact(work)

    async def replay(self, principal: Principal, request: ReplayEvents) -> Replayed:
        """Send events once more, all or none.

        Raises:
            NotFoundError: there is no such environment for this principal, or it lacks one of the events.
            InvalidRequestError: the request id was used for another request.
            KongflowError: OUT_OF_RANGE, it is about a time before that for which events are kept.
        """
        wanted = await self._admitted(principal, request.environment_id)
        return await self._store.transact(
            lambda tx: replay_events(
                tx,
                principal,
                wanted,
                request,
                new_id=self._new_id,
                max_attempts=self._max_attempts,
                kept_for=self._kept_for,
            )
        )

    async def _admitted(self, principal: Principal, environment_id: UUID | None) -> UUID:
        """Return the environment that a request is about, when the principal may act in it."""
        wanted = environment_or_own(principal, environment_id)
        if wanted == principal.environment_id:
            return wanted

        async def read() -> Environment | None:
            async with self._store.reading() as tx:
                return await tx.tenancy.known_environment(wanted)

        return require_environment(principal, await self._environments.read(wanted, read), name=wanted).id

    async def _write_one(self, environment_id: UUID, event: EventToWrite) -> Event | None:
        """Write an event in as few round trips as it takes: one, when it has no account."""

        async def write(tx: Transaction) -> Event | None:
            written = await tx.events.write(environment_id, [event], max_attempts=self._max_attempts)
            return written[0] if written else None

        async def write_with_account(tx: Transaction) -> Event | None:
            await self._add_accounts(tx, environment_id, [event.content])
            return await write(tx)

        if event.content.account is None:
            return await self._store.in_one_statement(write)
        return await self._store.transact(write_with_account)

    async def _add_accounts(self, tx: Transaction, environment_id: UUID, contents: Sequence[NewEvent]) -> None:
        identifiers = sorted({content.account for content in contents if content.account is not None})
        await tx.events.add_accounts(environment_id, [(self._new_id(), identifier) for identifier in identifiers])

    async def _compared(self, first: Event, content: NewEvent, *, update_if_pending: bool) -> SentEvent:
        differs = differing_fields(content, first)
        if not differs:
            return SentEvent(first, created=False)
        if not update_if_pending:
            raise _taken(first, differs)
        return await self._store.transact(lambda tx: self._replace(tx, first, content))

    async def _replace(self, tx: Transaction, first: Event, content: NewEvent) -> SentEvent:
        queue_job = await tx.ledger.lock_queue_job(first.queue_job_id)
        await self._add_accounts(tx, first.environment_id, [content])
        await tx.events.lock(first.id)
        current = await tx.events.get(first.id)
        if current is None:
            raise _vanishing(first.event_id)
        differs = differing_fields(content, current)
        if not differs:
            return SentEvent(current, created=False)
        if queue_job is None or queue_job.state is not QueueJobState.SCHEDULED:
            raise _taken(current, differs)
        deliver_at = await tx.events.replace(first.id, content)
        if deliver_at is None:
            raise _taken(current, differs)
        await tx.ledger.move(queue_job.id, run_at=deliver_at, priority=content.priority)
        replaced = await tx.events.get(first.id)
        return SentEvent(replaced or current, created=False, updated=True)


async def owned_event(tx: Transaction, principal: Principal, lookup: EventLookup) -> Event:
    """Return the event that is looked up, when the principal may act on it.

    Raises:
        NotFoundError: there is none for this principal, or no such environment.
        KongflowError: PERMISSION_DENIED, it belongs to another environment of the principal's own organization.
    """
    name = str(lookup.id or lookup.event_id)
    if lookup.id is not None:
        event = await tx.events.get(lookup.id)
    else:
        wanted = (await acting_environment(tx, principal, lookup.environment_id)).id
        event = next(iter(await tx.events.find(wanted, [lookup.event_id])), None)
    environment = await tx.tenancy.known_environment(event.environment_id) if event is not None else None
    if event is None or environment is None:
        raise NotFoundError("event", name)
    require_owner(
        principal,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        resource="event",
        name=name,
    )
    return event


def _to_write(environment_id: UUID, content: NewEvent, event_record_id: UUID, queue_job_id: UUID) -> EventToWrite:
    event_id = content.event_id or str(event_record_id)
    return EventToWrite(
        id=event_record_id,
        event_id=event_id,
        queue_job_id=queue_job_id,
        lane=event_lane(environment_id, event_id),
        content=content,
    )


async def _same(
    places: Mapping[str, int], found: Mapping[str, Event], contents: Sequence[NewEvent]
) -> dict[str, SentEvent]:
    """Return the events that were there, without what they say, checking that they say what was sent at each place."""
    same: dict[str, SentEvent] = {}
    for count, (event_id, index) in enumerate(places.items()):
        first = found.get(event_id)
        if first is None:
            raise _vanishing(event_id)
        if count % _COMPARED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if differs := differing_fields(contents[index], first):
            raise _taken(first, differs, index=index)
        same[event_id] = SentEvent(replace(first, payload_json=None, context_json=None), created=False)
    return same


def _taken(first: Event, differs: Sequence[str], *, index: int | None = None) -> KongflowError:
    metadata = {"resource": "event", "name": first.event_id, "id": str(first.id), "differs": ",".join(differs)}
    if index is not None:
        metadata["index"] = str(index)
    return KongflowError(
        f"There is an event {first.event_id!r} already, with other content: {', '.join(differs)}.",
        reason=Reason.ALREADY_EXISTS,
        metadata=metadata,
    )


def _vanishing(event_id: str) -> ConflictError:
    return ConflictError(f"The event {event_id!r} was deleted meanwhile; try again.", retry_after=_TRY_AGAIN_AFTER)


def _not_to_cancel(event: Event) -> KongflowError:
    return KongflowError(
        f"The event is {event.state.value}: there is nothing left to cancel.",
        reason=Reason.WRONG_STATE,
        metadata={"resource": "event", "id": str(event.id), "state": event.state.value},
    )
