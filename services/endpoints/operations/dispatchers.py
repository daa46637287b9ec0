"""Writes, reads, changes and deletes dispatchers, as callers ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.dispatcher import (
    DispatchableType,
    DispatcherChanges,
    DispatcherOrigin,
    NewDispatcher,
    change_refusal,
    delete_refusal,
)
from services.endpoints.domain.errors import NotFoundError
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.dispatchers import DispatcherFilter
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.operations.authorization import acting_environment, require_owner

if TYPE_CHECKING:
    from services.endpoints.domain.dispatcher import Dispatcher
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.tenancy import Principal

_METHOD = "CreateDispatcher"
_DISPATCHABLE = {DispatchableType.JOB_VERSION: "job version", DispatchableType.DYNAMIC_TRIGGER: "dynamic trigger"}


@dataclass(frozen=True, slots=True)
class CreateDispatcher:
    """A request to write a dispatcher; `environment_id` None means the API key's own."""

    environment_id: UUID | None
    dispatcher: NewDispatcher
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class DispatcherWish:
    """Which dispatchers to list; `environment_id` None means the API key's own, any other None does not restrict."""

    environment_id: UUID | None = None
    event_name: str | None = None
    source: str | None = None
    origin: DispatcherOrigin | None = None


class DispatcherOperations:
    """What callers do with dispatchers: look at all of them, keep their own, and disable those of indexes."""

    def __init__(self, *, store: Store, new_id: NewId) -> None:
        """Hold the ports."""
        self._store = store
        self._new_id = new_id

    async def create(self, principal: Principal, request: CreateDispatcher) -> Dispatcher:
        """Write a dispatcher of origin API.

        Raises:
            InvalidRequestError: the request id was used for another request.
            NotFoundError: there is no such environment for this principal, or what the dispatcher is to start is not
                in it.
        """
        new = request.dispatcher

        async def work(tx: Transaction) -> Dispatcher:
            environment = await acting_environment(tx, principal, request.environment_id)
            if request.request_id is not None:
                known = await tx.requests.claim(principal.name, _METHOD, request.request_id, request_hash(request))
                if known is not None:
                    return _found(await tx.dispatchers.get(known), known)
            dispatcher_id = self._new_id()
            inserted = await tx.dispatchers.insert(
                new, dispatcher_id=dispatcher_id, environment_id=environment.id, new_id=self._new_id
            )
            if inserted is None:
                raise NotFoundError(_DISPATCHABLE[new.dispatchable_type], str(new.dispatchable_id))
            if request.request_id is not None:
                await tx.requests.record(
                    principal.name, _METHOD, request.request_id, request_hash(request), dispatcher_id
                )
            return inserted

        return await self._store.transact(work)

    async def get(self, principal: Principal, dispatcher_id: UUID) -> Dispatcher:
        """Return one dispatcher.

        Raises:
            NotFoundError: there is none for this principal.
        """
        async with self._store.reading() as tx:
            return await _owned(tx, principal, dispatcher_id)

    async def list_dispatchers(self, principal: Principal, wish: DispatcherWish, page: PageRequest) -> Page[Dispatcher]:
        """Return a page of an environment's dispatchers, oldest first.

        Raises:
            NotFoundError: there is no such environment for this principal.
        """
        async with self._store.reading() as tx:
            environment = await acting_environment(tx, principal, wish.environment_id)
            rows = await tx.dispatchers.list_dispatchers(
                DispatcherFilter(environment.id, event_name=wish.event_name, source=wish.source, origin=wish.origin),
                limit=page.limit,
                after_id=UUID(page.after) if page.after else NIL_UUID,
            )
        return page_of(rows, page, lambda dispatcher: str(dispatcher.id))

    async def update(self, principal: Principal, dispatcher_id: UUID, changes: DispatcherChanges) -> Dispatcher:
        """Change a dispatcher; repeating changes nothing.

        Of one that an index wrote only `is_enabled` can change: that is the operator's word, which stands beside what
        indexes say.

        Raises:
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, an index wrote it and more than `is_enabled` is to change.
        """

        async def work(tx: Transaction) -> Dispatcher:
            dispatcher = await _owned(tx, principal, dispatcher_id)
            if error := change_refusal(dispatcher, changes):
                raise error
            if changes.is_empty:
                return dispatcher
            if dispatcher.origin is DispatcherOrigin.API:
                await tx.dispatchers.change(dispatcher, changes, new_id=self._new_id)
            else:
                await tx.dispatchers.set_operator_disabled(dispatcher_id, is_disabled=not changes.is_enabled)
            return _found(await tx.dispatchers.get(dispatcher_id), dispatcher_id)

        return await self._store.transact(work)

    async def delete(self, principal: Principal, dispatcher_id: UUID, *, allow_missing: bool) -> None:
        """Delete a dispatcher that a caller wrote; what it started stays.

        Raises:
            NotFoundError: there is none for this principal and that is not allowed.
            KongflowError: WRONG_STATE, an index wrote it.
        """

        async def work(tx: Transaction) -> None:
            try:
                dispatcher = await _owned(tx, principal, dispatcher_id)
            except NotFoundError:
                if allow_missing:
                    return
                raise
            if error := delete_refusal(dispatcher):
                raise error
            if not await tx.dispatchers.delete(dispatcher_id) and not allow_missing:
                raise NotFoundError("dispatcher", str(dispatcher_id))

        await self._store.transact(work)


async def _owned(tx: Transaction, principal: Principal, dispatcher_id: UUID) -> Dispatcher:
    dispatcher = _found(await tx.dispatchers.get(dispatcher_id), dispatcher_id)
    environment = await tx.tenancy.known_environment(dispatcher.environment_id)
    if environment is None:
        raise NotFoundError("dispatcher", str(dispatcher_id))
    require_owner(
        principal,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        resource="dispatcher",
        name=str(dispatcher_id),
    )
    return dispatcher


def _found(dispatcher: Dispatcher | None, dispatcher_id: UUID) -> Dispatcher:
    if dispatcher is None:
        raise NotFoundError("dispatcher", str(dispatcher_id))
    return dispatcher
