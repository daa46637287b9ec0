"""Delivers events: finds the dispatchers that want each and asks for their invocation."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.catalog import INVOKE_DISPATCHER, new_queue_job
from services.endpoints.domain.filter import FilterError, compiled_filter, event_subject, rule_matches
from services.endpoints.domain.json_text import JsonTextError, parse_json
from services.endpoints.domain.lanes import event_lane
from services.endpoints.domain.ports.dispatch import InvocationKey, NewInvocation
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.operations.dispatch_args import delivered_event, invocation_args, required
from services.endpoints.operations.fair_shares import in_turns
from services.endpoints.operations.handlers import Left
from services.endpoints.operations.parts import in_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.filter import Filter
    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.dispatch import EventContent, Listener, PendingEvent, StoredFilters
    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.observer import DispatchObserver
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import NewQueueJob, QueueJob

_log = structlog.get_logger(__name__)

MAX_INVOCATIONS_AT_ONCE: Final = 10_000
MAX_TESTS_AT_ONCE: Final = 50_000
MAX_FILTER_BYTES_AT_ONCE: Final = 16 * 1024 * 1024
_CONTENTS_READ_TOGETHER: Final = 20
_CHARACTERS_COMPILED_AT_ONCE: Final = 100_000
_CHARACTERS_PER_RULE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one dispatcher asks of an event."""

    dispatcher_id: UUID
    payload_filter: Filter
    context_filter: Filter

    @property
    def asks(self) -> bool:
        return not (self.payload_filter.is_empty and self.context_filter.is_empty)


@dataclass(slots=True)
class _Listeners:
    """Who listens to one kind of event: those for everybody's events, and those for the events of one account only."""

    of_all: list[Listener] = field(default_factory=list)
    of_account: defaultdict[UUID, list[Listener]] = field(default_factory=lambda: defaultdict(list))

    def for_event(self, event: PendingEvent) -> Sequence[Listener]:
        own = self.of_account.get(event.account_id) if event.account_id is not None else None
        return [*self.of_all, *own] if own else self.of_all


class DeliverEvent:
    """The handler of `deliverEvent`."""

    def __init__(
        self,
        *,
        new_id: NewId,
        observer: DispatchObserver,
        max_invocations: int = MAX_INVOCATIONS_AT_ONCE,
        max_filter_bytes: int = MAX_FILTER_BYTES_AT_ONCE,
        max_attempts: int = INVOKE_DISPATCHER.max_attempts,
    ) -> None:
        """Hold the ports; one transaction asks for little more than `max_invocations`, each with `max_attempts`.

        Filters are held together while they have at most `max_filter_bytes`, or one dispatcher's if these are longer.
        """
        self._max_attempts = max_attempts
        self._new_id = new_id
        self._observer = observer
        self._max_invocations = max_invocations
        self._max_filter_bytes = max_filter_bytes

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> Sequence[Left]:
        """Give the events that are still PENDING to all dispatchers that want them, and mark them DELIVERED.

        What would make the transaction long is left: an event is begun only while few invocations came of those before.

        Raises:
            AttemptFailedError: the args do not name an event, or its content cannot be read.
        """
        event_ids = [required(delivered_event(queue_job.args)) for queue_job in queue_jobs]
        await tx.dispatch.lock_events(event_ids)
        pending = await tx.dispatch.read_pending(event_ids)
        events = [pending[event_id] for event_id in dict.fromkeys(event_ids) if event_id in pending]
        if not events:
            return ()
        matches = await self._match(tx, events)
        traces = {event_id: queue_job.trace_context for event_id, queue_job in zip(event_ids, queue_jobs, strict=True)}
        await self._give(tx, [event for event in events if event.id in matches], matches, traces)
        left = pending.keys() - matches.keys()
        return [Left(queue_job) for queue_job, event_id in zip(queue_jobs, event_ids, strict=True) if event_id in left]

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """End the events that will not be delivered: FAILED after the last attempt, CANCELLED by an operator."""
        ended = {state: _events_of(queue_jobs, state) for state in (QueueJobState.DISCARDED, QueueJobState.CANCELLED)}
        event_ids = [event_id for of_state in ended.values() for event_id in of_state]
        if not event_ids:
            return
        await tx.dispatch.lock_events(event_ids)
        if discarded := ended[QueueJobState.DISCARDED]:
            await tx.dispatch.fail_events(discarded)
        if cancelled := ended[QueueJobState.CANCELLED]:
            await tx.dispatch.cancel_events(cancelled)

    async def _match(self, tx: Transaction, events: Sequence[PendingEvent]) -> dict[UUID, list[UUID]]:
        """Return the dispatchers that want each event, for one event and as many more as are quickly done."""
        begun = _begun(await _with_listeners(tx, events))
        matches: dict[UUID, list[UUID]] = {event.id: [] for event, _ in begun}
        filters = {each.dispatcher_id: each.filter_bytes for _, listeners in begun for each in listeners}
        for part in in_parts(filters, size=filters.__getitem__, most=self._max_filter_bytes):
            rules = await self._read_rules(tx, part)
            for start in range(0, len(begun), _CONTENTS_READ_TOGETHER):
                some = [
                    (event, [rules[each.dispatcher_id] for each in listeners if each.dispatcher_id in rules])
                    for event, listeners in begun[start : start + _CONTENTS_READ_TOGETHER]
                ]
                await _ask(tx, some, matches)
        return self._first(matches)

    async def _read_rules(self, tx: Transaction, dispatcher_ids: Sequence[UUID]) -> dict[UUID, _Rule]:
        """Return what dispatchers ask, ready to be asked; filters that cannot be read are reported and left out."""
        stored = await tx.dispatch.read_filters(dispatcher_ids)
        rules: dict[UUID, _Rule] = {}
        characters = 0
        for dispatcher_id, filters in stored.items():
            if rule := _rule(dispatcher_id, filters):
                rules[dispatcher_id] = rule
            characters += len(filters.payload_filter_json) + len(filters.context_filter_json) + _CHARACTERS_PER_RULE
            if characters >= _CHARACTERS_COMPILED_AT_ONCE:
                await asyncio.sleep(0)
                characters = 0
        if unreadable := len(stored) - len(rules):
            tx.after_commit(lambda: self._observer.count_unreadable_filters(unreadable))
        return rules

    def _first(self, matches: dict[UUID, list[UUID]]) -> dict[UUID, list[UUID]]:
        """Return the first event, and as many more as one transaction has room for."""
        invocations = 0
        for place, wanting in enumerate(matches.values()):
            invocations += len(wanting)
            if place and invocations > self._max_invocations:
                return dict(list(matches.items())[:place])
        return matches

    async def _give(
        self,
        tx: Transaction,
        events: Sequence[PendingEvent],
        matches: Mapping[UUID, Sequence[UUID]],
        traces: Mapping[UUID, str | None],
    ) -> None:
        """Ask for the invocations, each once whatever happened before, and mark the events."""
        invocations = [
            NewInvocation(InvocationKey(event.id, dispatcher_id), self._new_id())
            for event in events
            for dispatcher_id in matches[event.id]
        ]
        by_id = {event.id: event for event in events}
        written = await tx.dispatch.insert_invocations(invocations)
        await tx.ledger.enqueue(
            [
                self._invocation(one, by_id[one.key.event_record_id], traces.get(one.key.event_record_id))
                for one in written
            ]
        )
        tx.after_commit(lambda: self._observer.count_delivered(len(events), invocations=len(written)))
        await tx.dispatch.mark_delivered({event.id: len(matches[event.id]) for event in events})

    def _invocation(self, invocation: NewInvocation, event: PendingEvent, trace_context: str | None) -> NewQueueJob:
        return new_queue_job(
            INVOKE_DISPATCHER,
            invocation_args(invocation.key),
            queue_job_id=invocation.queue_job_id,
            lane=event_lane(event.kind.environment_id, event.event_id),
            environment_id=event.kind.environment_id,
            max_attempts=self._max_attempts,
            priority=event.priority,
            trace_context=trace_context,
        )


def _events_of(queue_jobs: Sequence[FinalQueueJob], state: QueueJobState) -> list[UUID]:
    events = [delivered_event(queue_job.args) for queue_job in queue_jobs if queue_job.state is state]
    return [event_id for event_id in events if event_id is not None]


async def _with_listeners(
    tx: Transaction, events: Sequence[PendingEvent]
) -> Iterator[tuple[PendingEvent, Sequence[Listener]]]:
    """Return events in the order in which they are begun, each with the dispatchers that listen to it."""
    found = await tx.dispatch.find_listeners(
        {event.kind for event in events}, {event.account_id for event in events if event.account_id is not None}
    )
    listening = {kind: _Listeners() for kind in found}
    for kind, of_kind in found.items():
        for listener in of_kind:
            if listener.account_id is None:
                listening[kind].of_all.append(listener)
            else:
                listening[kind].of_account[listener.account_id].append(listener)
    turns = in_turns(
        events,
        owner=lambda event: event.kind.environment_id,
        size=lambda event: len(listening[event.kind].for_event(event)),
    )
    return ((event, listening[event.kind].for_event(event)) for event in turns)


def _begun(
    events: Iterable[tuple[PendingEvent, Sequence[Listener]]],
) -> list[tuple[PendingEvent, Sequence[Listener]]]:
    """Return the first event, and as many more as are tested quickly."""
    begun: list[tuple[PendingEvent, Sequence[Listener]]] = []
    tests = 0
    for event, listeners in events:
        if begun and tests > MAX_TESTS_AT_ONCE:
            break
        begun.append((event, listeners))
        tests += len(listeners)
    return begun


async def _ask(
    tx: Transaction, some: Sequence[tuple[PendingEvent, Sequence[_Rule]]], matches: Mapping[UUID, list[UUID]]
) -> None:
    """Add to the matches of each event the dispatchers whose rules it meets."""
    asked = [event.id for event, wishes in some if any(rule.asks for rule in wishes)]
    contents = await tx.dispatch.read_contents(asked) if asked else {}
    for event, wishes in some:
        subject = _subject(event, contents[event.id]) if event.id in contents else {}
        matches[event.id].extend(
            rule.dispatcher_id for rule in wishes if rule_matches(rule.payload_filter, rule.context_filter, subject)
        )


def _rule(dispatcher_id: UUID, filters: StoredFilters) -> _Rule | None:
    try:
        return _Rule(
            dispatcher_id,
            compiled_filter(filters.payload_filter_json),
            compiled_filter(filters.context_filter_json),
        )
    except FilterError as error:
        _log.warning("dispatcher_filter_unreadable", dispatcher_id=str(dispatcher_id), problem=error.problem)
        return None


def _subject(event: PendingEvent, content: EventContent) -> JsonObject | None:
    try:
        return event_subject(parse_json(content.payload_json), parse_json(content.context_json), event.payload_type)
    except JsonTextError as error:
        raise AttemptFailedError(
            f"The content of the event cannot be read: {error.reason}",
            reason=AttemptReason.UNREADABLE_CONTENT,
            is_retryable=False,
        ) from error
