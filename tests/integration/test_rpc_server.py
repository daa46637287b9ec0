"""The server itself: health, both reflections, and what stands around them."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import queue_service_pb2 as queue
from kongflow.v1 import tenancy_service_pb2 as tenancy
from kongflow.v1.queue_pb2 import QUEUE_EXECUTION, Queue
from structlog.testing import capture_logs

from services.endpoints.domain.callers import Callers
from services.endpoints.operations.limits import CallLimits, TenantLimits
from services.endpoints.rpc.server import RpcServer, RpcServices
from tests.support.deaf_watcher import deaf_watcher
from tests.support.eventually import eventually
from tests.support.rpc import ADMIN_TOKEN, CallRecord, refused, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.rpc import Caller, Service
    from tests.support.stage import Stage

REFLECTIONS = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]
OURS = {"CatalogService", "EndpointService", "QueueService", "TenancyService", "WorkerService"}


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with running_service(database_url) as service:
        yield service


def another_server(service: Service, address: str) -> RpcServer:
    operations = service.operations
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
    return RpcServer(
        services=services,
        authenticator=operations.authentication,
        observer=service.journal,
        callers=Callers(),
        limits=TenantLimits(limits=CallLimits(), monotonic=time.monotonic),
        address=address,
    )


async def health_of(address: str, name: str = "") -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
        status: int = answer.status
        return status


async def reflected(caller: Caller, method: str, **request: str) -> Any:
    call: Any = caller.channel.stream_stream(
        method,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def requests() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(**request)

    return await anext(aiter(call(requests())))


async def test_health_needs_no_credential_and_follows_the_server(service: Service) -> None:
    starting = another_server(service, "127.0.0.1:0")
    address = f"127.0.0.1:{await starting.start()}"
    try:
        assert await health_of(address) == health_pb2.HealthCheckResponse.NOT_SERVING
        await starting.set_serving()
        assert await health_of(address) == health_pb2.HealthCheckResponse.SERVING
        assert await health_of(address, "kongflow.v1.EndpointService") == health_pb2.HealthCheckResponse.SERVING
    finally:
        await starting.stop(grace=timedelta(0))
    with pytest.raises(grpc.aio.AioRpcError):
        await health_of(address)


async def test_watchers_of_health_hear_that_the_server_stops_and_do_not_hold_it_up(service: Service) -> None:
    stopping = another_server(service, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await stopping.start()}") as channel:
        await stopping.set_serving()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(10):
            stopped = asyncio.create_task(stopping.stop(grace=timedelta(hours=1)))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            refusal = await refused(watch.read())
            await stopped
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_watcher_of_health_that_reads_nothing_holds_up_nobody(service: Service) -> None:
    server = another_server(service, "127.0.0.1:0")
    port = await server.start()
    async with deaf_watcher(port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(10):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.set_serving()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.stop(grace=timedelta(0))


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_error_inside_the_librarys_health_is_logged_and_ends_the_call(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(health.aio.HealthServicer, method, failing)
    server = another_server(service, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}") as channel, asyncio.timeout(10):
        call: Any = getattr(health_pb2_grpc.HealthStub(channel), method)(health_pb2.HealthCheckRequest())
        with capture_logs() as logs:
            refusal = await refused(call if method == "Check" else call.read())
        await server.stop(grace=timedelta(0))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "its own" not in refusal.message
    (line,) = (line for line in logs if line["log_level"] == "error")
    assert isinstance(line["exc_info"], KeyError)


async def failing(*_arguments: object) -> None:
    raise KeyError("a defect of its own")


async def test_two_servers_never_share_a_port(service: Service) -> None:
    with pytest.raises(OSError, match=service.address):
        await another_server(service, service.address).start()


@pytest.mark.parametrize("method", REFLECTIONS)
async def test_both_reflections_list_and_describe_the_contract(service: Service, method: str) -> None:
    admin = service.caller(ADMIN_TOKEN)
    listed = await reflected(admin, method, list_services="")
    names = {found.name for found in listed.list_services_response.service}
    assert {f"kongflow.v1.{name}" for name in OURS} <= names
    for name in names:
        described = await reflected(admin, method, file_containing_symbol=name)
        files = [
            FileDescriptorProto.FromString(raw) for raw in described.file_descriptor_response.file_descriptor_proto
        ]
        services = {f"{file.package}.{found.name}" for file in files for found in file.service}
        assert name in services


@pytest.mark.parametrize(
    "symbol", ["EndpointService.WatchEndpointIndex", "EndpointIndex.data_json", "EndpointIndexStats"]
)
async def test_reflection_finds_methods_and_fields_by_name(service: Service, symbol: str) -> None:
    described = await reflected(
        service.caller(ADMIN_TOKEN), REFLECTIONS[0], file_containing_symbol=f"kongflow.v1.{symbol}"
    )
    assert described.file_descriptor_response.file_descriptor_proto


async def test_reflection_says_what_it_does_not_know(service: Service) -> None:
    unknown = await reflected(service.caller(ADMIN_TOKEN), REFLECTIONS[0], file_containing_symbol="kongflow.v1.No.No")
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("method", REFLECTIONS)
async def test_reflection_needs_a_credential(service: Service, method: str) -> None:
    refusal = await refused(reflected(service.caller(None), method, list_services=""))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


async def test_calls_are_counted_by_method_and_status(service: Service) -> None:
    stranger = service.caller(None)
    await refused(stranger.endpoints.ListEndpoints(endpoints.ListEndpointsRequest()))
    await service.caller(ADMIN_TOKEN).tenancy.ListTokens(tenancy.ListTokensRequest())
    assert service.journal.calls == [
        CallRecord("/kongflow.v1.EndpointService/ListEndpoints", "UNAUTHENTICATED"),
        CallRecord("/kongflow.v1.TenancyService/ListTokens", "OK"),
    ]


async def test_an_api_key_needs_not_name_its_environment(stage: Stage) -> None:
    environment_id = stage.ours.development.id
    request = endpoints.UpsertEndpointRequest(
        slug="app", url="https://example.com/", indexing_hook_identifier="abcdefghij"
    )
    stored = (await stage.developer.endpoints.UpsertEndpoint(request)).endpoint
    assert (stored.environment_id, stored.indexing_hook_identifier) == (environment_id, "abcdefghij")
    assert list((await stage.developer.endpoints.ListEndpoints(endpoints.ListEndpointsRequest())).endpoints) == [stored]
    environment = await stage.developer.tenancy.GetEnvironment(
        tenancy.GetEnvironmentRequest(environment_id=environment_id)
    )
    assert environment.environment == stage.ours.development


async def test_a_reader_does_not_see_the_hook_identifier(stage: Stage) -> None:
    stored = await stage.store_endpoint()
    seen = await stage.reader.endpoints.GetEndpoint(endpoints.GetEndpointRequest(endpoint_id=stored.id))
    assert stored.indexing_hook_identifier
    assert not seen.endpoint.indexing_hook_identifier
    stored.ClearField("indexing_hook_identifier")
    assert seen.endpoint == stored


async def test_a_watch_begins_with_the_present_and_resumes_after_what_was_seen(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    request = endpoints.IndexEndpointRequest(endpoint_id=endpoint.id, reason="look", source_data_json='{"a":1}')
    requested = await stage.writer.endpoints.IndexEndpoint(request)
    index_id = requested.index.id

    def watch(revision: int = 0) -> Any:
        wanted = endpoints.WatchEndpointIndexRequest(index_id=index_id, resume_revision=revision)
        return stage.reader.endpoints.WatchEndpointIndex(wanted)

    first = watch()
    now = (await anext(aiter(first))).index
    assert requested.index.source_data_json == '{"a": 1}'
    requested.index.ClearField("source_data_json")
    assert now == requested.index
    first.cancel()
    resumed = watch(now.revision)
    again = await stage.writer.endpoints.IndexEndpoint(
        endpoints.IndexEndpointRequest(endpoint_id=endpoint.id, reason="look again")
    )
    assert again.deduplicated
    later = (await anext(aiter(resumed))).index
    resumed.cancel()
    assert (later.id, later.reason) == (index_id, "look again")
    assert later.revision > now.revision


async def test_a_watch_that_resumes_after_a_revision_that_never_was_ends_with_its_index(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    requested = await stage.writer.endpoints.IndexEndpoint(endpoints.IndexEndpointRequest(endpoint_id=endpoint.id))
    wanted = endpoints.WatchEndpointIndexRequest(index_id=requested.index.id, resume_revision=1_000)
    watch = stage.reader.endpoints.WatchEndpointIndex(wanted)
    await eventually(lambda: stage.service.operations.watches.count)
    await stage.writer.queue.CancelQueueJob(queue.CancelQueueJobRequest(queue_job_id=requested.queue_job_id))

    async with asyncio.timeout(10):
        assert [answer async for answer in watch] == []


async def test_the_ledger_is_shown_to_those_whose_work_it_is(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    requested = await stage.writer.endpoints.IndexEndpoint(endpoints.IndexEndpointRequest(endpoint_id=endpoint.id))
    shown = (
        await stage.reader.queue.GetQueueJob(queue.GetQueueJobRequest(queue_job_id=requested.queue_job_id))
    ).queue_job
    assert (shown.kind, shown.queue, shown.attempt, shown.max_attempts) == ("indexEndpoint", QUEUE_EXECUTION, 0, 1)
    assert endpoint.id in shown.args_json
    stats = (await stage.reader.queue.GetQueueStats(queue.GetQueueStatsRequest())).queues
    assert [of_queue.queue for of_queue in stats] == [number for number in Queue.values() if number]
    theirs = stage.service.caller(stage.theirs.service_token)
    for of_queue in (await theirs.queue.GetQueueStats(queue.GetQueueStatsRequest())).queues:
        assert not of_queue.counts


@pytest.mark.parametrize("method", [*REFLECTIONS, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
async def test_bytes_that_are_no_message_are_an_invalid_request_of_the_librarys_services_too(
    stage: Stage, method: str
) -> None:
    if method in REFLECTIONS:
        dialogue: Any = stage.reader.channel.stream_stream(method)
        call = dialogue(iter([b"\xff\xff\xff"]))
    else:
        watch: Any = stage.reader.channel.unary_stream(method)
        call = watch(b"\xff\xff\xff")
    refusal = await refused(anext(aiter(call)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "protobuf" not in refusal.message.lower()
