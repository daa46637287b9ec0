"""The gRPC server: every service with the interceptor around it, health and both reflections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from kongflow.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    dispatcher_service_pb2,
    dispatcher_service_pb2_grpc,
    endpoint_service_pb2,
    endpoint_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
    run_service_pb2,
    run_service_pb2_grpc,
    tenancy_service_pb2,
    tenancy_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

from services.endpoints.domain.tracing import NO_TRACER
from services.endpoints.rpc.catalog import CatalogServicer
from services.endpoints.rpc.correlation import CorrelationInterceptor
from services.endpoints.rpc.deadlines import DEFAULT_DEADLINES, Deadlines
from services.endpoints.rpc.dispatchers import DispatcherServicer
from services.endpoints.rpc.draining import LAST_WORDS, NOTICE, Drain, DrainableHealth
from services.endpoints.rpc.endpoints import EndpointServicer
from services.endpoints.rpc.events import EventServicer
from services.endpoints.rpc.handlers import found_by_name
from services.endpoints.rpc.interceptors import CallInterceptor
from services.endpoints.rpc.memory import PLENTY
from services.endpoints.rpc.paging import Paging
from services.endpoints.rpc.queue import QueueServicer
from services.endpoints.rpc.reflection import add_reflection
from services.endpoints.rpc.runs import RunServicer
from services.endpoints.rpc.tenancy import TenancyServicer
from services.endpoints.rpc.worker import WorkerServicer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from services.endpoints.domain.callers import Callers
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.operations.catalog import CatalogOperations
    from services.endpoints.operations.dispatchers import DispatcherOperations
    from services.endpoints.operations.endpoints import EndpointOperations
    from services.endpoints.operations.events import EventOperations
    from services.endpoints.operations.explanations import EventExplanations
    from services.endpoints.operations.indexing import IndexingOperations
    from services.endpoints.operations.limits import TenantLimits
    from services.endpoints.operations.page_tokens import PageTokens
    from services.endpoints.operations.queue_jobs import QueueJobOperations
    from services.endpoints.operations.runs import RunOperations
    from services.endpoints.operations.tenancy import TenancyOperations
    from services.endpoints.rpc.interceptors import Authenticator, CallObserver
    from services.endpoints.rpc.memory import MemoryGuard
    from services.endpoints.rpc.worker import QueueJobRunner

MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024

_SERVICES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (tenancy_service_pb2, "TenancyService"),
        (endpoint_service_pb2, "EndpointService"),
        (catalog_service_pb2, "CatalogService"),
        (event_service_pb2, "EventService"),
        (dispatcher_service_pb2, "DispatcherService"),
        (run_service_pb2, "RunService"),
        (queue_service_pb2, "QueueService"),
        (worker_service_pb2, "WorkerService"),
        (health_pb2, "Health"),
        (reflection_pb2, "ServerReflection"),
    )
)


@dataclass(frozen=True, slots=True)
class RpcServices:
    """The operations that the contract's methods call."""

    tenancy: TenancyOperations
    endpoints: EndpointOperations
    indexing: IndexingOperations
    catalog: CatalogOperations
    events: EventOperations
    explanations: EventExplanations
    dispatchers: DispatcherOperations
    runs: RunOperations
    queue_jobs: QueueJobOperations
    runner: QueueJobRunner
    page_tokens: PageTokens


class RpcServer:
    """Serves the contract on one address.

    `address` is `host:port`; port 0 takes a free one, which `start` returns. Without `credentials` it speaks plaintext.
    Health says NOT_SERVING until
    `set_serving` and again from the moment `stop` begins.
    """

    def __init__(
        self,
        *,
        services: RpcServices,
        authenticator: Authenticator,
        observer: CallObserver,
        callers: Callers,
        limits: TenantLimits,
        memory: MemoryGuard = PLENTY,
        address: str,
        credentials: grpc.ServerCredentials | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        max_metadata_bytes: int = MAX_METADATA_BYTES,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._health = DrainableHealth()
        self._drain = Drain()
        interceptor = CallInterceptor(
            authenticator=authenticator,
            observer=observer,
            callers=callers,
            limits=limits,
            drain=self._drain,
            memory=memory,
            deadlines=deadlines,
        )
        self._server = grpc.aio.server(
            interceptors=(CorrelationInterceptor(tracer=tracer), interceptor),
            options=_options(max_request_bytes=max_request_bytes, max_metadata_bytes=max_metadata_bytes),
        )
        server = found_by_name(self._server)
        paging = Paging(page_tokens=services.page_tokens)
        tenancy_service_pb2_grpc.add_TenancyServiceServicer_to_server(
            TenancyServicer(operations=services.tenancy, paging=paging), server
        )
        endpoint_service_pb2_grpc.add_EndpointServiceServicer_to_server(
            EndpointServicer(
                endpoints=services.endpoints, indexing=services.indexing, paging=paging, deadlines=deadlines
            ),
            server,
        )
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(
            CatalogServicer(operations=services.catalog, paging=paging), server
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(
            EventServicer(operations=services.events, explanations=services.explanations, paging=paging), server
        )
        dispatcher_service_pb2_grpc.add_DispatcherServiceServicer_to_server(
            DispatcherServicer(operations=services.dispatchers, paging=paging), server
        )
        run_service_pb2_grpc.add_RunServiceServicer_to_server(
            RunServicer(operations=services.runs, paging=paging), server
        )
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(
            QueueServicer(operations=services.queue_jobs, paging=paging), server
        )
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(runner=services.runner), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, _SERVICES)

    async def start(self) -> int:
        """Listen and serve; returns the port.

        Raises:
            OSError: the address is taken or is none of this machine's.
        """
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(self._address)
            else:
                port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise OSError(
                f"gRPC cannot listen on {self._address}: the address is taken or not of this machine"
            ) from error
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        return port

    async def set_serving(self, *, is_serving: bool = True) -> None:
        """Say by health, for every service, that calls will be answered, or that they will not."""
        status = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *_SERVICES):
            await self._health.set(service, status)

    async def stop(self, *, grace: timedelta) -> None:
        """Refuse new calls, let those that began end within `grace`, then cancel the rest.

        For a moment before it closes its connections it says that it stops, by health and to whoever calls. A stream
        that its caller neither reads nor ends is cancelled soon after the last call has been answered.
        """
        self._drain.begin()
        await self._health.enter_graceful_shutdown()
        await self._drain.noticed(at_most=min(grace, NOTICE))
        self._health.end_watches()
        stopped = asyncio.create_task(self._server.stop(grace.total_seconds()))
        await self._drain.answered(at_most=grace)
        await asyncio.wait([stopped], timeout=LAST_WORDS.total_seconds())
        await self._server.stop(None)
        await stopped


def _options(*, max_request_bytes: int, max_metadata_bytes: int) -> Sequence[tuple[str, int]]:
    return (
        # Without this a second server on the same port starts silently and takes half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_request_bytes),
        ("grpc.max_metadata_size", max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * max_metadata_bytes),
        # An index's data is up to 8 MiB of JSON; nothing else that is sent is large.
        ("grpc.max_send_message_length", -1),
        # A worker's connection that died without a word is noticed, and clients may look for themselves.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    )
