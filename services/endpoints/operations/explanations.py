"""Says of an event which dispatchers want it, which do not and why, and what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.event import EventState
from services.endpoints.domain.event_content import differing_fields
from services.endpoints.domain.explanation import (
    DispatcherExplanation,
    JudgedEvent,
    judge,
    summarize_draft,
    summarize_duplicate,
    summarize_event,
)
from services.endpoints.domain.filter import event_subject
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.json_text import JsonTextError, parse_json
from services.endpoints.domain.page import Page, page_of
from services.endpoints.domain.ports.dispatchers import DispatcherFilter
from services.endpoints.operations.authorization import acting_environment
from services.endpoints.operations.events import owned_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.dispatcher import Dispatcher
    from services.endpoints.domain.event import Event, NewEvent
    from services.endpoints.domain.explanation import Verdict
    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.page import PageRequest
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.run import Invocation
    from services.endpoints.domain.tenancy import Principal
    from services.endpoints.operations.events import EventLookup

_JUDGED_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class EventExplanation:
    """What came of an event, or would; `event` is None for a draft whose event id is free."""

    event: Event | None
    summary: str
    dispatchers: Page[DispatcherExplanation]
    is_duplicate: bool = False


class EventExplanations:
    """Says of an event which dispatchers want it, which do not and why, and what came of it."""

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store

    async def explain(self, principal: Principal, lookup: EventLookup, page: PageRequest) -> EventExplanation:
        """Explain a stored event by the dispatchers of today.

        Raises:
            NotFoundError: there is no such event for this principal, or no such environment.
        """
        async with self._store.reading() as tx:
            event = await owned_event(tx, principal, lookup)
            listening = await _listening(tx, event.environment_id, event.name, page)
            told = await tx.explanations.invocations(event.id, [one.id for one in listening.items])
            counts = await tx.explanations.count_invocations(event.id)
            is_due = event.state is not EventState.PENDING or event.deliver_at <= await tx.ledger.now()
        subject = _subject(event)
        explained = await _explained(_judged(event, subject), listening.items, told)
        is_everyone = page.after is None and listening.next_after is None
        summary = summarize_event(event, counts, _verdicts(explained), is_everyone=is_everyone, is_due=is_due)
        return EventExplanation(event, summary, Page(explained, listening.next_after))

    async def explain_draft(
        self, principal: Principal, environment_id: UUID | None, draft: NewEvent, page: PageRequest
    ) -> EventExplanation:
        """Explain an event that is not stored, as it would be if it were sent now.

        Raises:
            NotFoundError: there is no such environment for this principal.
        """
        async with self._store.reading() as tx:
            wanted = (await acting_environment(tx, principal, environment_id)).id
            found = await tx.events.find(wanted, [draft.event_id]) if draft.event_id is not None else []
            listening = await _listening(tx, wanted, draft.name, page)
        judged = _judged(draft, _subject(draft))
        explained = await _explained(judged, listening.items, {})
        if found:
            summary = summarize_duplicate(found[0], differing_fields(draft, found[0]))
        else:
            is_everyone = page.after is None and listening.next_after is None
            summary = summarize_draft(judged, _verdicts(explained), is_everyone=is_everyone)
        return EventExplanation(
            next(iter(found), None), summary, Page(explained, listening.next_after), is_duplicate=bool(found)
        )


async def _listening(tx: Transaction, environment_id: UUID, event_name: str, page: PageRequest) -> Page[Dispatcher]:
    """Read a page of the dispatchers that listen to an event, of whatever source and state."""
    rows = await tx.dispatchers.list_dispatchers(
        DispatcherFilter(environment_id, event_name=event_name),
        limit=page.limit,
        after_id=UUID(page.after) if page.after else NIL_UUID,
    )
    return page_of(rows, page, lambda dispatcher: str(dispatcher.id))


def _judged(event: Event | NewEvent, subject: JsonObject | None) -> JudgedEvent:
    return JudgedEvent(name=event.name, source=event.source, account=event.account, subject=subject)


def _subject(event: Event | NewEvent) -> JsonObject | None:
    try:
        payload, context = parse_json(event.payload_json or "{}"), parse_json(event.context_json or "{}")
    except JsonTextError:
        return None
    return event_subject(payload, context, event.payload_type)


async def _explained(
    event: JudgedEvent, dispatchers: Sequence[Dispatcher], told: Mapping[UUID, Invocation]
) -> tuple[DispatcherExplanation, ...]:
    """Ask the dispatchers, a few at a time: the other callers wait meanwhile."""
    explained = []
    for place, dispatcher in enumerate(dispatchers):
        if place % _JUDGED_AT_ONCE == _JUDGED_AT_ONCE - 1:
            await asyncio.sleep(0)
        verdict, failure = judge(dispatcher, event)
        explained.append(DispatcherExplanation(dispatcher, verdict, failure, told.get(dispatcher.id)))
    return tuple(explained)


def _verdicts(explained: Sequence[DispatcherExplanation]) -> list[Verdict]:
    return [one.verdict for one in explained]
