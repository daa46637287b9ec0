"""Registers, reads, changes, pings and deletes endpoints."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import (
    ConflictError,
    DatabaseUnavailableError,
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    NotFoundError,
    Reason,
)
from services.endpoints.domain.identifiers import new_hook_identifier
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.domain.tenancy import EnvironmentType
from services.endpoints.operations.authorization import (
    acting_environment,
    environment_or_own,
    require_environment,
    require_owner,
)
from services.endpoints.operations.call_addresses import call_address
from services.endpoints.operations.index_requests import IndexWish
from services.endpoints.operations.pings import failed_ping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from uuid import UUID

    from services.endpoints.domain.endpoint import Endpoint, EndpointState
    from services.endpoints.domain.endpoint_calls import EndpointAddress, PingResult
    from services.endpoints.domain.endpoint_index import EndpointIndex, IndexOrigin
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.endpoint_client import AddressCheck
    from services.endpoints.domain.ports.endpoints import SealedCredential
    from services.endpoints.domain.ports.observer import EndpointObserver
    from services.endpoints.domain.ports.secrets import SecretBox
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.tenancy import Environment, Principal
    from services.endpoints.operations.endpoint_health import EndpointHealth
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.index_requests import IndexRequests
    from services.endpoints.operations.pings import PingBudget, Pinger

_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)

_ROWS_AT_ONCE: Final = 20_000
_VERSIONS_AT_ONCE: Final = 2_000
_SHORT_HISTORY: Final = 1_000


@dataclass(frozen=True, slots=True)
class CreateEndpoint:
    """A request to register an endpoint; `environment_id` None means the API key's own."""

    environment_id: UUID | None
    slug: str
    url: str
    organization_id: UUID | None = None
    project_id: UUID | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class UpsertEndpoint:
    """A request to store an endpoint without calling it; the hook identifier is taken on create only."""

    environment_id: UUID | None
    slug: str
    url: str
    indexing_hook_identifier: str | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class UpdateEndpoint:
    """A request to change an endpoint; `url` None leaves it as it is."""

    endpoint_id: UUID
    url: str | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CreatedEndpoint:
    """A registered endpoint with the index that was asked for, which begins at `run_time` at the earliest."""

    endpoint: Endpoint
    created: bool
    index_id: UUID
    run_time: datetime


@dataclass(frozen=True, slots=True)
class UpsertedEndpoint:
    """A stored endpoint."""

    endpoint: Endpoint
    created: bool


@dataclass(frozen=True, slots=True)
class UpdatedEndpoint:
    """A changed endpoint; `index_id` is set when its url changed."""

    endpoint: Endpoint
    index_id: UUID | None = None


class EndpointOperations:
    """What callers do with endpoints.

    Nothing is stored for a call that fails. Calls to customers happen outside any transaction.
    """

    def __init__(
        self,
        *,
        store: Store,
        pinger: Pinger,
        addresses: AddressCheck,
        secret_box: SecretBox,
        index_requests: IndexRequests,
        finality: Finality,
        health: EndpointHealth,
        next_index_in: Callable[[], timedelta],
        new_id: NewId,
        new_hook_identifier: Callable[[], str] = new_hook_identifier,
        observer: EndpointObserver | None = None,
    ) -> None:
        """Hold the ports; `next_index_in` says when a new endpoint of PRODUCTION is indexed anew."""
        self._store = store
        self._pinger = pinger
        self._addresses = addresses
        self._secret_box = secret_box
        self._index_requests = index_requests
        self._finality = finality
        self._health = health
        self._next_index_in = next_index_in
        self._new_id = new_id
        self._new_hook_identifier = new_hook_identifier
        self._observer = observer

    async def create(
        self, principal: Principal, request: CreateEndpoint, *, deadline: timedelta | None = None
    ) -> CreatedEndpoint:
        """Ping the endpoint, then store it and ask for its index in one transaction.

        Raises:
            InvalidRequestError: the environment belongs to another organization or project than named, the address is
                not allowed, or the request id was used for another request.
            NotFoundError: there is no such environment for this principal.
            KongflowError: FAILED_PING, the endpoint did not answer as it must; FAILED_UPSERT, the database failed after
                the ping.
        """
        budget = self._pinger.budget(deadline)
        credential = await self._credential(principal, request.environment_id)
        _require_owners(credential, request)
        if request.request_id is not None:
            repeated = await self._store.transact(lambda tx: self._created_before(tx, principal, request))
            if repeated is not None:
                return repeated
        await self._require_answer(credential, slug=request.slug, url=request.url, budget=budget)

        async def work(tx: Transaction) -> CreatedEndpoint:
            environment = credential.environment
            await self._index_requests.serialize(tx, environment.id, request.slug)
            repeated = await self._created_before(tx, principal, request)
            if repeated is not None:
                return repeated
            known = await tx.endpoints.get_by_slug(environment.id, request.slug)
            if known is None:
                endpoint = await self._insert(tx, environment, slug=request.slug, url=request.url)
                requested = await self._index_requests.request_first(
                    tx, endpoint, environment.type, IndexSource.INTERNAL
                )
            else:
                requested = await self._index_requests.request(
                    tx, known, environment.type, _wish_after_ping(known, request.url)
                )
                endpoint = await self._store_pinged(tx, known, request.url)
            # What waited for the endpoint to be well is due by now.
            was_well = known is None or known.is_well
            run_time = requested.run_time if was_well else await _run_time(tx, requested.index)
            if request.request_id is not None:
                await tx.requests.record(
                    principal.name,
                    "CreateEndpoint",
                    request.request_id,
                    request_hash(request),
                    requested.index.id,
                    flag=known is None,
                )
            return CreatedEndpoint(endpoint, known is None, requested.index.id, run_time)

        return await self._after_ping(work)

    async def upsert(self, principal: Principal, request: UpsertEndpoint) -> UpsertedEndpoint:
        """Store an endpoint without calling it.

        Raises:
            InvalidRequestError: the address is not allowed or the request id was used for another request.
            NotFoundError: there is no such environment for this principal.
        """
        async with self._store.reading() as tx:
            environment = await acting_environment(tx, principal, request.environment_id)
        if request.request_id is not None:
            # Where the address leads by now is of no concern to what was stored before.
            repeated = await self._store.transact(lambda tx: self._upserted_before(tx, principal, request))
            if repeated is not None:
                return repeated
        await self._addresses.check(request.url)

        async def work(tx: Transaction) -> UpsertedEndpoint:
            await self._index_requests.serialize(tx, environment.id, request.slug)
            repeated = await self._upserted_before(tx, principal, request)
            if repeated is not None:
                return repeated
            known = await tx.endpoints.get_by_slug(environment.id, request.slug)
            if known is None:
                endpoint = await self._insert(
                    tx, environment, slug=request.slug, url=request.url, hook=request.indexing_hook_identifier
                )
            else:
                endpoint = await self._set_url(tx, known, request.url)
            if request.request_id is not None:
                await tx.requests.record(
                    principal.name,
                    "UpsertEndpoint",
                    request.request_id,
                    request_hash(request),
                    endpoint.id,
                    flag=known is None,
                )
            return UpsertedEndpoint(endpoint, created=known is None)

        return await self._store.transact(work)

    async def get(self, principal: Principal, endpoint_id: UUID) -> Endpoint:
        """Return one endpoint.

        Raises:
            NotFoundError: there is none for this principal.
        """
        async with self._store.reading() as tx:
            return await owned_endpoint(tx, principal, endpoint_id)

    async def get_by_slug(self, principal: Principal, environment_id: UUID | None, slug: str) -> Endpoint:
        """Return the endpoint of a slug.

        Raises:
            NotFoundError: there is no such environment or endpoint for this principal.
        """
        async with self._store.reading() as tx:
            environment = await acting_environment(tx, principal, environment_id)
            endpoint = await tx.endpoints.get_by_slug(environment.id, slug)
        if endpoint is None:
            raise NotFoundError("endpoint", slug)
        return endpoint

    async def list_endpoints(
        self,
        principal: Principal,
        environment_id: UUID | None,
        page: PageRequest,
        *,
        state: EndpointState | None = None,
    ) -> Page[Endpoint]:
        """Return an environment's endpoints by slug; `state` None means any.

        Raises:
            NotFoundError: there is no such environment for this principal.
        """
        async with self._store.reading(Pool.LISTS) as tx:
            environment = await acting_environment(tx, principal, environment_id)
            rows = await tx.endpoints.list_endpoints(
                environment.id, limit=page.limit, after_slug=page.after or "", state=state
            )
        return page_of(rows, page, lambda endpoint: endpoint.slug)

    async def update(
        self, principal: Principal, request: UpdateEndpoint, *, deadline: timedelta | None = None
    ) -> UpdatedEndpoint:
        """Give an endpoint another url: ping it there, then store it and ask for an index.

        Raises:
            InvalidRequestError: the address is not allowed or the request id was used for another request.
            NotFoundError: there is no such endpoint for this principal.
            KongflowError: FAILED_PING or FAILED_UPSERT, as in `create`.
        """
        budget = self._pinger.budget(deadline)
        endpoint = await self.get(principal, request.endpoint_id)
        url = endpoint.url if request.url is None else request.url
        is_unchanged = url == endpoint.url
        if request.request_id is not None:

            async def look(tx: Transaction) -> UpdatedEndpoint | None:
                known = await self._updated_before(tx, principal, request)
                if known is None and is_unchanged:
                    await self._record_update(tx, principal, request, UpdatedEndpoint(endpoint))
                return known

            repeated = await self._store.transact(look)
            if repeated is not None:
                return repeated
        if is_unchanged:
            return UpdatedEndpoint(endpoint)
        credential = await self._credential(principal, endpoint.environment_id)
        await self._require_answer(credential, slug=endpoint.slug, url=url, budget=budget)

        async def work(tx: Transaction) -> UpdatedEndpoint:
            await self._index_requests.serialize(tx, endpoint.environment_id, endpoint.slug)
            repeated = await self._updated_before(tx, principal, request)
            if repeated is not None:
                return repeated
            current = _found(await tx.endpoints.get(endpoint.id), endpoint.id)
            requested = await self._index_requests.request(
                tx, current, credential.environment.type, _wish_after_ping(current, url)
            )
            updated = UpdatedEndpoint(await self._store_pinged(tx, current, url), requested.index.id)
            await self._record_update(tx, principal, request, updated)
            return updated

        return await self._after_ping(work)

    async def delete(self, principal: Principal, endpoint_id: UUID, *, allow_missing: bool) -> None:
        """Delete an endpoint: its waiting work is cancelled, its running work ends without effect.

        A long history, many runs and many disabled job versions go first, a bounded number of rows in each transaction:
        what has gone stays gone when the rest fails, and the next attempt goes on from there.

        Raises:
            NotFoundError: there is none for this principal and that is not allowed.
        """
        try:
            async with self._store.reading() as tx:
                endpoint = await owned_endpoint(tx, principal, endpoint_id)
                has_long_history = await tx.endpoints.has_long_history(endpoint_id, rows=_SHORT_HISTORY)
        except NotFoundError:
            if allow_missing:
                return
            raise

        async def delete_history(tx: Transaction) -> bool:
            return await tx.indexes.delete_final(endpoint_id, limit=_ROWS_AT_ONCE)

        async def delete_runs(tx: Transaction) -> bool:
            return await tx.dispatch.delete_runs(endpoint_id, limit=_ROWS_AT_ONCE)

        async def delete_versions(tx: Transaction) -> bool:
            return await tx.catalog.delete_disabled_versions(endpoint_id, limit=_VERSIONS_AT_ONCE)

        async def work(tx: Transaction) -> None:
            await self._index_requests.serialize(tx, endpoint.environment_id, endpoint.slug)
            cancelled = await tx.ledger.cancel_lane(endpoint_lane(endpoint_id), message="The endpoint was deleted.")
            await self._finality.settle(tx, cancelled)
            await tx.queue_control.forget_lane(endpoint_lane(endpoint_id))
            await tx.catalog.disable_endpoint(endpoint_id)
            await tx.endpoints.delete(endpoint_id)

        while has_long_history and await self._store.transact(delete_history):
            pass
        while has_long_history and await self._store.in_one_statement(delete_runs):
            pass
        while has_long_history and await self._store.in_one_statement(delete_versions):
            pass
        # Whoever drops an item meanwhile passes by an endpoint that is being deleted: if it stays, it is owed an index.
        await self._store.in_one_statement(lambda tx: tx.endpoints.owe_index(endpoint_id, asked_in=timedelta()))
        await self._store.transact(work)

    async def ping(self, principal: Principal, endpoint_id: UUID, *, deadline: timedelta | None = None) -> PingResult:
        """Ping an endpoint; a failed ping is a result.

        Raises:
            NotFoundError: there is no such endpoint for this principal.
        """
        budget = self._pinger.budget(deadline)
        endpoint = await self.get(principal, endpoint_id)
        credential = await self._credential(principal, endpoint.environment_id)
        result = await self._pinger.ping(self._address(credential, slug=endpoint.slug, url=endpoint.url), budget=budget)
        if not (result.ok and endpoint.is_well):
            try:
                await self._store.transact(lambda tx: self._health.note_ping(tx, endpoint, result))
            except (ConflictError, DatabaseUnavailableError) as error:
                _log.warning("ping_not_noted", endpoint_id=str(endpoint_id), reason=error.reason.value)
        return result

    async def resume(self, principal: Principal, endpoint_id: UUID) -> Endpoint:
        """Make an endpoint HEALTHY at once, and what waited for its probe due; repeating changes nothing.

        Raises:
            NotFoundError: there is no such endpoint for this principal.
        """

        async def work(tx: Transaction) -> Endpoint:
            endpoint = await owned_endpoint(tx, principal, endpoint_id)
            await self._health.resume(tx, endpoint)
            return _found(await tx.endpoints.get(endpoint_id), endpoint_id)

        return await self._store.transact(work)

    async def _credential(self, principal: Principal, environment_id: UUID | None) -> SealedCredential:
        wanted = environment_or_own(principal, environment_id)
        async with self._store.reading() as tx:
            credential = await tx.endpoints.credential(wanted)
        require_environment(principal, credential.environment if credential else None, name=wanted)
        assert credential is not None  # noqa: S101 - require_environment raised otherwise
        return credential

    def _address(self, credential: SealedCredential, *, slug: str, url: str) -> EndpointAddress:
        return call_address(self._secret_box, credential, slug=slug, url=url, call_id=self._new_id())

    async def _require_answer(self, credential: SealedCredential, *, slug: str, url: str, budget: PingBudget) -> None:
        # A name server that is still silent then is for the ping to report, which looks at every address itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(budget.left.total_seconds()):
                await self._addresses.check(url)
        result = await self._pinger.ping(self._address(credential, slug=slug, url=url), budget=budget)
        if not result.ok:
            raise failed_ping(result)

    async def _insert(
        self, tx: Transaction, environment: Environment, *, slug: str, url: str, hook: str | None = None
    ) -> Endpoint:
        if (observer := self._observer) is not None:
            tx.after_commit(
                lambda: observer.count_created(
                    environment_id=environment.id, organization_id=environment.organization_id
                )
            )
        return await tx.endpoints.insert(
            endpoint_id=self._new_id(),
            slug=slug,
            url=url,
            hook_identifier=hook or self._new_hook_identifier(),
            environment=environment,
            next_index_in=self._next_index_in() if environment.type is EnvironmentType.PRODUCTION else None,
        )

    async def _store_pinged(self, tx: Transaction, known: Endpoint, url: str) -> Endpoint:
        """Give an endpoint the url that it was just pinged at."""
        endpoint = await self._set_url(tx, known, url)
        if endpoint.is_well:
            return endpoint
        await self._health.note_answer(tx, endpoint)
        return _found(await tx.endpoints.get(known.id), known.id)

    async def _set_url(self, tx: Transaction, known: Endpoint, url: str) -> Endpoint:
        endpoint = _found(await tx.endpoints.set_url(known.id, url), known.id)
        if url != known.url:
            await self._health.note_move(tx, endpoint)
        return endpoint

    async def _created_before(
        self, tx: Transaction, principal: Principal, request: CreateEndpoint
    ) -> CreatedEndpoint | None:
        """Return what the same request made before."""
        if request.request_id is None:
            return None
        index_id = await tx.requests.claim(principal.name, "CreateEndpoint", request.request_id, request_hash(request))
        if index_id is None:
            return None
        index = await tx.indexes.origin(index_id)
        if index is None:
            raise NotFoundError("endpoint", request.slug)
        created = await tx.requests.flag(principal.name, "CreateEndpoint", request.request_id)
        endpoint = _found(await tx.endpoints.get(index.endpoint_id), index.endpoint_id)
        return CreatedEndpoint(endpoint, created, index_id, await _run_time(tx, index))

    async def _upserted_before(
        self, tx: Transaction, principal: Principal, request: UpsertEndpoint
    ) -> UpsertedEndpoint | None:
        """Return what the same request stored before, with the endpoint as it is now."""
        if request.request_id is None:
            return None
        endpoint_id = await tx.requests.claim(
            principal.name, "UpsertEndpoint", request.request_id, request_hash(request)
        )
        if endpoint_id is None:
            return None
        created = await tx.requests.flag(principal.name, "UpsertEndpoint", request.request_id)
        return UpsertedEndpoint(_found(await tx.endpoints.get(endpoint_id), endpoint_id), created=created)

    async def _updated_before(
        self, tx: Transaction, principal: Principal, request: UpdateEndpoint
    ) -> UpdatedEndpoint | None:
        """Return what the same request came to before, with the endpoint as it is now."""
        if request.request_id is None:
            return None
        made = await tx.requests.claim(principal.name, "UpdateEndpoint", request.request_id, request_hash(request))
        if made is None:
            return None
        changed_nothing = await tx.requests.flag(principal.name, "UpdateEndpoint", request.request_id)
        endpoint = _found(await tx.endpoints.get(request.endpoint_id), request.endpoint_id)
        return UpdatedEndpoint(endpoint, None if changed_nothing else made)

    async def _record_update(
        self, tx: Transaction, principal: Principal, request: UpdateEndpoint, updated: UpdatedEndpoint
    ) -> None:
        """Remember the index that a request asked for; one that changed nothing has the endpoint and the flag."""
        if request.request_id is not None:
            await tx.requests.record(
                principal.name,
                "UpdateEndpoint",
                request.request_id,
                request_hash(request),
                updated.index_id or updated.endpoint.id,
                flag=updated.index_id is None,
            )

    async def _after_ping(self, work: Callable[[Transaction], Awaitable[_Result]]) -> _Result:
        try:
            return await self._store.transact(work)
        except (ConflictError, DatabaseUnavailableError) as error:
            raise KongflowError(
                f"The endpoint answered its ping, but it could not be stored: {error.message}",
                reason=Reason.FAILED_UPSERT,
                metadata={"cause": error.reason.value},
                retry_after=error.retry_after,
            ) from error


async def owned_endpoint(tx: Transaction, principal: Principal, endpoint_id: UUID) -> Endpoint:
    """Return an endpoint that the principal may act on.

    Raises:
        NotFoundError: it is absent or of another organization.
        KongflowError: PERMISSION_DENIED, it is of another environment of the principal's organization.
    """
    endpoint = _found(await tx.endpoints.get(endpoint_id), endpoint_id)
    require_owner(
        principal,
        organization_id=endpoint.organization_id,
        environment_id=endpoint.environment_id,
        resource="endpoint",
        name=str(endpoint_id),
    )
    return endpoint


def _found(endpoint: Endpoint | None, endpoint_id: UUID) -> Endpoint:
    if endpoint is None:
        raise NotFoundError("endpoint", str(endpoint_id))
    return endpoint


async def _run_time(tx: Transaction, index: EndpointIndex | IndexOrigin) -> datetime:
    queue_job = await tx.queue_control.get(index.queue_job_id)
    # The index outlives its queue job.
    return index.created_at if queue_job is None else queue_job.run_at


def _wish_after_ping(known: Endpoint, url: str) -> IndexWish:
    return IndexWish(IndexSource.INTERNAL, has_moved=url != known.url)


def _require_owners(credential: SealedCredential, request: CreateEndpoint) -> None:
    environment = credential.environment
    violations = [
        FieldViolation(field, "must own the environment; leave it empty or name its own")
        for field, named, owner in (
            ("organization_id", request.organization_id, environment.organization_id),
            ("project_id", request.project_id, environment.project_id),
        )
        if named is not None and named != owner
    ]
    if violations:
        raise InvalidRequestError(violations)
