"""The rows about calls: pages, credentials, scopes and the worker's calls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import tenancy_service_pb2 as tenancy
from kongflow.v1 import worker_service_pb2 as worker
from kongflow.v1.queue_pb2 import QUEUE_DEFAULT

from tests.support.bad_inputs import FORBIDDEN, Row
from tests.support.stage import URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.bad_inputs import Ground


def _listed(**fields: Any) -> Callable[[Ground], Awaitable[Any]]:
    async def call(ground: Ground) -> Any:
        request = endpoints.ListEndpointsRequest(environment_id=ground.stage.ours.development.id, **fields)
        return await ground.stage.writer.endpoints.ListEndpoints(request)

    return call


def _stranger(name: str, credential: str | None) -> Row:
    async def call(ground: Ground) -> Any:
        caller = ground.stage.service.caller(credential)
        return await caller.endpoints.ListEndpoints(endpoints.ListEndpointsRequest())

    return Row(64, name, call, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def _read_production_with_the_development_key(ground: Ground) -> Any:
    request = endpoints.ListEndpointsRequest(environment_id=ground.stage.ours.production.id)
    return await ground.stage.developer.endpoints.ListEndpoints(request)


async def _write_as_a_reader(ground: Ground) -> Any:
    request = endpoints.CreateEndpointRequest(environment_id=ground.stage.ours.development.id, slug="app", url=URL)
    return await ground.stage.reader.endpoints.CreateEndpoint(request)


async def _make_a_token_with_a_key(ground: Ground) -> Any:
    return await ground.stage.developer.tenancy.CreateToken(tenancy.CreateTokenRequest())


async def _work_as_the_admin(ground: Ground) -> Any:
    request = worker.RunQueueJobsRequest(queue=QUEUE_DEFAULT, lanes=["a"])
    return await ground.stage.admin.worker.RunQueueJobs(request)


def _run(number: int, name: str, lanes: list[str], field: str, queue: int = QUEUE_DEFAULT) -> Row:
    async def call(ground: Ground) -> Any:
        request = worker.RunQueueJobsRequest(queue=queue, lanes=lanes)  # type: ignore[arg-type]
        return await ground.stage.worker.worker.RunQueueJobs(request)

    return Row(number, name, call, fields=(field,))


ROWS: Final = (
    Row(60, "negative page size", _listed(page_size=-1), fields=("page_size",)),
    Row(61, "garbage", _listed(page_token="garbage"), fields=("page_token",)),
    _stranger("none", None),
    _stranger("malformed", "nonsense"),
    _stranger("a key that is none", "tr_dev_aaaaaaaaaaaaaaaaaaaa"),
    _stranger("a token that is none", "kf_service_" + "a" * 40),
    Row(65, "reader writes", _write_as_a_reader, FORBIDDEN, "PERMISSION_DENIED"),
    Row(65, "key makes a token", _make_a_token_with_a_key, FORBIDDEN, "PERMISSION_DENIED"),
    Row(65, "admin works", _work_as_the_admin, FORBIDDEN, "PERMISSION_DENIED"),
    Row(
        66,
        "production with the development key",
        _read_production_with_the_development_key,
        FORBIDDEN,
        "PERMISSION_DENIED",
    ),
    _run(70, "no queue", ["a"], "queue", 0),
    _run(70, "unknown queue", ["a"], "queue", 9),
    _run(70, "a lane of 300", ["a", "a" * 300], "lanes[1]"),
    _run(71, "no lanes", [], "lanes"),
    _run(71, "51 lanes", [f"lane-{number}" for number in range(51)], "lanes"),
)
