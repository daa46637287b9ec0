"""Asks for indexes, reads them and watches them."""

from __future__ import annotations

import hmac
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.deployment_hook import deployment_reason
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import KongflowError, NotFoundError, Reason
from services.endpoints.domain.identifiers import time_of_uuid7
from services.endpoints.domain.json_text import JsonTextError, dump_json, parse_json
from services.endpoints.domain.ledger_settings import Retention
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Priority
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.operations.authorization import require_owner
from services.endpoints.operations.endpoints import owned_endpoint
from services.endpoints.operations.index_requests import IndexRequested, IndexWish
from services.endpoints.operations.shared_reads import SharedReads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from datetime import timedelta

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_index import EndpointIndex, EndpointIndexItem, ItemKind, ItemState
    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.tenancy import EnvironmentType, Principal
    from services.endpoints.operations.index_requests import IndexRequests
    from services.endpoints.operations.index_revisions import IndexRevisions
    from services.endpoints.operations.limits import TenantLimits
    from services.endpoints.operations.watches import Watches

_KEPT_FOR: Final = Retention().indexes


@dataclass(frozen=True, slots=True)
class IndexEndpointRequest:
    """A request for an index; `run_at` None means now."""

    endpoint_id: UUID
    source: IndexSource = IndexSource.API
    reason: str | None = None
    source_data_json: str | None = None
    run_at: datetime | None = None
    priority: Priority = Priority.NORMAL
    force: bool = False
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items of an index to list; None means any."""

    kind: ItemKind | None = None
    state: ItemState | None = None


class IndexingOperations:
    """What callers do with indexes."""

    def __init__(
        self,
        *,
        store: Store,
        index_requests: IndexRequests,
        watches: Watches,
        revisions: IndexRevisions,
        limits: TenantLimits,
        hook_delay: timedelta,
        kept_for: timedelta = _KEPT_FOR,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Hold the ports; indexes older than `kept_for` may be gone."""
        self._store = store
        self._index_requests = index_requests
        self._watches = watches
        self._revisions = revisions
        self._limits = limits
        self._hook_delay = hook_delay
        self._kept_for = kept_for
        self._now = now
        self._reads: SharedReads[UUID, tuple[EndpointIndex, Endpoint]] = SharedReads()

    async def index(self, principal: Principal, request: IndexEndpointRequest) -> IndexRequested:
        """Ask for an index of an endpoint.

        Raises:
            NotFoundError: there is no such endpoint for this principal.
            KongflowError: ENDPOINT_SUSPENDED, it is suspended and the request does not force.
            InvalidRequestError: the request id was used for another request.
        """
        wish = IndexWish(
            request.source, request.reason, request.source_data_json, request.run_at, request.priority, request.force
        )

        async def work(tx: Transaction) -> IndexRequested:
            endpoint = await owned_endpoint(tx, principal, request.endpoint_id)
            await self._index_requests.serialize(tx, endpoint.environment_id, endpoint.slug)
            endpoint = await owned_endpoint(tx, principal, request.endpoint_id)
            if request.request_id is not None:
                queue_job_id = await tx.requests.claim(
                    principal.name, "IndexEndpoint", request.request_id, request_hash(request)
                )
                if queue_job_id is not None:
                    deduplicated = await tx.requests.flag(principal.name, "IndexEndpoint", request.request_id)
                    return await self._requested_before(tx, queue_job_id, deduplicated=deduplicated)
            if endpoint.state is EndpointState.SUSPENDED and not request.force:
                raise KongflowError(
                    "The endpoint is suspended because it kept failing; ask with force once it answers again.",
                    reason=Reason.ENDPOINT_SUSPENDED,
                    metadata={"endpoint_id": str(endpoint.id)},
                )
            environment_type = await self._environment_type(tx, endpoint.environment_id)
            requested = await self._index_requests.request(tx, endpoint, environment_type, wish)
            if request.request_id is not None:
                await tx.requests.record(
                    principal.name,
                    "IndexEndpoint",
                    request.request_id,
                    request_hash(request),
                    requested.queue_job_id,
                    flag=requested.deduplicated,
                )
            return requested

        return await self._store.transact(work)

    async def deployed(
        self, environment_id: UUID, slug: str, hook_identifier: str, read_body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Take a deployment hook: an index follows a few seconds later, by which time the new version answers.

        The body is read once the identifier is known to be right; one that is no JSON is kept as null. Of an endpoint
        that fails the next probe is due by then: a deployment is the best reason to think that it is back.

        Raises:
            NotFoundError: no endpoint has this slug and this hook identifier.
            KongflowError: the endpoint's tenant asks too often, or too much at once.
        """
        async with self._store.reading() as tx:
            endpoint = await _hooked(tx, environment_id, slug, hook_identifier)
        with self._limits.calling_of(endpoint.organization_id):
            await self._deployed(environment_id, slug, hook_identifier, await read_body())

    async def _deployed(self, environment_id: UUID, slug: str, hook_identifier: str, body: bytes) -> None:
        source_data_json, reason = _read_hook(body)

        async def work(tx: Transaction) -> None:
            await self._index_requests.serialize(tx, environment_id, slug)
            endpoint = await _hooked(tx, environment_id, slug, hook_identifier)
            wish = IndexWish(IndexSource.HOOK, reason, source_data_json, quiet=self._hook_delay)
            environment_type = await self._environment_type(tx, environment_id)
            await self._index_requests.request(tx, endpoint, environment_type, wish)
            if endpoint.state is not EndpointState.HEALTHY:
                await tx.endpoints.hasten_probe(endpoint.id, within=self._hook_delay)

        await self._store.transact(work)

    async def get_index(self, principal: Principal, index_id: UUID, *, with_data: bool = False) -> EndpointIndex:
        """Return one index.

        Raises:
            NotFoundError: there is none for this principal.
        """
        async with self._store.reading() as tx:
            await self._require_owned(tx, principal, index_id)
            index = await tx.indexes.get(index_id, with_data=with_data)
        if index is None:
            raise NotFoundError("index", str(index_id))
        return index

    async def list_indexes(self, principal: Principal, endpoint_id: UUID, page: PageRequest) -> Page[EndpointIndex]:
        """Return an endpoint's indexes, newest first, without what the askers sent along.

        Raises:
            NotFoundError: there is no such endpoint for this principal.
        """
        async with self._store.reading() as tx:
            await owned_endpoint(tx, principal, endpoint_id)
            before = UUID(page.after) if page.after else None
            rows = await tx.indexes.list_indexes(endpoint_id, limit=page.limit, before=before)
        return page_of(rows, page, lambda index: str(index.id))

    async def list_items(
        self, principal: Principal, index_id: UUID, wanted: ItemFilter, page: PageRequest
    ) -> Page[EndpointIndexItem]:
        """Return an index's items in the order of the answer.

        Raises:
            NotFoundError: there is no such index for this principal.
        """
        async with self._store.reading(Pool.LISTS) as tx:
            await self._require_owned(tx, principal, index_id)
            rows = await tx.indexes.list_items(
                index_id,
                kind=wanted.kind,
                state=wanted.state,
                limit=page.limit,
                after_ordinal=int(page.after) if page.after else -1,
            )
        return page_of(rows, page, lambda item: str(item.ordinal))

    async def watch(
        self,
        principal: Principal,
        index_id: UUID,
        *,
        readmit: Callable[[], Awaitable[None]],
        resume_revision: int = 0,
    ) -> AsyncGenerator[EndpointIndex, None]:
        """Yield the index whenever its revision grew past `resume_revision`, and end with its final state.

        What the asker sent along is left out: it may be half a megabyte, for every revision. Those who watch the same
        index share what is read of it.

        Raises:
            NotFoundError: there is no such index for this principal.
            UnauthenticatedError: `readmit` no longer recognises the caller.
            KongflowError: DRAINING, this server stops, watch on from the last revision; QUOTA_EXCEEDED, the tenant has
                too many watches open; OUT_OF_RANGE, the index to watch on is so old that it was deleted.
        """
        seen = resume_revision
        with (
            closing(self._revisions.follow(index_id, seen=seen)) as follower,
            self._watches.open(principal, follower, advice="watch on from the last revision", readmit=readmit) as watch,
        ):
            while True:
                index = await self._watched(principal, index_id, seen)
                follower.seen = index.revision
                if index.revision > seen:
                    seen = index.revision
                    yield index
                if index.state.is_final:
                    return
                while not await watch.changed():
                    continue

    async def _watched(self, principal: Principal, index_id: UUID, seen: int) -> EndpointIndex:
        try:
            index, endpoint = await self._reads.read(index_id, lambda: self._read(index_id))
            _require_owner(principal, endpoint, index_id)
        except NotFoundError as error:
            made_at = time_of_uuid7(index_id)
            if seen and made_at is not None and made_at < self._now() - self._kept_for:
                raise KongflowError(
                    f"Indexes are kept for {self._kept_for.days} days, the last of an endpoint for longer; the index "
                    f"{str(index_id)!r} lies before that. List the endpoint's indexes and watch one of them.",
                    reason=Reason.OUT_OF_RANGE,
                    metadata={"resource": "index", "name": str(index_id)},
                ) from error
            raise
        return index

    async def _read(self, index_id: UUID) -> tuple[EndpointIndex, Endpoint]:
        """Read an index, for whoever watches it, and the endpoint that tells who may."""
        async with self._store.reading() as tx:
            index = await tx.indexes.get(index_id, with_source_data=False)
            endpoint = await tx.endpoints.get(index.endpoint_id) if index is not None else None
        if index is None or endpoint is None:
            raise NotFoundError("index", str(index_id))
        return index, endpoint

    async def _require_owned(self, tx: Transaction, principal: Principal, index_id: UUID) -> None:
        endpoint_id = await tx.indexes.endpoint_of(index_id)
        endpoint = await tx.endpoints.get(endpoint_id) if endpoint_id is not None else None
        if endpoint is None:
            raise NotFoundError("index", str(index_id))
        _require_owner(principal, endpoint, index_id)

    async def _environment_type(self, tx: Transaction, environment_id: UUID) -> EnvironmentType:
        environment = await tx.tenancy.known_environment(environment_id)
        if environment is None:
            raise NotFoundError("environment", str(environment_id))
        return environment.type

    async def _requested_before(self, tx: Transaction, queue_job_id: UUID, *, deduplicated: bool) -> IndexRequested:
        queue_job = await tx.queue_control.get(queue_job_id)
        index = await tx.indexes.get_by_queue_job(queue_job_id)
        if index is None:
            raise NotFoundError("index", str(queue_job_id))
        # The index outlives its queue job.
        run_time = index.created_at if queue_job is None else queue_job.run_at
        return IndexRequested(index, queue_job_id, deduplicated=deduplicated, run_time=run_time)


def _require_owner(principal: Principal, endpoint: Endpoint, index_id: UUID) -> None:
    require_owner(
        principal,
        organization_id=endpoint.organization_id,
        environment_id=endpoint.environment_id,
        resource="index",
        name=str(index_id),
    )


async def _hooked(tx: Transaction, environment_id: UUID, slug: str, hook_identifier: str) -> Endpoint:
    endpoint = await tx.endpoints.get_by_slug(environment_id, slug)
    expected = endpoint.indexing_hook_identifier if endpoint else "\0"
    is_right = hmac.compare_digest(expected.encode(), hook_identifier.encode())
    if endpoint is None or not is_right:
        raise NotFoundError("indexing hook", slug)
    return endpoint


def _read_hook(body: bytes) -> tuple[str | None, str | None]:
    if not body:
        return None, None
    try:
        value = parse_json(body)
    except JsonTextError:
        return None, None
    return dump_json(value), deployment_reason(value)
