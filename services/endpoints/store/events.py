"""Events on PostgreSQL; the statements are in `sql/events.sql`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.catalog import DELIVER_EVENT
from services.endpoints.domain.event import Event, EventState, PayloadType
from services.endpoints.domain.ports.events import EventFilter, EventToWrite, Original, ReplayToWrite
from services.endpoints.domain.queue_job import Priority
from services.endpoints.domain.tracing import current_traceparent
from services.endpoints.store.errors import translated
from services.endpoints.store.plans import plan_for_rows
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from services.endpoints.domain.event import NewEvent

_SQL: Final = load("events")

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=(1 << 128) - 1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Ids are made by servers, times by the database: their clocks are trusted to differ by less.
_CLOCKS_DIFFER_BY: Final = timedelta(days=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DELIVERY: Final = (DELIVER_EVENT.name, DELIVER_EVENT.queue.value)


class PostgresEvents:
    """The statements on one connection; `changed` is called when a relay should look."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, changed: Callable[[], None]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._changed = changed

    async def add_accounts(self, environment_id: UUID, accounts: Sequence[tuple[UUID, str]]) -> None:
        """Insert the accounts that are not there."""
        if accounts:
            ids, identifiers = zip(*accounts, strict=True)
            await self._fetch("add_accounts", environment_id, ids, identifiers)

    async def write(self, environment_id: UUID, events: Sequence[EventToWrite], *, max_attempts: int) -> list[Event]:
        """Insert events and their queue jobs."""
        self._changed()
        contents = [event.content for event in events]
        await plan_for_rows(self._connection, len(events))
        rows = await self._fetch(
            "write",
            environment_id,
            range(len(events)),
            [event.id for event in events],
            [event.event_id for event in events],
            [content.name for content in contents],
            [content.source for content in contents],
            [content.payload_json for content in contents],
            [content.context_json for content in contents],
            [content.payload_type.value for content in contents],
            [content.event_time for content in contents],
            [content.account for content in contents],
            [content.deliver_at for content in contents],
            [content.deliver_in for content in contents],
            [content.priority.value for content in contents],
            [content.is_test for content in contents],
            [event.queue_job_id for event in events],
            [event.lane for event in events],
            *_DELIVERY,
            max_attempts,
            current_traceparent(),
        )
        given = {event.id: event for event in events}
        return [_written(row, given[row["id"]], environment_id) for row in rows]

    async def get(self, event_record_id: UUID) -> Event | None:
        """Read one event."""
        rows = await self._fetch("get", event_record_id)
        return _event(rows[0]) if rows else None

    async def find(self, environment_id: UUID, event_ids: Sequence[str]) -> list[Event]:
        """Read events by their event ids."""
        return [_event(row) for row in await self._fetch("find", environment_id, event_ids)]

    async def read_sizes(self, environment_id: UUID, event_ids: Sequence[str]) -> dict[str, int]:
        """Read how long events are."""
        rows = await self._fetch("read_sizes", environment_id, event_ids)
        return {row["event_id"]: row["bytes"] for row in rows}

    async def lock(self, event_record_id: UUID) -> None:
        """Lock one event."""
        await self._fetch("lock", event_record_id)

    async def replace(self, event_record_id: UUID, content: NewEvent) -> datetime | None:
        """Replace what an event that is not due says."""
        rows = await self._fetch(
            "replace",
            event_record_id,
            content.name,
            content.source,
            content.payload_json,
            content.context_json,
            content.payload_type.value,
            content.event_time,
            content.account,
            content.deliver_at,
            content.deliver_in,
            content.priority.value,
            content.is_test,
        )
        return rows[0]["deliver_at"] if rows else None

    async def list_events(self, wanted: EventFilter, *, limit: int, before: UUID | None) -> list[Event]:
        """Read events without payloads, newest first."""
        first, last = _id_bounds(wanted)
        rows = await self._fetch(
            "list_events",
            wanted.environment_id,
            wanted.name,
            wanted.source,
            wanted.state.value if wanted.state else None,
            wanted.account,
            wanted.created_from,
            wanted.created_before,
            first,
            min(last, before or last),
            limit,
        )
        return [_event(row) for row in rows]

    async def of_ids(self, environment_id: UUID, event_record_ids: Sequence[UUID]) -> list[Original]:
        """Read which of these an environment has."""
        rows = await self._fetch("of_ids", environment_id, event_record_ids)
        return [Original(row["id"], row["event_id"], row["bytes"]) for row in rows]

    async def matching(self, wanted: EventFilter, *, limit: int) -> list[Original]:
        """Read which events match."""
        rows = await self._fetch(
            "matching",
            wanted.environment_id,
            wanted.name,
            wanted.source,
            wanted.created_from,
            wanted.created_before,
            limit,
        )
        return [Original(row["id"], row["event_id"], row["bytes"]) for row in rows]

    async def replay(self, environment_id: UUID, replays: Sequence[ReplayToWrite], *, max_attempts: int) -> None:
        """Insert copies of events."""
        self._changed()
        await plan_for_rows(self._connection, len(replays))
        await self._fetch(
            "replay",
            environment_id,
            range(len(replays)),
            [replay.id for replay in replays],
            [replay.event_id for replay in replays],
            [replay.queue_job_id for replay in replays],
            [replay.lane for replay in replays],
            [replay.original.id for replay in replays],
            *_DELIVERY,
            max_attempts,
            current_traceparent(),
        )

    async def between(self, environment_id: UUID, first: UUID, last: UUID) -> list[Event]:
        """Read events by a range of ids."""
        return [_event(row) for row in await self._fetch("between", environment_id, first, last)]

    async def _fetch(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(_SQL[block], *arguments)


def _id_bounds(wanted: EventFilter) -> tuple[UUID, UUID]:
    """Return ids between which every event of a filter lies."""
    first = _FIRST_ID if wanted.created_from is None else _first_id_of(wanted.created_from, -_CLOCKS_DIFFER_BY)
    last = _LAST_ID if wanted.created_before is None else _first_id_of(wanted.created_before, _CLOCKS_DIFFER_BY)
    return first, last


def _first_id_of(time: datetime, distance: timedelta) -> UUID:
    """Return the smallest id of a time that lies `distance` from `time`.

    Source: RFC 9562 section 5.7.
    """
    milliseconds = (time - _EPOCH + distance) // _MILLISECOND
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)


def _written(row: asyncpg.Record, given: EventToWrite, environment_id: UUID) -> Event:
    content = given.content
    return Event(
        id=given.id,
        event_id=given.event_id,
        environment_id=environment_id,
        name=content.name,
        source=content.source,
        payload_json=content.payload_json,
        context_json=content.context_json,
        payload_type=content.payload_type,
        account=content.account,
        event_time=row["event_time"],
        state=EventState.PENDING,
        deliver_at=row["deliver_at"],
        priority=content.priority,
        match_count=0,
        queue_job_id=given.queue_job_id,
        replay_of=None,
        is_test=content.is_test,
        created_at=row["created_at"],
        updated_at=row["created_at"],
        delivered_at=None,
        cancelled_at=None,
    )


def _event(row: asyncpg.Record) -> Event:
    return Event(
        id=row["id"],
        event_id=row["event_id"],
        environment_id=row["environment_id"],
        name=row["name"],
        source=row["source"],
        payload_json=row["payload"],
        context_json=row["context"],
        payload_type=PayloadType(row["payload_type"]),
        account=row["account"],
        event_time=row["event_time"],
        state=EventState(row["state"]),
        deliver_at=row["deliver_at"],
        priority=Priority(row["priority"]),
        match_count=row["match_count"],
        queue_job_id=row["queue_job_id"],
        replay_of=row["replay_of"],
        is_test=row["is_test"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        delivered_at=row["delivered_at"],
        cancelled_at=row["cancelled_at"],
    )
