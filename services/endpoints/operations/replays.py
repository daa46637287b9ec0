"""Sends events once more: each becomes a new event, through the dispatchers of today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.errors import KongflowError, NotFoundError, Reason
from services.endpoints.domain.identifiers import (
    MAX_CONSECUTIVE_IDS,
    consecutive_ids,
    first_of_consecutive,
    time_of_uuid7,
)
from services.endpoints.domain.lanes import event_lane
from services.endpoints.domain.ledger_settings import Retention
from services.endpoints.domain.ports.events import EventFilter, ReplayToWrite
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.operations.parts import in_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from services.endpoints.domain.event import Event
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.events import Original
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.tenancy import Principal

MAX_REPLAYED: Final = 1_000
MAX_BYTES_COPIED_AT_ONCE: Final = 16 * 1024 * 1024
EVENTS_ARE_KEPT: Final = Retention().events

_METHOD: Final = "ReplayEvents"
_MAX_EVENT_ID_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class ReplayEvents:
    """A request to send events once more: those of `ids`, or those of a time range that match; `most` is 1 to 1,000.

    Both times are given when there are no `ids`. Of a time range go as many as are copied at once.
    """

    environment_id: UUID | None
    ids: tuple[UUID, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None
    name: str | None = None
    source: str | None = None
    most: int = MAX_REPLAYED
    validate_only: bool = False
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The new events without payloads, oldest original first; `matched` counts them even when none was written."""

    events: tuple[Event, ...]
    matched: int
    has_more: bool


async def replay_events(
    tx: Transaction,
    principal: Principal,
    environment_id: UUID,
    request: ReplayEvents,
    *,
    new_id: NewId,
    max_attempts: int,
    kept_for: timedelta,
) -> Replayed:
    """Send events of an environment once more, all or none, each with `max_attempts` to deliver it.

    Raises:
        NotFoundError: the environment lacks one of the events.
        InvalidRequestError: the request id was used for another request.
        KongflowError: OUT_OF_RANGE, it is about a time before that for which events are kept.
    """
    if request.request_id is not None and not request.validate_only:
        first = await tx.requests.claim(principal.name, _METHOD, request.request_id, request_hash(request))
        if first is not None:
            has_more = await tx.requests.flag(principal.name, _METHOD, request.request_id)
            return await _replayed(tx, environment_id, first, has_more=has_more)
    originals, has_more = await _originals(tx, environment_id, request, kept_for)
    if request.validate_only:
        return Replayed((), len(originals), has_more=has_more)
    # Consecutive ids, so that the first one finds all of them again.
    first = first_of_consecutive(new_id())
    replays = _replays(environment_id, originals, first, new_id)
    for part in in_parts(replays, size=lambda replay: replay.original.bytes, most=MAX_BYTES_COPIED_AT_ONCE):
        await tx.events.replay(environment_id, part, max_attempts=max_attempts)
    if request.request_id is not None:
        await tx.requests.record(
            principal.name, _METHOD, request.request_id, request_hash(request), first, flag=has_more
        )
    return await _replayed(tx, environment_id, first, has_more=has_more)


async def _originals(
    tx: Transaction, environment_id: UUID, request: ReplayEvents, kept_for: timedelta
) -> tuple[Sequence[Original], bool]:
    """Return what is to be sent once more, oldest first, and whether there is more of it."""
    kept_from = await tx.ledger.now() - kept_for
    if request.ids:
        originals = await tx.events.of_ids(environment_id, request.ids)
        found = {original.id for original in originals}
        for event_record_id in request.ids:
            if event_record_id not in found:
                raise _absent(event_record_id, kept_from, kept_for)
        return originals, False
    if request.created_from is not None and request.created_from < kept_from:
        raise _too_old("created_from", request.created_from.isoformat(), kept_from, kept_for)
    wanted = EventFilter(
        environment_id,
        name=request.name,
        source=request.source,
        created_from=request.created_from,
        created_before=request.created_before,
    )
    matching = await tx.events.matching(wanted, limit=request.most + 1)
    parts = in_parts(matching[: request.most], size=lambda original: original.bytes, most=MAX_BYTES_COPIED_AT_ONCE)
    originals = next(parts, [])
    return originals, len(originals) < len(matching)


def _replays(environment_id: UUID, originals: Sequence[Original], first: UUID, new_id: NewId) -> list[ReplayToWrite]:
    replays = []
    ids = consecutive_ids(first, len(originals))
    queue_job_ids = consecutive_ids(new_id(), len(originals))
    for original, replay_id, queue_job_id in zip(originals, ids, queue_job_ids, strict=True):
        suffix = f":replay:{replay_id.hex}"
        event_id = original.event_id[: _MAX_EVENT_ID_CHARACTERS - len(suffix)] + suffix
        replays.append(
            ReplayToWrite(
                id=replay_id,
                event_id=event_id,
                queue_job_id=queue_job_id,
                lane=event_lane(environment_id, event_id),
                original=original,
            )
        )
    return replays


async def _replayed(tx: Transaction, environment_id: UUID, first: UUID, *, has_more: bool) -> Replayed:
    last = UUID(int=first.int + MAX_CONSECUTIVE_IDS - 1)
    events = await tx.events.between(environment_id, first, last)
    return Replayed(tuple(events), len(events), has_more=has_more)


def _absent(event_record_id: UUID, kept_from: datetime, kept_for: timedelta) -> KongflowError:
    """Return why an event is not there: its id, which begins with a time, says whether it may have been deleted."""
    made_at = time_of_uuid7(event_record_id)
    if made_at is not None and made_at < kept_from:
        return _too_old("id", str(event_record_id), kept_from, kept_for)
    return NotFoundError("event", str(event_record_id))


def _too_old(field: str, value: str, kept_from: datetime, kept_for: timedelta) -> KongflowError:
    return KongflowError(
        f"Events are kept for {kept_for.days} days, now from {kept_from.isoformat()} on; "
        f"{field} {value} lies before that.",
        reason=Reason.OUT_OF_RANGE,
        metadata={"resource": "event", field: value, "kept_from": kept_from.isoformat()},
    )
