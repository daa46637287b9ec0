"""EventService: validates, calls the operations, converts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import event_service_pb2 as messages
from kongflow.v1.event_service_pb2_grpc import EventServiceServicer

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.events import EventFilter
from services.endpoints.operations.authorization import environment_or_own
from services.endpoints.operations.events import EventLookup
from services.endpoints.operations.replays import MAX_REPLAYED, ReplayEvents
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert_events import event_message
from services.endpoints.rpc.convert_explanations import explanation_message
from services.endpoints.rpc.new_events import read_event_id, read_new_event
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from services.endpoints.domain.event import NewEvent
    from services.endpoints.operations.events import EventOperations
    from services.endpoints.operations.explanations import EventExplanations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]
    Looking = messages.GetEventRequest | messages.CancelEventRequest | messages.ExplainEventRequest
    Ranged = messages.ListEventsRequest | messages.ReplayEventsRequest

MAX_EVENTS: Final = 1_000

_STATES: Final = enums.members(enums.EVENT_STATE)
_READ_AT_ONCE: Final = 50


class EventServicer(EventServiceServicer):
    """Serves events."""

    def __init__(
        self,
        *,
        operations: EventOperations,
        explanations: EventExplanations,
        paging: Paging,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._operations = operations
        self._explanations = explanations
        self._paging = paging
        self._clock = clock

    async def SendEvent(self, request: messages.SendEventRequest, context: Context) -> messages.SendEventResponse:
        """Take in one event."""
        checks = Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        event = read_new_event(checks, "event", request.event, now=self._clock())
        checks.finish()
        sent = await self._operations.send(
            current_principal(), environment_id, event, update_if_pending=request.update_if_pending
        )
        return messages.SendEventResponse(event=event_message(sent.event), created=sent.created, updated=sent.updated)

    async def SendEvents(self, request: messages.SendEventsRequest, context: Context) -> messages.SendEventsResponse:
        """Take in several events."""
        checks = Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        events = await self._new_events(checks, request)
        checks.finish()
        sent = await self._operations.send_many(current_principal(), environment_id, events)
        return messages.SendEventsResponse(
            events=[
                messages.SentEvent(id=str(each.event.id), event_id=each.event.event_id, created=each.created)
                for each in sent
            ]
        )

    async def GetEvent(self, request: messages.GetEventRequest, context: Context) -> messages.GetEventResponse:
        """Return one event."""
        event = await self._operations.get(current_principal(), _lookup(request))
        return messages.GetEventResponse(event=event_message(event))

    async def ListEvents(self, request: messages.ListEventsRequest, context: Context) -> messages.ListEventsResponse:
        """List events."""
        principal, checks = current_principal(), Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        created_from, created_before = _range(checks, request)
        wanted = EventFilter(
            environment_id=environment_id or NIL_UUID,
            name=checks.filter_text("name", request.name),
            source=checks.filter_text("source", request.source),
            state=checks.enum("state", request.state, _STATES),
            account=checks.filter_text("account_id", request.account_id),
            created_from=created_from,
            created_before=created_before,
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        wanted = replace(wanted, environment_id=environment_or_own(principal, environment_id))
        page = await self._operations.list_events(principal, wanted, asked)
        return messages.ListEventsResponse(
            events=map(event_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def CancelEvent(self, request: messages.CancelEventRequest, context: Context) -> messages.CancelEventResponse:
        """Cancel one event."""
        event = await self._operations.cancel(current_principal(), _lookup(request))
        return messages.CancelEventResponse(event=event_message(event))

    async def ReplayEvents(
        self, request: messages.ReplayEventsRequest, context: Context
    ) -> messages.ReplayEventsResponse:
        """Send events once more."""
        replayed = await self._operations.replay(current_principal(), _replay_request(request))
        return messages.ReplayEventsResponse(
            events=map(event_message, replayed.events), matched_count=replayed.matched, has_more=replayed.has_more
        )

    async def ExplainEvent(
        self, request: messages.ExplainEventRequest, context: Context
    ) -> messages.ExplainEventResponse:
        """Explain what came of an event, or what would."""
        principal, checks = current_principal(), Checks()
        asked = self._paging.request(checks, principal, request)
        if request.WhichOneof("lookup") == "draft":
            environment_id = checks.optional_uuid("environment_id", request.environment_id)
            draft = read_new_event(checks, "draft", request.draft, now=self._clock())
            checks.finish()
            explanation = await self._explanations.explain_draft(principal, environment_id, draft, asked)
        else:
            lookup = _read_lookup(checks, request)
            checks.finish()
            explanation = await self._explanations.explain(principal, lookup, asked)
        return explanation_message(
            explanation, next_page_token=self._paging.next_token(principal, request, explanation.dispatchers)
        )

    async def _new_events(self, checks: Checks, request: messages.SendEventsRequest) -> list[NewEvent]:
        """Read the events of a batch, a few at a time: the other callers wait meanwhile."""
        if not 1 <= len(request.events) <= MAX_EVENTS:
            checks.refuse("events", f"must be 1 to {MAX_EVENTS} events")
            return []
        now, events = self._clock(), []
        for index, event in enumerate(request.events):
            if index % _READ_AT_ONCE == _READ_AT_ONCE - 1:
                await asyncio.sleep(0)
            events.append(read_new_event(checks, f"events[{index}]", event, now=now))
        return events


def _lookup(request: Looking) -> EventLookup:
    checks = Checks()
    lookup = _read_lookup(checks, request)
    checks.finish()
    return lookup


def _read_lookup(checks: Checks, request: Looking) -> EventLookup:
    if request.WhichOneof("lookup") == "event_id":
        return EventLookup(
            event_id=read_event_id(checks, "event_id", request.event_id),
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
        )
    return EventLookup(id=checks.uuid("id", request.id))


def _range(checks: Checks, request: Ranged) -> tuple[datetime | None, datetime | None]:
    created_from = checks.time("created_from", request.created_from) if request.HasField("created_from") else None
    created_before = None
    if request.HasField("created_before"):
        created_before = checks.time("created_before", request.created_before)
    if created_from is not None and created_before is not None and created_before <= created_from:
        checks.refuse("created_before", "must be after created_from")
    return created_from, created_before


def _replay_request(request: messages.ReplayEventsRequest) -> ReplayEvents:
    checks = Checks()
    created_from, created_before = _range(checks, request)
    if len(request.ids) > MAX_REPLAYED:
        checks.refuse("ids", f"must be at most {MAX_REPLAYED} ids")
    ids = [checks.uuid(f"ids[{index}]", text) for index, text in enumerate(request.ids[:MAX_REPLAYED])]
    for field in ("created_from", "created_before"):
        if request.ids and request.HasField(field):
            checks.refuse(field, "must not be given with ids")
        elif not request.ids and not request.HasField(field):
            checks.refuse(field, "must be given without ids")
    for field in ("name", "source"):
        if request.ids and getattr(request, field):
            checks.refuse(field, "must not be given with ids")
    if not 0 <= request.max_count <= MAX_REPLAYED:
        checks.refuse("max_count", f"must be 0 to {MAX_REPLAYED}")
    wanted = ReplayEvents(
        environment_id=checks.optional_uuid("environment_id", request.environment_id),
        ids=tuple(dict.fromkeys(ids)),
        created_from=created_from,
        created_before=created_before,
        name=checks.filter_text("name", request.name),
        source=checks.filter_text("source", request.source),
        most=request.max_count or MAX_REPLAYED,
        validate_only=request.validate_only,
        request_id=checks.request_id("request_id", request.request_id),
    )
    checks.finish()
    return wanted
