"""Which requests measure each method, and what must exist before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from kongflow.v1 import (
    catalog_service_pb2,
    dispatcher_pb2,
    dispatcher_service_pb2,
    endpoint_pb2,
    endpoint_service_pb2,
    environment_pb2,
    event_service_pb2,
    queue_job_pb2,
    queue_pb2,
    queue_service_pb2,
    run_service_pb2,
    tenancy_service_pb2,
    worker_service_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from benchmarks.tenant import Metadata, Tenant

PAGE_SIZE: Final = 50
JOBS_OF_A_NEW_ENDPOINT: Final = 10
_MAKERS: Final = 8

Requests = Callable[[int], Awaitable[Sequence["Message"]]]


@dataclass(frozen=True, slots=True)
class Case:
    """Makes `count` requests of one method, which are sent in this order as `credential`.

    `pings` says that the method calls the customer before it answers.
    """

    requests: Requests
    credential: Metadata
    pings: bool = False


@dataclass(frozen=True, slots=True)
class Fixture:
    """What the reading methods read: an endpoint with a catalog, and an endpoint and an environment for each caller."""

    endpoint_id: str
    job_slug: str
    index_id: str
    queue_job_id: str
    job_version_id: str
    event_record_id: str
    run_id: str
    dispatcher_id: str
    endpoint_ids: Sequence[str]
    environment_ids: Sequence[str]


async def prepare(tenant: Tenant, *, jobs: int, callers: int) -> Fixture:
    """Register an endpoint of `jobs` jobs and store what each of `callers` callers changes."""
    created = await tenant.create_endpoint(jobs)
    index = await tenant.finished(created.index_id)
    event_record_id = await tenant.send(await tenant.audience(JOBS_OF_A_NEW_ENDPOINT))
    await tenant.idle()
    run = await tenant.bench.database.fetchrow("SELECT id, version_id FROM job_runs LIMIT 1")
    if run is None:
        raise RuntimeError("The event made no run.")
    job_version_id = str(run["version_id"])
    return Fixture(
        endpoint_id=created.endpoint.id,
        job_slug=f"{created.endpoint.slug}-00000",
        index_id=created.index_id,
        queue_job_id=index.queue_job_id,
        job_version_id=job_version_id,
        event_record_id=event_record_id,
        run_id=str(run["id"]),
        dispatcher_id=await tenant.new_dispatcher(job_version_id),
        endpoint_ids=[await tenant.stored_endpoint() for _ in range(callers)],
        environment_ids=[await tenant.new_environment() for _ in range(callers)],
    )


def cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    """Return the case of every unary method by the method's name."""
    return {
        **_tenancy_cases(tenant, fixture),
        **_endpoint_cases(tenant, fixture),
        **_index_cases(tenant, fixture),
        **_catalog_cases(tenant, fixture),
        **_event_cases(tenant, fixture),
        **_dispatcher_cases(tenant, fixture),
        **_queue_cases(tenant, fixture),
    }


def _tenancy_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = tenancy_service_pb2
    organization = tenant.organization_id
    admin = tenant.admin
    return {
        "CreateOrganization": Case(
            _each(lambda: contract.CreateOrganizationRequest(slug=f"organization-{uuid4().hex}", title="Benchmarks")),
            admin,
        ),
        "CreateProject": Case(
            _each(
                lambda: contract.CreateProjectRequest(
                    organization_id=organization, slug=tenant.new_slug("project"), name="Benchmarks"
                )
            ),
            admin,
        ),
        "CreateEnvironment": Case(
            _each(
                lambda: contract.CreateEnvironmentRequest(
                    project_id=tenant.project_id,
                    slug=tenant.new_slug("environment"),
                    type=environment_pb2.ENVIRONMENT_TYPE_DEVELOPMENT,
                )
            ),
            admin,
        ),
        "GetEnvironment": Case(
            _same(contract.GetEnvironmentRequest(environment_id=tenant.environment_id)), tenant.service
        ),
        "ListEnvironments": Case(
            _same(contract.ListEnvironmentsRequest(organization_id=organization, page_size=PAGE_SIZE)), tenant.service
        ),
        "RotateApiKey": Case(
            _in_turn([contract.RotateApiKeyRequest(environment_id=id_) for id_ in fixture.environment_ids]), admin
        ),
        "RotateSigningSecret": Case(
            _in_turn([contract.RotateSigningSecretRequest(environment_id=id_) for id_ in fixture.environment_ids]),
            admin,
        ),
        "CreateToken": Case(_each(tenant.token_request), admin),
        "ListTokens": Case(_same(contract.ListTokensRequest(organization_id=organization, page_size=PAGE_SIZE)), admin),
        "RotateToken": Case(_made(tenant.new_token, lambda id_: contract.RotateTokenRequest(token_id=id_)), admin),
        "RevokeToken": Case(_made(tenant.new_token, lambda id_: contract.RevokeTokenRequest(token_id=id_)), admin),
    }


def _endpoint_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = endpoint_service_pb2
    environment = tenant.environment_id
    service = tenant.service
    return {
        "CreateEndpoint": Case(
            _each(lambda: tenant.create_request(JOBS_OF_A_NEW_ENDPOINT)),
            service,
            pings=True,
        ),
        "UpsertEndpoint": Case(_upserts(tenant), service),
        "GetEndpoint": Case(_same(contract.GetEndpointRequest(endpoint_id=fixture.endpoint_id)), service),
        "ListEndpoints": Case(
            _same(contract.ListEndpointsRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
        "UpdateEndpoint": Case(_moves(tenant, fixture), service, pings=True),
        "DeleteEndpoint": Case(
            _made(
                tenant.stored_endpoint,
                lambda id_: contract.DeleteEndpointRequest(endpoint_id=id_),
            ),
            service,
        ),
        "PingEndpoint": Case(
            _in_turn([contract.PingEndpointRequest(endpoint_id=id_) for id_ in fixture.endpoint_ids]),
            service,
            pings=True,
        ),
        "ResumeEndpoint": Case(
            _in_turn([contract.ResumeEndpointRequest(endpoint_id=id_) for id_ in fixture.endpoint_ids]), service
        ),
    }


def _index_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = endpoint_service_pb2
    service = tenant.service
    return {
        "IndexEndpoint": Case(
            _in_turn([contract.IndexEndpointRequest(endpoint_id=id_) for id_ in fixture.endpoint_ids]), service
        ),
        "GetEndpointIndex": Case(_same(contract.GetEndpointIndexRequest(index_id=fixture.index_id)), service),
        "ListEndpointIndexes": Case(
            _same(contract.ListEndpointIndexesRequest(endpoint_id=fixture.endpoint_id, page_size=PAGE_SIZE)), service
        ),
        "ListEndpointIndexItems": Case(
            _same(contract.ListEndpointIndexItemsRequest(index_id=fixture.index_id, page_size=PAGE_SIZE)), service
        ),
    }


def _catalog_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = catalog_service_pb2
    environment = tenant.environment_id
    service = tenant.service
    return {
        "ListJobs": Case(_same(contract.ListJobsRequest(environment_id=environment, page_size=PAGE_SIZE)), service),
        "GetJob": Case(_same(contract.GetJobRequest(environment_id=environment, slug=fixture.job_slug)), service),
        "ListSources": Case(
            _same(contract.ListSourcesRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
        "ListDynamicTriggers": Case(
            _same(contract.ListDynamicTriggersRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
        "ListSchedules": Case(
            _same(contract.ListSchedulesRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
    }


def _event_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = event_service_pb2
    environment = tenant.environment_id
    service = tenant.service
    return {
        "SendEvent": Case(_each(tenant.send_request), service),
        "SendEvents": Case(
            _each(
                lambda: contract.SendEventsRequest(
                    environment_id=environment, events=[tenant.new_event("nobody.listens") for _ in range(PAGE_SIZE)]
                )
            ),
            service,
        ),
        "GetEvent": Case(_same(contract.GetEventRequest(id=fixture.event_record_id)), service),
        "ListEvents": Case(_same(contract.ListEventsRequest(environment_id=environment, page_size=PAGE_SIZE)), service),
        "CancelEvent": Case(_made(tenant.delayed_event, lambda id_: contract.CancelEventRequest(id=id_)), service),
        "ReplayEvents": Case(
            _same(contract.ReplayEventsRequest(environment_id=environment, ids=[fixture.event_record_id])), service
        ),
        "ExplainEvent": Case(
            _same(contract.ExplainEventRequest(id=fixture.event_record_id, page_size=PAGE_SIZE)), service
        ),
        "GetRun": Case(_same(run_service_pb2.GetRunRequest(run_id=fixture.run_id)), service),
        "ListRuns": Case(
            _same(run_service_pb2.ListRunsRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
    }


def _dispatcher_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = dispatcher_service_pb2
    service = tenant.service
    version = fixture.job_version_id
    disabled = dispatcher_pb2.Dispatcher(id=fixture.dispatcher_id, enabled=False)
    enabled = dispatcher_pb2.Dispatcher(id=fixture.dispatcher_id, enabled=True)
    return {
        "CreateDispatcher": Case(_each(lambda: tenant.dispatcher_request(version)), service),
        "GetDispatcher": Case(_same(contract.GetDispatcherRequest(dispatcher_id=fixture.dispatcher_id)), service),
        "ListDispatchers": Case(
            _same(contract.ListDispatchersRequest(environment_id=tenant.environment_id, page_size=PAGE_SIZE)), service
        ),
        "UpdateDispatcher": Case(
            _in_turn(
                [
                    contract.UpdateDispatcherRequest(dispatcher=each, update_mask=FieldMask(paths=["enabled"]))
                    for each in (disabled, enabled)
                ]
            ),
            service,
        ),
        "DeleteDispatcher": Case(
            _made(
                lambda: tenant.new_dispatcher(version), lambda id_: contract.DeleteDispatcherRequest(dispatcher_id=id_)
            ),
            service,
        ),
    }


def _queue_cases(tenant: Tenant, fixture: Fixture) -> Mapping[str, Case]:
    contract = queue_service_pb2
    environment = tenant.environment_id
    service = tenant.service
    lanes = [f"endpoint-{id_}" for id_ in fixture.endpoint_ids]
    return {
        "ListQueueJobs": Case(
            _same(contract.ListQueueJobsRequest(environment_id=environment, page_size=PAGE_SIZE)), service
        ),
        "GetQueueJob": Case(_same(contract.GetQueueJobRequest(queue_job_id=fixture.queue_job_id)), service),
        "RetryQueueJob": Case(
            _made(tenant.delayed_index, lambda id_: contract.RetryQueueJobRequest(queue_job_id=id_)), service
        ),
        # It says what it would do: doing it is what the registrations show.
        "RetryQueueJobs": Case(
            _same(
                contract.RetryQueueJobsRequest(
                    environment_id=environment,
                    state=queue_job_pb2.QUEUE_JOB_STATE_COMPLETED,
                    max_count=PAGE_SIZE,
                    allow_repeat=True,
                    validate_only=True,
                )
            ),
            service,
        ),
        "CancelQueueJob": Case(
            _made(tenant.delayed_index, lambda id_: contract.CancelQueueJobRequest(queue_job_id=id_)), service
        ),
        "PauseQueue": Case(
            _in_turn([contract.PauseQueueRequest(queue=queue_pb2.QUEUE_DEFAULT, lane=lane) for lane in lanes]), service
        ),
        "ResumeQueue": Case(
            _in_turn([contract.ResumeQueueRequest(queue=queue_pb2.QUEUE_DEFAULT, lane=lane) for lane in lanes]), service
        ),
        "GetQueueStats": Case(_same(contract.GetQueueStatsRequest(environment_id=environment)), service),
        # Nothing is due in these lanes: what a batch of work takes is shown by the registrations.
        "RunQueueJobs": Case(
            _in_turn(
                [worker_service_pb2.RunQueueJobsRequest(queue=queue_pb2.QUEUE_DEFAULT, lanes=[lane]) for lane in lanes]
            ),
            tenant.worker,
        ),
    }


def _same(request: Message) -> Requests:
    async def requests(count: int) -> Sequence[Message]:
        return [request] * count

    return requests


def _in_turn(some: Sequence[Message]) -> Requests:
    async def requests(count: int) -> Sequence[Message]:
        return list(islice(cycle(some), count))

    return requests


def _each(new: Callable[[], Message]) -> Requests:
    async def requests(count: int) -> Sequence[Message]:
        return [new() for _ in range(count)]

    return requests


def _made(make: Callable[[], Awaitable[str]], request: Callable[[str], Message]) -> Requests:
    """Make a resource for every request before the first is sent, a few at a time."""

    async def requests(count: int) -> Sequence[Message]:
        few = asyncio.Semaphore(_MAKERS)

        async def make_one() -> Message:
            async with few:
                return request(await make())

        return await asyncio.gather(*(make_one() for _ in range(count)))

    return requests


def _upserts(tenant: Tenant) -> Requests:
    async def requests(count: int) -> Sequence[Message]:
        slugs = [tenant.new_slug("stored") for _ in range(count)]
        return [
            endpoint_service_pb2.UpsertEndpointRequest(
                environment_id=tenant.environment_id, slug=slug, url=tenant.offer_url(1, name=slug)
            )
            for slug in slugs
        ]

    return requests


def _moves(tenant: Tenant, fixture: Fixture) -> Requests:
    """Give every endpoint another url at every turn, so that each call pings and asks for an index."""

    async def requests(count: int) -> Sequence[Message]:
        endpoints = islice(cycle(fixture.endpoint_ids), count)
        return [
            endpoint_service_pb2.UpdateEndpointRequest(
                endpoint=endpoint_pb2.Endpoint(id=id_, url=tenant.offer_url(1, name=uuid4().hex)),
                update_mask=FieldMask(paths=["url"]),
            )
            for id_ in endpoints
        ]

    return requests
