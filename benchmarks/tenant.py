"""A tenant to measure with, and the calls that prepare and await what is measured."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import (
    dispatcher_pb2,
    dispatcher_service_pb2,
    endpoint_index_pb2,
    endpoint_service_pb2,
    environment_pb2,
    event_service_pb2,
    tenancy_service_pb2,
    token_pb2,
)
from kongflow.v1.dispatcher_service_pb2_grpc import DispatcherServiceStub
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceStub
from kongflow.v1.event_service_pb2_grpc import EventServiceStub
from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceStub

if TYPE_CHECKING:
    from kongflow.v1.dispatcher_service_pb2_grpc import DispatcherServiceAsyncStub
    from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceAsyncStub
    from kongflow.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceAsyncStub

    from benchmarks.stack import Bench

_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)
_IDLE_WITHIN: Final = timedelta(minutes=5)
_FINAL: Final = frozenset(
    {
        endpoint_index_pb2.ENDPOINT_INDEX_STATE_SUCCEEDED,
        endpoint_index_pb2.ENDPOINT_INDEX_STATE_PARTIALLY_SUCCEEDED,
        endpoint_index_pb2.ENDPOINT_INDEX_STATE_FAILED,
    }
)
_UNFINISHED: Final = "SELECT count(*) FROM queue_jobs WHERE state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING')"

Metadata = tuple[tuple[str, str], ...]


def bearer(token: str) -> Metadata:
    """Return the metadata that presents a credential."""
    return (("authorization", f"Bearer {token}"),)


class Tenant:
    """The stack's organization with its project and its DEVELOPMENT environment, where no index waits for a window."""

    def __init__(self, bench: Bench) -> None:
        development = bench.stack.environment
        self.bench = bench
        self.organization_id = development.organization_id
        self.project_id = development.project_id
        self.environment_id = development.environment_id
        self.admin = bearer(bench.stack.admin_token)
        self.service = bearer(development.service_token)
        self.worker = bearer(development.worker_token)
        self.tenancy: TenancyServiceAsyncStub = TenancyServiceStub(bench.channel)
        self.endpoints: EndpointServiceAsyncStub = EndpointServiceStub(bench.channel)
        self.events: EventServiceAsyncStub = EventServiceStub(bench.channel)
        self.dispatchers: DispatcherServiceAsyncStub = DispatcherServiceStub(bench.channel)
        self._numbers = itertools.count(1)

    def new_slug(self, prefix: str) -> str:
        """Return a slug that nothing has yet."""
        return f"{prefix}-{next(self._numbers)}"

    def offer_url(self, jobs: int, *, name: str, changing: bool = False) -> str:
        """Return where the customer offers this many jobs under a name, the same or new versions at every index."""
        return f"{self.bench.customer_url}/{'changes' if changing else 'offers'}/{jobs}/{name}"

    def token_request(self) -> tenancy_service_pb2.CreateTokenRequest:
        """Return a request for a service token of the tenant with every scope."""
        return tenancy_service_pb2.CreateTokenRequest(
            kind=token_pb2.TOKEN_KIND_SERVICE,
            name="benchmarks",
            organization_id=self.organization_id,
            scopes=[token_pb2.TOKEN_SCOPE_READ, token_pb2.TOKEN_SCOPE_WRITE, token_pb2.TOKEN_SCOPE_OPERATE],
        )

    async def new_token(self) -> str:
        """Create a token that nobody uses and return its id."""
        response = await self.tenancy.CreateToken(self.token_request(), metadata=self.admin)
        return response.token.id

    async def new_environment(self) -> str:
        """Create a DEVELOPMENT environment and return its id."""
        response = await self.tenancy.CreateEnvironment(
            tenancy_service_pb2.CreateEnvironmentRequest(
                project_id=self.project_id,
                slug=self.new_slug("environment"),
                type=environment_pb2.ENVIRONMENT_TYPE_DEVELOPMENT,
            ),
            metadata=self.admin,
        )
        return response.environment.id

    async def stored_endpoint(self) -> str:
        """Store an endpoint of one job without calling it and return its id."""
        slug = self.new_slug("stored")
        response = await self.endpoints.UpsertEndpoint(
            endpoint_service_pb2.UpsertEndpointRequest(
                environment_id=self.environment_id, slug=slug, url=self.offer_url(1, name=slug)
            ),
            metadata=self.service,
        )
        return response.endpoint.id

    def create_request(self, jobs: int, *, changing: bool = False) -> endpoint_service_pb2.CreateEndpointRequest:
        """Return a request for a new endpoint of this many jobs, which nobody else offers."""
        slug = self.new_slug("created")
        return endpoint_service_pb2.CreateEndpointRequest(
            environment_id=self.environment_id, slug=slug, url=self.offer_url(jobs, name=slug, changing=changing)
        )

    async def create_endpoint(
        self, jobs: int, *, changing: bool = False
    ) -> endpoint_service_pb2.CreateEndpointResponse:
        """Register a new endpoint."""
        return await self.endpoints.CreateEndpoint(self.create_request(jobs, changing=changing), metadata=self.service)

    async def audience(self, jobs: int) -> str:
        """Register an endpoint whose jobs all want one event, and return the event's name."""
        slug = self.new_slug("audience")
        request = endpoint_service_pb2.CreateEndpointRequest(
            environment_id=self.environment_id, slug=slug, url=f"{self.bench.customer_url}/listens/{jobs}/{slug}"
        )
        await self.finished((await self.endpoints.CreateEndpoint(request, metadata=self.service)).index_id)
        return f"{slug}.happened"

    def new_event(self, name: str) -> event_service_pb2.NewEvent:
        """Return an event that half of its audience would not get without its payload."""
        payload = '{"plan":"pro","user":{"id":9007199254740993,"name":"Ada"},"items":[1,2,3]}'
        return event_service_pb2.NewEvent(name=name, event_id=str(uuid4()), payload_json=payload)

    def send_request(self, name: str = "nobody.listens") -> event_service_pb2.SendEventRequest:
        """Return a request for one new event."""
        return event_service_pb2.SendEventRequest(environment_id=self.environment_id, event=self.new_event(name))

    async def send(self, name: str, deliver_delay: Duration | None = None) -> str:
        """Send a new event and return its record's id."""
        request = self.send_request(name)
        if deliver_delay is not None:
            request.event.deliver_delay.CopyFrom(deliver_delay)
        return (await self.events.SendEvent(request, metadata=self.service)).event.id

    async def delayed_event(self) -> str:
        """Send an event that is due tomorrow and return its record's id."""
        return await self.send("nobody.listens", Duration(seconds=86_400))

    def dispatcher_request(self, job_version_id: str) -> dispatcher_service_pb2.CreateDispatcherRequest:
        """Return a request for a dispatcher that listens to an event of its own."""
        return dispatcher_service_pb2.CreateDispatcherRequest(
            environment_id=self.environment_id,
            dispatcher=dispatcher_pb2.Dispatcher(
                event_names=[self.new_slug("event")],
                payload_filter_json='{"plan":["pro"]}',
                enabled=True,
                job_version_id=job_version_id,
            ),
        )

    async def new_dispatcher(self, job_version_id: str) -> str:
        """Create a dispatcher and return its id."""
        request = self.dispatcher_request(job_version_id)
        return (await self.dispatchers.CreateDispatcher(request, metadata=self.service)).dispatcher.id

    async def force_index(self, endpoint_id: str) -> endpoint_service_pb2.IndexEndpointResponse:
        """Ask for an index that runs now."""
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=endpoint_id, force=True)
        return await self.endpoints.IndexEndpoint(request, metadata=self.service)

    async def delayed_index(self) -> str:
        """Ask for an index of a new endpoint that is due tomorrow and return its queue job's id."""
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=await self.stored_endpoint())
        request.run_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
        response = await self.endpoints.IndexEndpoint(request, metadata=self.service)
        return response.queue_job_id

    async def finished(self, index_id: str) -> endpoint_index_pb2.EndpointIndex:
        """Watch an index until it is final and return it.

        Raises:
            RuntimeError: it did not succeed, so its time says nothing.
        """
        watch = self.endpoints.WatchEndpointIndex(
            endpoint_service_pb2.WatchEndpointIndexRequest(index_id=index_id), metadata=self.service
        )
        async for response in watch:
            if response.index.state in _FINAL:
                watch.cancel()
                if response.index.state != endpoint_index_pb2.ENDPOINT_INDEX_STATE_SUCCEEDED:
                    raise RuntimeError(f"The index did not succeed: {response.index}")
                return response.index
        raise RuntimeError("The watch ended before the index did.")

    async def sizes(self) -> str:
        """Return how much has come together, in words."""
        jobs = await self.bench.database.fetchval("SELECT count(*) FROM jobs")
        endpoints = await self.bench.database.fetchval("SELECT count(*) FROM endpoints")
        queue_jobs = await self.bench.database.fetchval("SELECT count(*) FROM queue_jobs")
        return f"{endpoints:,} endpoints, {jobs:,} jobs and {queue_jobs:,} queue jobs"

    async def idle(self) -> None:
        """Wait until the ledger holds no unfinished work.

        Raises:
            TimeoutError: it still does after five minutes.
        """
        async with asyncio.timeout(_IDLE_WITHIN.total_seconds()):
            while await self.bench.database.fetchval(_UNFINISHED):  # noqa: ASYNC110 - another process finishes the work
                await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
