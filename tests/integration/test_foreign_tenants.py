"""What a tenant gets for the ids of another, in every method that reflection lists: what it gets for ids of nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import ParseDict
from grpc_reflection.v1alpha import reflection_pb2
from kongflow.v1.endpoint_service_pb2 import IndexEndpointRequest

from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.rpc.access import ACCESS, Access
from tests.support.catalog import Tenant
from tests.support.dispatching import Scene

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from tests.support.rpc import Caller
    from tests.support.stage import Stage

REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
DAY: Final = {"created_from": "2030-01-01T00:00:00Z", "created_before": "2030-01-02T00:00:00Z"}

# What each method is asked, with the name of a foreign resource where `{its name}` stands.
CASES: Final[Mapping[str, dict[str, Any]]] = {
    "TenancyService/GetEnvironment": {"environment_id": "{environment}"},
    "TenancyService/ListEnvironments": {"project_id": "{project}"},
    "EndpointService/CreateEndpoint": {"environment_id": "{environment}", "slug": "a", "url": "http://127.0.0.1:9/"},
    "EndpointService/UpsertEndpoint": {"environment_id": "{environment}", "slug": "a", "url": "http://127.0.0.1:9/"},
    "EndpointService/GetEndpoint": {"endpoint_id": "{endpoint}"},
    "EndpointService/ListEndpoints": {"environment_id": "{environment}"},
    "EndpointService/UpdateEndpoint": {"endpoint": {"id": "{endpoint}", "url": "http://127.0.0.1:9/"}},
    "EndpointService/DeleteEndpoint": {"endpoint_id": "{endpoint}"},
    "EndpointService/PingEndpoint": {"endpoint_id": "{endpoint}"},
    "EndpointService/IndexEndpoint": {"endpoint_id": "{endpoint}"},
    "EndpointService/ResumeEndpoint": {"endpoint_id": "{endpoint}"},
    "EndpointService/GetEndpointIndex": {"index_id": "{index}"},
    "EndpointService/ListEndpointIndexes": {"endpoint_id": "{endpoint}"},
    "EndpointService/ListEndpointIndexItems": {"index_id": "{index}"},
    "EndpointService/WatchEndpointIndex": {"index_id": "{index}"},
    "CatalogService/ListJobs": {"environment_id": "{environment}"},
    "CatalogService/GetJob": {"environment_id": "{environment}", "slug": "hello"},
    "CatalogService/ListSources": {"environment_id": "{environment}"},
    "CatalogService/ListDynamicTriggers": {"environment_id": "{environment}"},
    "CatalogService/ListSchedules": {"environment_id": "{environment}"},
    "EventService/SendEvent": {"environment_id": "{environment}", "event": {"name": "a", "payload_json": "{}"}},
    "EventService/SendEvents": {"environment_id": "{environment}", "events": [{"name": "a", "payload_json": "{}"}]},
    "EventService/GetEvent": {"id": "{event}"},
    "EventService/ListEvents": {"environment_id": "{environment}"},
    "EventService/CancelEvent": {"id": "{event}"},
    "EventService/ReplayEvents": {"environment_id": "{environment}", **DAY},
    "EventService/ExplainEvent": {"id": "{event}"},
    "DispatcherService/CreateDispatcher": {
        "environment_id": "{environment}",
        "dispatcher": {"event_names": ["a"], "job_version_id": "{version}"},
    },
    "DispatcherService/GetDispatcher": {"dispatcher_id": "{dispatcher}"},
    "DispatcherService/ListDispatchers": {"environment_id": "{environment}"},
    "DispatcherService/UpdateDispatcher": {
        "dispatcher": {"id": "{dispatcher}", "enabled": True},
        "update_mask": "enabled",
    },
    "DispatcherService/DeleteDispatcher": {"dispatcher_id": "{dispatcher}"},
    "RunService/GetRun": {"run_id": "{run}"},
    "RunService/ListRuns": {"environment_id": "{environment}"},
    "QueueService/ListQueueJobs": {"environment_id": "{environment}"},
    "QueueService/GetQueueJob": {"queue_job_id": "{queue job}"},
    "QueueService/RetryQueueJob": {"queue_job_id": "{queue job}"},
    "QueueService/RetryQueueJobs": {"environment_id": "{environment}", "state": "QUEUE_JOB_STATE_DISCARDED"},
    "QueueService/CancelQueueJob": {"queue_job_id": "{queue job}"},
    "QueueService/PauseQueue": {"queue": "QUEUE_DEFAULT", "lane": "{lane}"},
    "QueueService/ResumeQueue": {"queue": "QUEUE_DEFAULT", "lane": "{lane}"},
    "QueueService/GetQueueStats": {"environment_id": "{environment}"},
    "QueueService/WatchQueueStats": {"environment_id": "{environment}"},
}


async def _reflected(caller: Caller, **asked: str) -> Any:
    dialogue: Any = caller.channel.stream_stream(
        REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return await anext(aiter(dialogue(iter([reflection_pb2.ServerReflectionRequest(**asked)]))))


async def methods_of(caller: Caller) -> dict[str, bool]:
    """Return every method of the contract, by reflection, and whether its answers are a stream."""
    found: dict[str, bool] = {}
    services = (await _reflected(caller, list_services="")).list_services_response.service
    for name in (service.name for service in services if service.name.startswith("kongflow.")):
        described = (await _reflected(caller, file_containing_symbol=name)).file_descriptor_response
        for raw in described.file_descriptor_proto:
            file = FileDescriptorProto.FromString(raw)
            found |= {
                f"{service.name}/{method.name}": method.server_streaming
                for service in file.service
                for method in service.method
                if f"{file.package}.{service.name}" == name
            }
    return found


async def asked(caller: Caller, method: str, fields: dict[str, Any], *, streams: bool) -> Any:
    """Call a method with fields as JSON has them and return its first answer."""
    service, _, name = method.partition("/")
    descriptor = descriptor_pool.Default().FindServiceByName(f"kongflow.v1.{service}").FindMethodByName(name)
    request, response = map(message_factory.GetMessageClass, (descriptor.input_type, descriptor.output_type))
    coders: Any = {
        "request_serializer": request.SerializeToString,
        "response_deserializer": response.FromString,
    }
    path, message = f"/kongflow.v1.{method}", ParseDict(fields, request())
    if streams:
        return await anext(aiter(caller.channel.unary_stream(path, **coders)(message)))
    return await caller.channel.unary_unary(path, **coders)(message)


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """Put names where their places are."""
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    if isinstance(value, str) and value != "{}" and value.startswith("{"):
        return names[value.strip("{}")]
    return value


async def outcome(call: Any, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the status and the text of a call with the names taken out, or OK and what the answer holds."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        code, text = error.code().name, str(error.details())
    else:
        code, text = "OK", str(answer)
    for name, value in sorted(names.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"<{name}>")
    return code, text


async def foreign_names(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """Make one of everything for our tenant and return what each is called."""
    ours = stage.ours
    tenant = Tenant(connection, UUID(ours.organization_id), UUID(ours.project_id), UUID(ours.development.id))
    scene = Scene(stage.service.store, connection, tenant, await tenant.endpoint())
    await scene.register("hello")
    event_id = await scene.send()
    await scene.work_off()
    index = await stage.writer.endpoints.IndexEndpoint(IndexEndpointRequest(endpoint_id=str(scene.endpoint_id)))
    run = await connection.fetchrow("SELECT id, version_id, dispatcher_id FROM job_runs")
    assert run is not None
    return {
        "environment": ours.development.id,
        "project": ours.project_id,
        "endpoint": str(scene.endpoint_id),
        "index": index.index.id,
        "event": str(event_id),
        "version": str(run["version_id"]),
        "dispatcher": str(run["dispatcher_id"]),
        "run": str(run["id"]),
        "queue job": index.queue_job_id,
        "lane": await connection.fetchval("SELECT lane FROM queue_jobs WHERE id = $1", UUID(index.queue_job_id)),
    }


def test_every_method_that_a_tenant_may_call_has_a_case() -> None:
    closed = {Access.ANYONE, Access.ANY_CREDENTIAL, Access.ADMIN, Access.WORKER}
    assert {name for name, access in ACCESS.items() if access not in closed} == {
        f"/kongflow.v1.{method}" for method in CASES
    }


async def test_names_of_another_tenant_read_as_names_of_nothing_in_every_method(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    foreign = await foreign_names(stage, connection)
    absent = {name: str(new_uuid7()) for name in foreign} | {"lane": f"endpoint-{uuid4()}"}
    stranger = stage.service.caller(stage.theirs.service_token)
    methods = await methods_of(stranger)
    before = await rows(connection)
    wrong: dict[str, tuple[str, ...]] = {}
    for method, streams in methods.items():
        if ACCESS[f"/kongflow.v1.{method}"] in {Access.ADMIN, Access.WORKER}:
            got = await outcome(asked(stranger, method, {}, streams=streams), {})
            if got[0] != "PERMISSION_DENIED":
                wrong[method] = got
            continue
        seen = [
            await outcome(asked(stranger, method, filled(CASES[method], names), streams=streams), names)
            for names in (foreign, absent)
        ]
        if seen[0] != seen[1] or (seen[0][0] != "NOT_FOUND" and seen[0] != ("OK", "")):
            wrong[method] = (*seen[0], *seen[1])
    assert wrong == {}
    assert len(methods) > len(CASES)
    assert await rows(connection) == before


async def test_those_who_own_them_are_answered_otherwise(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    foreign = await foreign_names(stage, connection)
    methods = await methods_of(stage.writer)
    reading = [
        method for method in CASES if ACCESS[f"/kongflow.v1.{method}"] is Access.READ and "ListSchedules" not in method
    ]
    for method in reading:
        code, text = await outcome(
            asked(stage.writer, method, filled(CASES[method], foreign), streams=methods[method]), {}
        )
        assert code == "OK", (method, text)
    assert len(reading) > 20


async def rows(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[str]]:
    """Return what is stored in the tables that a caller changes."""
    tables = ("endpoints", "endpoint_indexes", "events", "event_dispatchers", "job_runs", "queue_jobs", "queue_pauses")
    return {
        table: [row["t"] for row in await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]
        for table in tables
    }
