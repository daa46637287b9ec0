"""Deliveries, invocations and runs on PostgreSQL; the statements are in `sql/dispatch.sql`."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.dispatcher import DispatchableType
from services.endpoints.domain.event import EventState, PayloadType
from services.endpoints.domain.invocation import InvokedDispatcher, Target
from services.endpoints.domain.ports.dispatch import (
    EventContent,
    EventKind,
    InvocationKey,
    Listener,
    NewInvocation,
    PendingEvent,
    StoredFilters,
)
from services.endpoints.domain.queue_job import Priority
from services.endpoints.domain.run import InvocationState, Run, RunState
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import changed_rows, decided, load

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ports.dispatch import InvocationOutcome, RunFilter, WantedRun

_SQL: Final = load("dispatch")


class PostgresDispatch:
    """The statements on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def lock_events(self, event_record_ids: Collection[UUID]) -> None:
        """Lock events by id."""
        await self._execute("lock_events", event_record_ids)

    async def read_event_states(self, event_record_ids: Collection[UUID]) -> dict[UUID, EventState]:
        """Read how far events are."""
        rows = await self._fetch("read_event_states", event_record_ids)
        return {row["id"]: EventState(row["state"]) for row in rows}

    async def read_pending(self, event_record_ids: Collection[UUID]) -> dict[UUID, PendingEvent]:
        """Read PENDING events."""
        return {row["id"]: _pending(row) for row in await self._fetch("read_pending", event_record_ids)}

    async def read_contents(self, event_record_ids: Collection[UUID]) -> dict[UUID, EventContent]:
        """Read what events say."""
        rows = await self._fetch("read_contents", event_record_ids)
        return {row["id"]: EventContent(row["payload"], row["context"]) for row in rows}

    async def find_listeners(
        self, kinds: Collection[EventKind], account_ids: Collection[UUID]
    ) -> dict[EventKind, list[Listener]]:
        """Read the dispatchers that listen to each kind."""
        rows = await self._fetch(
            "find_listeners",
            [kind.environment_id for kind in kinds],
            [kind.name for kind in kinds],
            [kind.source for kind in kinds],
            account_ids,
        )
        found: dict[EventKind, list[Listener]] = {kind: [] for kind in kinds}
        of_place = list(found.values())
        for row in rows:
            listener = Listener(row["id"], row["external_account_id"], row["filter_bytes"])
            for place in row["kinds"]:
                of_place[place - 1].append(listener)
        return found

    async def read_filters(self, dispatcher_ids: Collection[UUID]) -> dict[UUID, StoredFilters]:
        """Read the filters of dispatchers."""
        rows = await self._fetch("read_filters", dispatcher_ids)
        return {row["id"]: StoredFilters(row["payload_filter"], row["context_filter"]) for row in rows}

    async def insert_invocations(self, invocations: Sequence[NewInvocation]) -> list[NewInvocation]:
        """Write invocations."""
        if not invocations:
            return []
        rows = await self._fetch(
            "insert_invocations",
            *_columns([invocation.key for invocation in invocations]),
            [invocation.queue_job_id for invocation in invocations],
        )
        written = {row["queue_job_id"] for row in rows}
        return [invocation for invocation in invocations if invocation.queue_job_id in written]

    async def mark_delivered(self, matches: Mapping[UUID, int]) -> None:
        """Make PENDING events DELIVERED."""
        await self._execute("mark_delivered", list(matches), list(matches.values()))

    async def fail_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make PENDING events FAILED."""
        await self._execute("fail_events", event_record_ids)

    async def cancel_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make PENDING events CANCELLED."""
        await self._execute("cancel_events", event_record_ids)

    async def reopen_events(self, event_record_ids: Collection[UUID]) -> None:
        """Make FAILED events PENDING."""
        await self._execute("reopen_events", event_record_ids)

    async def lock_invocations(self, keys: Collection[InvocationKey]) -> dict[InvocationKey, InvocationState]:
        """Lock invocations by key and read their states."""
        await self._execute("lock_invocations", *_columns(keys))
        rows = await self._fetch("read_invocation_states", *_columns(keys))
        return {_key(row): InvocationState(row["state"]) for row in rows}

    async def read_dispatchers(self, dispatcher_ids: Collection[UUID]) -> dict[UUID, InvokedDispatcher]:
        """Read dispatchers with what they start."""
        dispatchers = await self._fetch("read_dispatchers", dispatcher_ids)
        rows = await self._fetch("read_targets", dispatcher_ids)
        targets = {
            dispatcher_id: [_target(row) for row in of_dispatcher]
            for dispatcher_id, of_dispatcher in groupby(rows, key=lambda row: row["dispatcher_id"])
        }
        return {
            row["id"]: InvokedDispatcher(
                is_enabled=row["enabled"],
                dispatchable_type=DispatchableType(row["dispatchable_type"]),
                targets=targets.get(row["id"], ()),
                trigger_slug=row["trigger_slug"],
                is_trigger_enabled=row["trigger_enabled"],
            )
            for row in dispatchers
        }

    async def hold_endpoints(self, endpoint_ids: Collection[UUID]) -> set[UUID]:
        """Lock endpoints against their deletion."""
        return {row["id"] for row in await self._fetch("hold_endpoints", endpoint_ids)}

    async def make_runs(self, wanted: Sequence[WantedRun]) -> Counter[InvocationKey]:
        """Write the runs that are missing."""
        if not wanted:
            return Counter()
        await self._execute("lock_counters", sorted({run.job_id for run in wanted}))
        rows = await self._fetch(
            "insert_runs",
            [run.id for run in wanted],
            *_columns([run.key for run in wanted]),
            [run.version_id for run in wanted],
        )
        return Counter(map(_key, rows))

    async def settle_invocations(self, outcomes: Sequence[InvocationOutcome]) -> None:
        """End PENDING invocations."""
        await self._execute(
            "settle_invocations",
            *_columns([outcome.key for outcome in outcomes]),
            [outcome.state.value for outcome in outcomes],
            [outcome.runs for outcome in outcomes],
            [outcome.reason for outcome in outcomes],
        )

    async def reopen_invocations(self, keys: Collection[InvocationKey]) -> None:
        """Make ended invocations PENDING."""
        await self._execute("reopen_invocations", *_columns(keys))

    async def get_run(self, run_id: UUID) -> Run | None:
        """Read one run."""
        rows = await self._fetch("get_run", run_id)
        return _run(rows[0]) if rows else None

    async def list_runs(self, wanted: RunFilter, *, limit: int, before: UUID | None) -> list[Run]:
        """Read runs, newest first."""
        rows = await self._fetch(
            "list_runs",
            wanted.environment_id,
            wanted.job_slug,
            wanted.event_record_id,
            wanted.state.value if wanted.state else None,
            wanted.created_from,
            wanted.created_before,
            before,
            limit,
        )
        return [_run(row) for row in rows]

    async def delete_old_events(self, *, older_than: timedelta, limit: int) -> int:
        """Delete events that ended long enough ago."""
        locked = [row["id"] for row in await self._fetch("lock_old_events", older_than, limit)]
        return (
            changed_rows(await self._execute("delete_runs", locked, limit))
            + changed_rows(await self._execute("delete_invocations", locked, limit))
            + changed_rows(await self._execute("delete_emptied_events", locked))
        )

    async def delete_runs(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete runs that would go with an endpoint."""
        return changed_rows(await self._execute("delete_runs_of_endpoint", endpoint_id, limit)) >= limit

    async def _fetch(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(decided(_SQL[block], arguments), *arguments)

    async def _execute(self, block: str, *arguments: object) -> str:
        with translated():
            return await self._connection.execute(_SQL[block], *arguments)


def _columns(keys: Collection[InvocationKey]) -> tuple[list[UUID], list[UUID]]:
    return [key.event_record_id for key in keys], [key.dispatcher_id for key in keys]


def _key(row: asyncpg.Record) -> InvocationKey:
    return InvocationKey(row["event_record_id"], row["dispatcher_id"])


def _pending(row: asyncpg.Record) -> PendingEvent:
    return PendingEvent(
        id=row["id"],
        event_id=row["event_id"],
        kind=EventKind(row["environment_id"], row["name"], row["source"]),
        account_id=row["external_account_id"],
        payload_type=PayloadType(row["payload_type"]),
        priority=Priority(row["priority"]),
    )


def _target(row: asyncpg.Record) -> Target:
    return Target(
        job_slug=row["job_slug"],
        job_id=row["job_id"],
        version_id=row["version_id"],
        endpoint_id=row["version_endpoint_id"],
        version=row["version"],
        is_active=row["active"],
    )


def _run(row: asyncpg.Record) -> Run:
    return Run(
        id=row["id"],
        number=row["number"],
        environment_id=row["environment_id"],
        state=RunState(row["state"]),
        job_slug=row["job_slug"],
        job_version_id=row["version_id"],
        version=row["version"],
        event_record_id=row["event_record_id"],
        event_id=row["event_id"],
        dispatcher_id=row["dispatcher_id"],
        endpoint_id=row["endpoint_id"],
        account=row["account"],
        is_test=row["is_test"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
