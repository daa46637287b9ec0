"""EndpointService: validates, calls the operations, converts."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import endpoint_pb2
from kongflow.v1 import endpoint_service_pb2 as messages
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceServicer

from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.queue_job import Priority
from services.endpoints.operations.authorization import may_see_hook_identifier
from services.endpoints.operations.endpoints import CreateEndpoint, UpdateEndpoint, UpsertEndpoint
from services.endpoints.operations.indexing import IndexEndpointRequest, ItemFilter
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal, readmit_caller
from services.endpoints.rpc.convert import dated, duration, endpoint_message, index_message, item_message
from services.endpoints.rpc.deadlines import DEFAULT_DEADLINES, Deadlines, remaining_time
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    import grpc

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.operations.endpoints import EndpointOperations
    from services.endpoints.operations.indexing import IndexingOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]

MAX_TIME_AHEAD: Final = timedelta(days=366)

_INDEX_SOURCES: Final = enums.members(enums.INDEX_SOURCE)
_PRIORITIES: Final = enums.members(enums.PRIORITY)
_STATES: Final = enums.members(enums.ENDPOINT_STATE)
_ITEM_STATES: Final = enums.members(enums.ITEM_STATE)
_ITEM_KINDS: Final = enums.members(enums.ITEM_KIND)

_UPDATABLE: Final = frozenset({"url"})
_IMMUTABLE: Final = frozenset({"slug", "environment_id"})
_FIELDS: Final = frozenset(endpoint_pb2.Endpoint.DESCRIPTOR.fields_by_name)


class EndpointServicer(EndpointServiceServicer):
    """Serves endpoints and their indexes."""

    def __init__(
        self,
        *,
        endpoints: EndpointOperations,
        indexing: IndexingOperations,
        paging: Paging,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._endpoints = endpoints
        self._indexing = indexing
        self._paging = paging
        self._deadlines = deadlines
        self._clock = clock

    def _deadline(self, method: str, context: Context) -> timedelta:
        return self._deadlines.of(f"/kongflow.v1.EndpointService/{method}", remaining_time(context))

    async def CreateEndpoint(
        self, request: messages.CreateEndpointRequest, context: Context
    ) -> messages.CreateEndpointResponse:
        """Register an endpoint."""
        checks = Checks()
        wanted = CreateEndpoint(
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
            slug=checks.slug("slug", request.slug),
            url=checks.url("url", request.url),
            organization_id=checks.optional_uuid("organization_id", request.organization_id),
            project_id=checks.optional_uuid("project_id", request.project_id),
            request_id=checks.request_id("request_id", request.request_id),
        )
        checks.finish()
        created = await self._endpoints.create(
            current_principal(), wanted, deadline=self._deadline("CreateEndpoint", context)
        )
        return dated(
            messages.CreateEndpointResponse(
                endpoint=_visible(created.endpoint),
                created=created.created,
                index_id=str(created.index_id),
            ),
            run_time=created.run_time,
        )

    async def UpsertEndpoint(
        self, request: messages.UpsertEndpointRequest, context: Context
    ) -> messages.UpsertEndpointResponse:
        """Store an endpoint."""
        checks = Checks()
        wanted = UpsertEndpoint(
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
            slug=checks.slug("slug", request.slug),
            url=checks.url("url", request.url),
            indexing_hook_identifier=checks.hook_identifier(
                "indexing_hook_identifier", request.indexing_hook_identifier
            ),
            request_id=checks.request_id("request_id", request.request_id),
        )
        checks.finish()
        stored = await self._endpoints.upsert(current_principal(), wanted)
        return messages.UpsertEndpointResponse(endpoint=_visible(stored.endpoint), created=stored.created)

    async def GetEndpoint(self, request: messages.GetEndpointRequest, context: Context) -> messages.GetEndpointResponse:
        """Return one endpoint."""
        checks = Checks()
        if request.WhichOneof("lookup") == "key":
            environment_id = checks.optional_uuid("key.environment_id", request.key.environment_id)
            slug = checks.slug("key.slug", request.key.slug)
            checks.finish()
            endpoint = await self._endpoints.get_by_slug(current_principal(), environment_id, slug)
        else:
            endpoint_id = checks.uuid("endpoint_id", request.endpoint_id)
            checks.finish()
            endpoint = await self._endpoints.get(current_principal(), endpoint_id)
        return messages.GetEndpointResponse(endpoint=_visible(endpoint))

    async def ListEndpoints(
        self, request: messages.ListEndpointsRequest, context: Context
    ) -> messages.ListEndpointsResponse:
        """List endpoints."""
        principal, checks = current_principal(), Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        state = checks.enum("state", request.state, _STATES)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._endpoints.list_endpoints(principal, environment_id, asked, state=state)
        return messages.ListEndpointsResponse(
            endpoints=map(_visible, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def UpdateEndpoint(
        self, request: messages.UpdateEndpointRequest, context: Context
    ) -> messages.UpdateEndpointResponse:
        """Change an endpoint."""
        checks = Checks()
        wanted = _update_request(checks, request)
        checks.finish()
        updated = await self._endpoints.update(
            current_principal(), wanted, deadline=self._deadline("UpdateEndpoint", context)
        )
        return messages.UpdateEndpointResponse(
            endpoint=_visible(updated.endpoint), index_id=str(updated.index_id or "")
        )

    async def DeleteEndpoint(
        self, request: messages.DeleteEndpointRequest, context: Context
    ) -> messages.DeleteEndpointResponse:
        """Delete an endpoint."""
        endpoint_id = _required_id("endpoint_id", request.endpoint_id)
        await self._endpoints.delete(current_principal(), endpoint_id, allow_missing=request.allow_missing)
        return messages.DeleteEndpointResponse()

    async def PingEndpoint(
        self, request: messages.PingEndpointRequest, context: Context
    ) -> messages.PingEndpointResponse:
        """Ping an endpoint."""
        endpoint_id = _required_id("endpoint_id", request.endpoint_id)
        result = await self._endpoints.ping(
            current_principal(), endpoint_id, deadline=self._deadline("PingEndpoint", context)
        )
        return messages.PingEndpointResponse(
            ok=result.ok,
            error=result.error or "",
            http_status=result.http_status or 0,
            duration=duration(result.duration),
        )

    async def ResumeEndpoint(
        self, request: messages.ResumeEndpointRequest, context: Context
    ) -> messages.ResumeEndpointResponse:
        """Make an endpoint HEALTHY."""
        endpoint_id = _required_id("endpoint_id", request.endpoint_id)
        resumed = await self._endpoints.resume(current_principal(), endpoint_id)
        return messages.ResumeEndpointResponse(endpoint=_visible(resumed))

    async def IndexEndpoint(
        self, request: messages.IndexEndpointRequest, context: Context
    ) -> messages.IndexEndpointResponse:
        """Ask for an index."""
        checks = Checks()
        wanted = self._index_request(checks, request)
        checks.finish()
        requested = await self._indexing.index(current_principal(), wanted)
        return dated(
            messages.IndexEndpointResponse(
                index=index_message(requested.index),
                queue_job_id=str(requested.queue_job_id),
                deduplicated=requested.deduplicated,
            ),
            run_time=requested.run_time,
        )

    async def GetEndpointIndex(
        self, request: messages.GetEndpointIndexRequest, context: Context
    ) -> messages.GetEndpointIndexResponse:
        """Return one index."""
        index_id = _required_id("index_id", request.index_id)
        index = await self._indexing.get_index(current_principal(), index_id, with_data=request.include_data)
        return messages.GetEndpointIndexResponse(index=index_message(index))

    async def ListEndpointIndexes(
        self, request: messages.ListEndpointIndexesRequest, context: Context
    ) -> messages.ListEndpointIndexesResponse:
        """List the indexes of an endpoint."""
        principal, checks = current_principal(), Checks()
        endpoint_id = checks.uuid("endpoint_id", request.endpoint_id)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._indexing.list_indexes(principal, endpoint_id, asked)
        return messages.ListEndpointIndexesResponse(
            indexes=map(index_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def ListEndpointIndexItems(
        self, request: messages.ListEndpointIndexItemsRequest, context: Context
    ) -> messages.ListEndpointIndexItemsResponse:
        """List the items of an index."""
        principal, checks = current_principal(), Checks()
        index_id = checks.uuid("index_id", request.index_id)
        wanted = ItemFilter(
            kind=checks.enum("kind", request.kind, _ITEM_KINDS),
            state=checks.enum("state", request.state, _ITEM_STATES),
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._indexing.list_items(principal, index_id, wanted, asked)
        return messages.ListEndpointIndexItemsResponse(
            items=map(item_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def WatchEndpointIndex(
        self, request: messages.WatchEndpointIndexRequest, context: Context
    ) -> AsyncIterator[messages.WatchEndpointIndexResponse]:
        """Stream an index whenever it changes."""
        checks = Checks()
        index_id = checks.uuid("index_id", request.index_id)
        if request.resume_revision < 0:
            checks.refuse("resume_revision", "must not be negative")
        checks.finish()
        watch = self._indexing.watch(
            current_principal(), index_id, readmit=readmit_caller, resume_revision=request.resume_revision
        )
        async with aclosing(watch) as changes:
            async for index in changes:
                yield messages.WatchEndpointIndexResponse(index=index_message(index))

    def _index_request(self, checks: Checks, request: messages.IndexEndpointRequest) -> IndexEndpointRequest:
        run_at: datetime | None = None
        if request.HasField("run_time"):
            run_at = checks.time("run_time", request.run_time, latest=self._clock() + MAX_TIME_AHEAD)
        return IndexEndpointRequest(
            endpoint_id=checks.uuid("endpoint_id", request.endpoint_id),
            source=checks.enum("source", request.source, _INDEX_SOURCES) or IndexSource.API,
            reason=checks.reason("reason", request.reason),
            source_data_json=checks.json("source_data_json", request.source_data_json),
            run_at=run_at,
            priority=checks.enum("priority", request.priority, _PRIORITIES) or Priority.NORMAL,
            force=request.force,
            request_id=checks.request_id("request_id", request.request_id),
        )


def _visible(endpoint: Endpoint) -> endpoint_pb2.Endpoint:
    """Return an endpoint as the current caller may see it."""
    return endpoint_message(endpoint, with_hook_identifier=may_see_hook_identifier(current_principal()))


def _required_id(field: str, text: str) -> UUID:
    checks = Checks()
    value = checks.uuid(field, text)
    checks.finish()
    return value


def _update_request(checks: Checks, request: messages.UpdateEndpointRequest) -> UpdateEndpoint:
    """Read which fields are to change.

    Source: AIP-134 for an absent mask and `*`; AIP-203 for output-only fields, which are ignored.
    """
    endpoint = request.endpoint
    paths = set(request.update_mask.paths)
    for path in sorted(paths - {"*"}):
        if path not in _FIELDS:
            checks.refuse("update_mask", f"must not name {path!r:.100}, which is no field of an endpoint")
        elif path in _IMMUTABLE:
            checks.refuse("update_mask", f"must not name {path!r}, which never changes")
    if not paths:
        paths = {descriptor.name for descriptor, _ in endpoint.ListFields()}
    changed = _UPDATABLE if "*" in paths else paths & _UPDATABLE
    return UpdateEndpoint(
        endpoint_id=checks.uuid("endpoint.id", endpoint.id),
        url=checks.url("endpoint.url", endpoint.url) if "url" in changed else None,
        request_id=checks.request_id("request_id", request.request_id),
    )
