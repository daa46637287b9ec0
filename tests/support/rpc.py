"""The endpoints service in this process, without workers: real gRPC, real PostgreSQL, the doorbell in memory.

async with running_service(database_url) as service:
    admin = service.caller(ADMIN_TOKEN)
    await admin.tenancy.CreateOrganization(...)
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from kongflow.v1.catalog_service_pb2_grpc import CatalogServiceStub
from kongflow.v1.dispatcher_service_pb2_grpc import DispatcherServiceStub
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceStub
from kongflow.v1.environment_pb2 import ENVIRONMENT_TYPE_DEVELOPMENT, ENVIRONMENT_TYPE_PRODUCTION
from kongflow.v1.event_service_pb2_grpc import EventServiceStub
from kongflow.v1.queue_service_pb2_grpc import QueueServiceStub
from kongflow.v1.run_service_pb2_grpc import RunServiceStub
from kongflow.v1.tenancy_service_pb2 import (
    CreateEnvironmentRequest,
    CreateOrganizationRequest,
    CreateProjectRequest,
    CreateTokenRequest,
)
from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceStub
from kongflow.v1.token_pb2 import (
    TOKEN_KIND_SERVICE,
    TOKEN_KIND_WORKER,
    TOKEN_SCOPE_OPERATE,
    TOKEN_SCOPE_READ,
    TOKEN_SCOPE_WRITE,
)
from kongflow.v1.worker_service_pb2_grpc import WorkerServiceStub

from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.callers import Callers
from services.endpoints.operations.limits import CallLimits
from services.endpoints.operations.rounds import Rounds
from services.endpoints.rpc.server import RpcServer, RpcServices
from services.endpoints.settings import EndpointsSettings
from services.endpoints.store.postgres import PostgresStore
from services.endpoints.telemetry.metrics import Metrics
from services.endpoints.wiring import Operations, build_operations
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from uuid import UUID

    from google.protobuf.any_pb2 import Any as PackedMessage
    from kongflow.v1.environment_pb2 import Environment
    from kongflow.v1.token_pb2 import TokenScope

ADMIN_TOKEN = "kf_admin_only-for-tests-0000000000"
ALL_SCOPES = (TOKEN_SCOPE_READ, TOKEN_SCOPE_WRITE, TOKEN_SCOPE_OPERATE)


class _Credential:
    """Adds one credential to a call; None adds nothing."""

    def __init__(self, credential: str | None) -> None:
        self._metadata = () if credential is None else (("authorization", f"Bearer {credential}"),)

    def add_to(self, details: Any) -> Any:
        return details._replace(metadata=grpc.aio.Metadata(*(details.metadata or ()), *self._metadata))


class _UnaryCredential(_Credential, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.add_to(client_call_details), request)


class _StreamCredential(_Credential, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.add_to(client_call_details), request)


class _DialogueCredential(_Credential, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.add_to(client_call_details), request_iterator)


class Caller:
    """The stubs of every service with one credential; None sends none."""

    def __init__(self, address: str, credential: str | None) -> None:
        self.address = address
        kinds = (_UnaryCredential(credential), _StreamCredential(credential), _DialogueCredential(credential))
        self.channel = grpc.aio.insecure_channel(address, interceptors=kinds)
        self.tenancy: Any = TenancyServiceStub(self.channel)
        self.endpoints: Any = EndpointServiceStub(self.channel)
        self.catalog: Any = CatalogServiceStub(self.channel)
        self.events: Any = EventServiceStub(self.channel)
        self.dispatchers: Any = DispatcherServiceStub(self.channel)
        self.runs: Any = RunServiceStub(self.channel)
        self.queue: Any = QueueServiceStub(self.channel)
        self.worker: Any = WorkerServiceStub(self.channel)

    def send(self, method: str, request: bytes) -> Awaitable[bytes]:
        """Call `/package.Service/Method` with bytes that no stub would send."""
        call: Any = self.channel.unary_unary(method)
        answer: Awaitable[bytes] = call(request)
        return answer


@dataclass(frozen=True, slots=True)
class CallRecord:
    method: str
    code: str


@dataclass(slots=True)
class CallJournal:
    """Keeps every observed call."""

    calls: list[CallRecord] = field(default_factory=list)

    def count_run(self, queue: str, *, completed: int, failed: int) -> None:
        """Take no notice: this is about calls."""

    def count_rung_again(self, lanes: int) -> None:
        """Take no notice."""

    def count_unreadable_filters(self, dispatchers: int) -> None:
        """Take no notice."""

    def count_delivered(self, events: int, *, invocations: int) -> None:
        """Take no notice."""

    def count_attempts(self, kind: str, result: str, attempts: int) -> None:
        """Take no notice."""

    def count_discarded(self, kind: str, reason: str) -> None:
        """Take no notice."""

    def count_created(self, *, environment_id: UUID, organization_id: UUID) -> None:
        """Take no notice."""

    def observe_call(self, method: str, *, code: str, duration: timedelta) -> None:
        assert duration >= timedelta(0)
        self.calls.append(CallRecord(method, code))


@dataclass(slots=True)
class Service:
    """One running endpoints service."""

    address: str
    store: PostgresStore
    operations: Operations
    journal: CallJournal
    callers: list[Caller] = field(default_factory=list)

    def caller(self, credential: str | None) -> Caller:
        """Return stubs that send this credential."""
        caller = Caller(self.address, credential)
        self.callers.append(caller)
        return caller


@asynccontextmanager
async def running_service(database_url: str, *, limits: CallLimits | None = None) -> AsyncIterator[Service]:
    """Serve on a free port; loopback endpoints are allowed. `limits` hold for each tenant."""
    limits = limits or CallLimits()
    settings = EndpointsSettings(
        tenant_calls_per_second=limits.calls_per_second,
        tenant_calls_burst=limits.burst,
        tenant_calls_at_once=limits.at_once,
        database_url=database_url,
        secret_keys=base64.b64encode(b"k" * 32).decode(),
        lookup_pepper=base64.b64encode(b"p" * 32).decode(),
        admin_token=ADMIN_TOKEN,
    )
    wake_ups = MemoryWakeUps()
    callers = Callers()
    store = PostgresStore(database_url=database_url, on_ledger_change=wake_ups.notify, callers=callers)
    await store.open()
    guard = EgressGuard(allowed_networks=(ip_network("127.0.0.0/8"),))
    journal = CallJournal()
    try:
        async with AiohttpEndpointClient(guard=guard) as client:
            operations = build_operations(
                settings=settings,
                store=store,
                publisher=MemoryPublisher(),
                wake_ups=wake_ups,
                client=client,
                addresses=guard,
                observer=journal,
                callers=callers,
            )
            services = RpcServices(
                tenancy=operations.tenancy,
                endpoints=operations.endpoints,
                indexing=operations.indexing,
                catalog=operations.catalog,
                events=operations.events,
                explanations=operations.explanations,
                dispatchers=operations.dispatchers,
                runs=operations.runs,
                queue_jobs=operations.queue_jobs,
                runner=operations.runner,
                page_tokens=operations.page_tokens,
            )
            server = RpcServer(
                services=services,
                authenticator=operations.authentication,
                observer=journal,
                callers=callers,
                limits=operations.limits,
                address="127.0.0.1:0",
            )
            port = await server.start()
            await server.set_serving()
            service = Service(f"127.0.0.1:{port}", store, operations, journal)
            looking = asyncio.create_task(operations.revisions.run(Rounds("index_revisions", observer=Metrics())))
            try:
                yield service
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                for caller in service.callers:
                    await caller.channel.close()
                await server.stop(grace=timedelta(0))
    finally:
        guard.close()
        await store.close()


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization with a project, a development and a production environment, and credentials."""

    organization_id: str
    project_id: str
    development: Environment
    development_key: str
    production: Environment
    production_key: str
    service_token: str
    reader_token: str
    worker_token: str


async def new_tenant(service: Service, slug: str) -> Tenant:
    """Create a tenant through the contract."""
    admin = service.caller(ADMIN_TOKEN)
    organization = (await admin.tenancy.CreateOrganization(CreateOrganizationRequest(slug=slug))).organization
    request = CreateProjectRequest(organization_id=organization.id, slug=f"{slug}-project")
    project = (await admin.tenancy.CreateProject(request)).project
    development = await admin.tenancy.CreateEnvironment(
        CreateEnvironmentRequest(project_id=project.id, slug="dev", type=ENVIRONMENT_TYPE_DEVELOPMENT)
    )
    production = await admin.tenancy.CreateEnvironment(
        CreateEnvironmentRequest(project_id=project.id, slug="prod", type=ENVIRONMENT_TYPE_PRODUCTION)
    )

    async def token(*scopes: TokenScope.ValueType) -> str:
        wanted = CreateTokenRequest(
            kind=TOKEN_KIND_SERVICE, name="service", organization_id=organization.id, scopes=scopes
        )
        secret: str = (await admin.tenancy.CreateToken(wanted)).secret
        return secret

    worker = await admin.tenancy.CreateToken(CreateTokenRequest(kind=TOKEN_KIND_WORKER, name="worker"))
    return Tenant(
        organization_id=organization.id,
        project_id=project.id,
        development=development.environment,
        development_key=development.api_key,
        production=production.environment,
        production_key=production.api_key,
        service_token=await token(*ALL_SCOPES),
        reader_token=await token(TOKEN_SCOPE_READ),
        worker_token=worker.secret,
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refused call answered."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    fields: list[str]
    details: list[str]


async def refused(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail and return its status with every detail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Read the details of a status."""
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    names = []
    for detail in status.details:
        packed: PackedMessage = detail
        names.append(packed.TypeName())
        for message in (info, bad_request):
            if packed.Is(message.DESCRIPTOR):
                packed.Unpack(message)
    return Refusal(
        code=error.code(),
        message=status.message,
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        fields=[violation.field for violation in bad_request.field_violations],
        details=names,
    )
