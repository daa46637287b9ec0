"""Both services in this process on real PostgreSQL and Redis, with a tenant tree and a channel to call them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
from kongflow.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    dispatcher_service_pb2_grpc,
    endpoint_index_item_pb2,
    endpoint_service_pb2,
    endpoint_service_pb2_grpc,
    environment_pb2,
    event_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    run_service_pb2_grpc,
    tenancy_service_pb2,
    tenancy_service_pb2_grpc,
    token_pb2,
    worker_service_pb2_grpc,
)

from services.endpoints.app import Listening
from services.endpoints.app import run as run_endpoints
from services.endpoints.settings import EndpointsSettings, load_settings
from services.worker.app import run as run_worker
from services.worker.settings import load_settings as load_worker_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADMIN_TOKEN = "kf_admin_" + "a" * 40
SECRET_KEYS = "11" * 32
LOOKUP_PEPPER = "22" * 32

# A drain of two seconds, and as long for each pool that does not get its connections back.
_STOPS_WITHIN = timedelta(seconds=60)
_SERVES_WITHIN = timedelta(seconds=60)


def endpoints_settings(*, database_url: str, redis_url: str, **given: Any) -> EndpointsSettings:
    """Return settings on free ports that may call this machine."""
    return load_settings(
        **{
            "database_url": database_url,
            "redis_url": redis_url,
            "grpc_address": "127.0.0.1:0",
            "http_address": "127.0.0.1:0",
            "secret_keys": SECRET_KEYS,
            "lookup_pepper": LOOKUP_PEPPER,
            "admin_token": ADMIN_TOKEN,
            "egress_allow": "127.0.0.0/8,::1/128",
            "drain_timeout_seconds": 2,
            **given,
        }
    )


@dataclass(frozen=True, slots=True)
class Tenant:
    """An environment with credentials that see it."""

    organization_id: str
    project_id: str
    environment_id: str
    api_key: str
    service_token: str


def state_name(resource: Any) -> str:
    """Return a resource's state without the prefix of its enum."""
    field = resource.DESCRIPTOR.fields_by_name["state"]
    names = [value.name for value in field.enum_type.values]
    prefix = names[0].removesuffix("UNSPECIFIED")
    return str(field.enum_type.values_by_number[resource.state].name).removeprefix(prefix)


def _item_name(item: Any) -> str:
    kind = endpoint_index_item_pb2.EndpointIndexItemKind.Name(item.kind).removeprefix("ENDPOINT_INDEX_ITEM_KIND_")
    return str(item.key) if kind == "JOB" else f"{kind} {item.key}"


class Client:
    """Stubs of every service that call as one credential."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self.channel = channel
        self.watched = 0
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.tenancy = tenancy_service_pb2_grpc.TenancyServiceStub(channel)
        self.endpoints = endpoint_service_pb2_grpc.EndpointServiceStub(channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)
        self.dispatchers = dispatcher_service_pb2_grpc.DispatcherServiceStub(channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(channel)
        self.queue = queue_service_pb2_grpc.QueueServiceStub(channel)
        self.worker = worker_service_pb2_grpc.WorkerServiceStub(channel)

    async def call(self, method: Any, request: Any, **options: Any) -> Any:
        """Call a unary method with this credential."""
        return await method(request, metadata=self.metadata, **options)

    async def create_endpoint(self, tenant: Tenant, url: str, *, slug: str = "fake-endpoint", **fields: Any) -> Any:
        request = endpoint_service_pb2.CreateEndpointRequest(
            environment_id=tenant.environment_id, slug=slug, url=url, **fields
        )
        return await self.call(self.endpoints.CreateEndpoint, request)

    async def watch(self, index_id: str) -> list[Any]:
        """Return every state of an index up to its final one."""
        request = endpoint_service_pb2.WatchEndpointIndexRequest(index_id=index_id)
        call = self.endpoints.WatchEndpointIndex(request, metadata=self.metadata)
        states = []
        async for response in call:
            states.append(response.index)
            self.watched += 1
        return states

    async def items(self, index_id: str) -> dict[str, Any]:
        """Return an index's items: jobs by their key, others by kind and key, such as `SOURCE room`."""
        request = endpoint_service_pb2.ListEndpointIndexItemsRequest(index_id=index_id, page_size=1000)
        response = await self.call(self.endpoints.ListEndpointIndexItems, request)
        return {_item_name(item): item for item in response.items}

    async def item_states(self, index_id: str) -> dict[str, str]:
        """Return the states of an index's items by key."""
        return {key: state_name(item) for key, item in (await self.items(index_id)).items()}

    async def index(self, endpoint_id: str, **fields: Any) -> Any:
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=endpoint_id, **fields)
        return await self.call(self.endpoints.IndexEndpoint, request)

    async def indexes(self, endpoint_id: str) -> list[Any]:
        """Return an endpoint's indexes, newest first."""
        request = endpoint_service_pb2.ListEndpointIndexesRequest(endpoint_id=endpoint_id)
        return list((await self.call(self.endpoints.ListEndpointIndexes, request)).indexes)

    async def get_index(self, index_id: str) -> Any:
        request = endpoint_service_pb2.GetEndpointIndexRequest(index_id=index_id)
        return (await self.call(self.endpoints.GetEndpointIndex, request)).index

    async def queue_jobs(self, *, kind: str) -> list[Any]:
        """Return queue jobs of a kind, newest first."""
        request = queue_service_pb2.ListQueueJobsRequest(kind=kind, page_size=1000)
        return list((await self.call(self.queue.ListQueueJobs, request)).queue_jobs)

    async def active_jobs(self, tenant: Tenant) -> dict[str, bool]:
        """Return the slugs of an environment's jobs and whether the latest version is active."""
        request = catalog_service_pb2.ListJobsRequest(environment_id=tenant.environment_id, page_size=1000)
        jobs = (await self.call(self.catalog.ListJobs, request)).jobs
        return {job.slug: state_name(job.latest_version) == "ACTIVE" for job in jobs}


class Pair:
    """The running services."""

    def __init__(
        self,
        *,
        listening: Listening,
        channel: grpc.aio.Channel,
        database_url: str,
        redis_url: str,
        stop: asyncio.Event,
    ) -> None:
        self.stop = stop
        self.listening = listening
        self.channel = channel
        self.database_url = database_url
        self.redis_url = redis_url
        self.admin = Client(channel, ADMIN_TOKEN)
        self.http_url = f"http://127.0.0.1:{listening.http_port}"
        self.grpc_target = f"127.0.0.1:{listening.grpc_port}"

    def client(self, token: str | None) -> Client:
        return Client(self.channel, token)

    async def new_tenant(self, *, environment_type: str = "DEVELOPMENT") -> Tenant:
        """Create an organization with one project and one environment."""
        name = uuid4().hex[:12]
        tenancy = self.admin.tenancy
        organization = await self.admin.call(
            tenancy.CreateOrganization, tenancy_service_pb2.CreateOrganizationRequest(slug=f"org-{name}", title=name)
        )
        organization_id = organization.organization.id
        project = await self.admin.call(
            tenancy.CreateProject,
            tenancy_service_pb2.CreateProjectRequest(
                organization_id=organization_id, slug=f"project-{name}", name=name
            ),
        )
        token = await self.admin.call(
            tenancy.CreateToken,
            tenancy_service_pb2.CreateTokenRequest(
                kind=token_pb2.TOKEN_KIND_SERVICE,
                name="test",
                organization_id=organization_id,
                scopes=[token_pb2.TOKEN_SCOPE_READ, token_pb2.TOKEN_SCOPE_WRITE, token_pb2.TOKEN_SCOPE_OPERATE],
            ),
        )
        environment_id, api_key = await self.new_environment(project.project.id, environment_type=environment_type)
        return Tenant(organization_id, project.project.id, environment_id, api_key, token.secret)

    async def new_environment(
        self, project_id: str, *, environment_type: str = "DEVELOPMENT", slug: str = "dev"
    ) -> tuple[str, str]:
        """Create an environment; return its id and API key."""
        response = await self.admin.call(
            self.admin.tenancy.CreateEnvironment,
            tenancy_service_pb2.CreateEnvironmentRequest(
                project_id=project_id,
                slug=slug,
                type=environment_pb2.EnvironmentType.Value(f"ENVIRONMENT_TYPE_{environment_type}"),
            ),
        )
        return response.environment.id, response.api_key

    async def new_worker_token(self) -> str:
        response = await self.admin.call(
            self.admin.tenancy.CreateToken,
            tenancy_service_pb2.CreateTokenRequest(kind=token_pb2.TOKEN_KIND_WORKER, name="worker"),
        )
        return str(response.secret)


@asynccontextmanager
async def running_pair(*, database_url: str, redis_url: str, workers: int = 1, **given: Any) -> AsyncIterator[Pair]:
    """Run the endpoints service and some workers until the block ends."""
    async with AsyncExitStack() as stack:
        listening: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
        settings = endpoints_settings(database_url=database_url, redis_url=redis_url, **given)
        stop = await stack.enter_async_context(_stopped_after(run_endpoints, settings, listening.set_result))
        where = await asyncio.wait_for(listening, 10)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{where.grpc_port}"))
        pair = Pair(listening=where, channel=channel, database_url=database_url, redis_url=redis_url, stop=stop)
        await serving(channel)
        if workers:
            await stack.enter_async_context(
                running_workers(pair, workers, traces_endpoint=given.get("traces_endpoint"))
            )
        yield pair


@asynccontextmanager
async def running_workers(pair: Pair, count: int = 1, **given: Any) -> AsyncIterator[None]:
    """Run workers of a pair until the block ends."""
    settings = load_worker_settings(
        redis_url=pair.redis_url,
        grpc_target=pair.grpc_target,
        worker_token=await pair.new_worker_token(),
        worker_drain_timeout_seconds=2,
        **given,
    )
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(_stopped_after(run_worker, settings))
        yield


async def serving(channel: grpc.aio.Channel) -> None:
    """Return once the server says that it serves."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415 - only this needs it

    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    async with asyncio.timeout(_SERVES_WITHIN.total_seconds()):
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return


@asynccontextmanager
async def _stopped_after(service: Any, settings: Any, *arguments: Any) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    running = asyncio.create_task(service(settings, stop, *arguments))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(_STOPS_WITHIN.total_seconds()):
            await running
