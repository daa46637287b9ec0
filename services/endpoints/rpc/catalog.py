"""CatalogService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kongflow.v1 import catalog_service_pb2 as messages
from kongflow.v1.catalog_service_pb2_grpc import CatalogServiceServicer

from services.endpoints.operations.catalog import JobWish
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert_catalog import (
    dynamic_trigger_message,
    job_message,
    schedule_message,
    source_message,
)
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    import grpc

    from services.endpoints.operations.catalog import CatalogOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]


class CatalogServicer(CatalogServiceServicer):
    """Serves what indexes found."""

    def __init__(self, *, operations: CatalogOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging

    async def ListJobs(self, request: messages.ListJobsRequest, context: Context) -> messages.ListJobsResponse:
        """List jobs."""
        principal, checks = current_principal(), Checks()
        wanted = JobWish(
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
            endpoint_id=checks.optional_uuid("endpoint_id", request.endpoint_id),
            slug=checks.filter_text("slug", request.slug),
            title=checks.filter_text("title", request.title),
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_jobs(principal, wanted, asked)
        return messages.ListJobsResponse(
            jobs=map(job_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def GetJob(self, request: messages.GetJobRequest, context: Context) -> messages.GetJobResponse:
        """Return one job."""
        checks = Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        slug = checks.filter_text("slug", request.slug)
        if slug is None:
            checks.refuse("slug", "must not be empty")
        checks.finish()
        job = await self._operations.get_job(current_principal(), environment_id, slug or "")
        return messages.GetJobResponse(job=job_message(job))

    async def ListSources(self, request: messages.ListSourcesRequest, context: Context) -> messages.ListSourcesResponse:
        """List sources."""
        principal, checks = current_principal(), Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        endpoint_id = checks.optional_uuid("endpoint_id", request.endpoint_id)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_sources(principal, environment_id, asked, endpoint_id=endpoint_id)
        return messages.ListSourcesResponse(
            sources=map(source_message, page.items), next_page_token=self._paging.next_token(principal, request, page)
        )

    async def ListDynamicTriggers(
        self, request: messages.ListDynamicTriggersRequest, context: Context
    ) -> messages.ListDynamicTriggersResponse:
        """List dynamic triggers and dynamic schedules."""
        principal, checks = current_principal(), Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        endpoint_id = checks.optional_uuid("endpoint_id", request.endpoint_id)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_dynamic_triggers(principal, environment_id, asked, endpoint_id=endpoint_id)
        return messages.ListDynamicTriggersResponse(
            dynamic_triggers=map(dynamic_trigger_message, page.items),
            next_page_token=self._paging.next_token(principal, request, page),
        )

    async def ListSchedules(
        self, request: messages.ListSchedulesRequest, context: Context
    ) -> messages.ListSchedulesResponse:
        """List schedules."""
        principal, checks = current_principal(), Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_schedules(principal, environment_id, asked)
        return messages.ListSchedulesResponse(
            schedules=map(schedule_message, page.items),
            next_page_token=self._paging.next_token(principal, request, page),
        )
