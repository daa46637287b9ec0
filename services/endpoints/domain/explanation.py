"""Whether a dispatcher wants an event and if not, why not; and in one sentence what came of an event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from services.endpoints.domain.dispatcher import filter_problem
from services.endpoints.domain.event import EventState
from services.endpoints.domain.filter import compiled_filter, find_rule_failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.endpoints.domain.dispatcher import Dispatcher
    from services.endpoints.domain.event import Event
    from services.endpoints.domain.filter import FilterFailure
    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.run import Invocation


class Verdict(Enum):
    """Whether a dispatcher wants an event; when several reasons speak against it, the first of these counts."""

    MANUAL = "MANUAL"
    DISABLED = "DISABLED"
    OTHER_SOURCE = "OTHER_SOURCE"
    OTHER_ACCOUNT = "OTHER_ACCOUNT"
    UNREADABLE_FILTER = "UNREADABLE_FILTER"
    UNREADABLE_PAYLOAD = "UNREADABLE_PAYLOAD"
    FILTERED = "FILTERED"
    MATCHED = "MATCHED"


@dataclass(frozen=True, slots=True)
class JudgedEvent:
    """What dispatchers look at; `subject` is what `event_subject` made of the content."""

    name: str
    source: str
    account: str | None
    subject: JsonObject | None


@dataclass(frozen=True, slots=True)
class DispatcherExplanation:
    """What a dispatcher makes of an event; `failure` is given when it is FILTERED, `invocation` when it was told."""

    dispatcher: Dispatcher
    verdict: Verdict
    failure: FilterFailure | None = None
    invocation: Invocation | None = None


@dataclass(frozen=True, slots=True)
class InvocationCounts:
    """How many invocations of an event are in which state, and how many runs they made."""

    pending: int = 0
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    runs: int = 0


def judge(dispatcher: Dispatcher, event: JudgedEvent) -> tuple[Verdict, FilterFailure | None]:
    """Return whether a dispatcher that listens to the event's name wants it, and the first clause that failed."""
    if (unasked := _find_objection(dispatcher, event)) is not None:
        return unasked, None
    failure = find_rule_failure(
        compiled_filter(dispatcher.payload_filter_json), compiled_filter(dispatcher.context_filter_json), event.subject
    )
    if failure is None:
        return Verdict.MATCHED, None
    return (Verdict.UNREADABLE_PAYLOAD, None) if event.subject is None else (Verdict.FILTERED, failure)


def _find_objection(dispatcher: Dispatcher, event: JudgedEvent) -> Verdict | None:
    """Return what speaks against a dispatcher before its filters are asked; None when nothing does."""
    objections = {
        Verdict.MANUAL: dispatcher.is_manual,
        Verdict.DISABLED: not dispatcher.is_enabled,
        Verdict.OTHER_SOURCE: dispatcher.source != event.source,
        Verdict.OTHER_ACCOUNT: dispatcher.account is not None and dispatcher.account != event.account,
        Verdict.UNREADABLE_FILTER: filter_problem(dispatcher) is not None,
    }
    return next((verdict for verdict, holds in objections.items() if holds), None)


def summarize_event(
    event: Event, counts: InvocationCounts, verdicts: Sequence[Verdict], *, is_everyone: bool, is_due: bool
) -> str:
    """Return what came of a stored event.

    `is_everyone` tells whether `verdicts` are those of all dispatchers, and not of one page; `is_due` whether the time
    to deliver it has come.
    """
    match event.state:
        case EventState.CANCELLED:
            return f"It was cancelled at {_clock(event.cancelled_at)}, before it was delivered."
        case EventState.FAILED:
            return (
                f"Every attempt to deliver it failed: its queue job {event.queue_job_id} says why and can be retried."
            )
        case EventState.PENDING if not is_due:
            return f"It waits until {_clock(event.deliver_at)}, when it will be delivered."
        case EventState.PENDING:
            return "It is due and waits for its turn."
        case EventState.DELIVERED:
            return _summarize_delivery(event, counts, verdicts, is_everyone=is_everyone)


def _summarize_delivery(
    event: Event, counts: InvocationCounts, verdicts: Sequence[Verdict], *, is_everyone: bool
) -> str:
    if event.match_count:
        return f"It was given to {_so_many(event.match_count, 'dispatcher')}, {_came_of(counts)}."
    if not is_everyone:
        return f"It was delivered, and nothing ran: of those that listen to {event.name!r} none wanted it."
    return f"It was delivered, and nothing ran: {_listeners(event.name, event.source, verdicts)}."


def summarize_draft(event: JudgedEvent, verdicts: Sequence[Verdict], *, is_everyone: bool) -> str:
    """Return what would come of an event that is not stored; `is_everyone` tells whether all dispatchers were asked."""
    wanting = verdicts.count(Verdict.MATCHED)
    if not wanting:
        if not is_everyone:
            return f"None of the {_so_many(len(verdicts), 'dispatcher')} of this page would get it."
        return f"Nothing would run: {_listeners(event.name, event.source, verdicts)}."
    scope = f"listening to {event.name!r}" if is_everyone else "of this page"
    return f"It would be given to {wanting} of {_so_many(len(verdicts), 'dispatcher')} {scope}."


def summarize_duplicate(first: Event, differs: Sequence[str]) -> str:
    """Return what would come of sending an event whose event id is taken."""
    if differs:
        return f"Its event id is taken by an event with other content ({', '.join(differs)}): sending it is refused."
    return f"Its event id is taken: sending it returns the first event, which is {first.state.value}."


def _listeners(name: str, source: str, verdicts: Sequence[Verdict]) -> str:
    elsewhere = verdicts.count(Verdict.OTHER_SOURCE)
    if len(verdicts) > elsewhere:
        if len(verdicts) == 1:
            return f"the one dispatcher that listens to {name!r} does not want it"
        return f"none of the {len(verdicts)} dispatchers that listen to {name!r} wants it"
    nobody = f"nobody listens to {name!r} from the source {source!r}"
    return f"{nobody}, and {elsewhere} from another" if elsewhere else nobody


def _came_of(counts: InvocationCounts) -> str:
    made = f"which made {_so_many(counts.runs, 'run')}"
    others = ((counts.pending, "waiting"), (counts.skipped, "skipped"), (counts.failed, "failed"))
    told = ", ".join(f"{count} {word}" for count, word in others if count)
    return f"{made}; {told}" if told else made


def _so_many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
