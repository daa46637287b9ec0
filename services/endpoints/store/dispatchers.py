"""Dispatchers on PostgreSQL; the statements are in `sql/dispatchers.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.dispatcher import DispatchableType, Dispatcher, DispatcherOrigin
from services.endpoints.domain.page import MAX_PAGE_BYTES
from services.endpoints.store.errors import translated
from services.endpoints.store.fitting import fitting
from services.endpoints.store.queries import decided, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.dispatcher import DispatcherChanges, NewDispatcher
    from services.endpoints.domain.page import Fitting
    from services.endpoints.domain.ports.dispatchers import DispatcherFilter

_SQL: Final = load("dispatchers")

_HOLD: Final = {
    DispatchableType.JOB_VERSION: _SQL["hold_job_version"],
    DispatchableType.DYNAMIC_TRIGGER: _SQL["hold_dynamic_trigger"],
}


class PostgresDispatchers:
    """The statements on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def get(self, dispatcher_id: UUID) -> Dispatcher | None:
        """Read one dispatcher."""
        with translated():
            row = await self._connection.fetchrow(_SQL["get"], dispatcher_id)
        return None if row is None else _dispatcher(row)

    async def list_dispatchers(self, wanted: DispatcherFilter, *, limit: int, after_id: UUID) -> Fitting[Dispatcher]:
        """Read a page of dispatchers by id."""
        environment_id, origin = wanted.environment_id, wanted.origin.value if wanted.origin else None
        with translated():
            if wanted.event_name is None:
                values = (environment_id, after_id, wanted.source, origin, limit, MAX_PAGE_BYTES)
                rows = await self._connection.fetch(decided(_SQL["list_of_environment"], values), *values)
            else:
                named = (environment_id, wanted.event_name, wanted.source, after_id, origin, limit, MAX_PAGE_BYTES)
                rows = await self._connection.fetch(decided(_SQL["list_of_event"], named), *named)
        return fitting(rows, _dispatcher)

    async def insert(
        self, new: NewDispatcher, *, dispatcher_id: UUID, environment_id: UUID, new_id: Callable[[], UUID]
    ) -> Dispatcher | None:
        """Insert a dispatcher of origin API."""
        account_id = await self._account_id(new.account, environment_id, new_id)
        starts_job = new.dispatchable_type is DispatchableType.JOB_VERSION
        with translated():
            held = await self._connection.fetchrow(_HOLD[new.dispatchable_type], new.dispatchable_id, environment_id)
            if held is None:
                return None
            (row,) = await self._connection.fetch(
                _SQL["insert"],
                dispatcher_id,
                new.event_names,
                new.source,
                new.payload_filter_json,
                new.context_filter_json,
                new.is_enabled,
                new.is_manual,
                account_id,
                new.dispatchable_type.value,
                held["dispatchable_id"],
                new.dispatchable_id if starts_job else None,
                None if starts_job else new.dispatchable_id,
                environment_id,
            )
        return _dispatcher(row)

    async def change(self, dispatcher: Dispatcher, changes: DispatcherChanges, *, new_id: Callable[[], UUID]) -> None:
        """Change a dispatcher of origin API."""
        account_id = await self._account_id(changes.account, dispatcher.environment_id, new_id)
        with translated():
            await self._connection.execute(
                _SQL["change"],
                dispatcher.id,
                changes.event_names,
                changes.source,
                changes.payload_filter_json,
                changes.context_filter_json,
                changes.is_enabled,
                changes.is_manual,
                changes.account is not None,
                account_id,
            )

    async def set_operator_disabled(self, dispatcher_id: UUID, *, is_disabled: bool) -> None:
        """Note an operator's word."""
        with translated():
            await self._connection.execute(_SQL["set_operator_disabled"], dispatcher_id, is_disabled)

    async def delete(self, dispatcher_id: UUID) -> bool:
        """Delete a dispatcher of origin API."""
        with translated():
            return await self._connection.execute(_SQL["delete"], dispatcher_id) == "DELETE 1"

    async def _account_id(
        self, identifier: str | None, environment_id: UUID, new_id: Callable[[], UUID]
    ) -> UUID | None:
        if not identifier:
            return None
        with translated():
            await self._connection.execute(_SQL["insert_account"], new_id(), identifier, environment_id)
            account_id: UUID = await self._connection.fetchval(_SQL["get_account"], environment_id, identifier)
        return account_id


def _dispatcher(row: asyncpg.Record) -> Dispatcher:
    return Dispatcher(
        id=row["id"],
        environment_id=row["environment_id"],
        origin=DispatcherOrigin(row["origin"]),
        event_names=tuple(row["event_names"]),
        source=row["source"],
        payload_filter_json=row["payload_filter"],
        context_filter_json=row["context_filter"],
        is_enabled=row["is_enabled"],
        is_manual=row["manual"],
        account=row["account"],
        dispatchable_type=DispatchableType(row["dispatchable_type"]),
        dispatchable_id=row["dispatchable_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
