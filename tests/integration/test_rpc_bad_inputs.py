"""What callers get for other things they must not send, row by row; nothing of a refused call is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import catalog_service_pb2 as catalog
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import queue_service_pb2 as queue
from kongflow.v1 import tenancy_service_pb2 as tenancy
from kongflow.v1 import worker_service_pb2 as worker
from kongflow.v1.queue_pb2 import QUEUE_DEFAULT
from kongflow.v1.token_pb2 import TOKEN_KIND_SERVICE, TOKEN_KIND_WORKER, TOKEN_SCOPE_READ

from tests.support.fake_endpoint import FakeEndpoint
from tests.support.rpc import refused
from tests.support.stage import URL, Row, Stage, differing, nothing_stored

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import asyncpg

    from tests.support.rpc import Caller

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FORBIDDEN = grpc.StatusCode.PERMISSION_DENIED
ABSENT = grpc.StatusCode.NOT_FOUND


async def test_unknown_enum_numbers(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    stored, any_id = await stage.store_endpoint(), str(uuid4())
    rows: dict[str, Row] = {
        "index": (
            stage.writer.endpoints.IndexEndpoint(
                endpoints.IndexEndpointRequest(endpoint_id=stored.id, source=99, priority=-1)  # type: ignore[arg-type]
            ),
            INVALID,
            "INVALID_REQUEST",
            ["source", "priority"],
        ),
        "items": (
            stage.writer.endpoints.ListEndpointIndexItems(
                endpoints.ListEndpointIndexItemsRequest(index_id=any_id, state=99, kind=99)  # type: ignore[arg-type]
            ),
            INVALID,
            "INVALID_REQUEST",
            ["kind", "state"],
        ),
        "queue jobs": (
            stage.writer.queue.ListQueueJobs(queue.ListQueueJobsRequest(state=7, queue=5)),  # type: ignore[arg-type]
            INVALID,
            "INVALID_REQUEST",
            ["state", "queue"],
        ),
        "environment": (
            stage.admin.tenancy.CreateEnvironment(
                tenancy.CreateEnvironmentRequest(project_id=any_id, slug="x", type=9)  # type: ignore[arg-type]
            ),
            INVALID,
            "INVALID_REQUEST",
            ["type"],
        ),
        "token": (
            stage.admin.tenancy.CreateToken(
                tenancy.CreateTokenRequest(
                    kind=TOKEN_KIND_SERVICE,
                    name="x",
                    organization_id=any_id,
                    scopes=[TOKEN_SCOPE_READ, 0, 9],  # type: ignore[list-item]
                )
            ),
            INVALID,
            "INVALID_REQUEST",
            ["scopes[1]", "scopes[2]"],
        ),
    }
    async with nothing_stored(connection):
        assert await differing(rows) == {}


async def test_refused_tokens_and_times(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    def token(**fields: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = stage.admin.tenancy.CreateToken(tenancy.CreateTokenRequest(**fields))
        return answer

    stored = await stage.store_endpoint()
    year = 366 * 86_400
    rows: dict[str, Row] = {
        "nothing": (
            token(),
            INVALID,
            "INVALID_REQUEST",
            ["kind", "name"],
        ),
        "a service without organization and scopes": (
            token(kind=TOKEN_KIND_SERVICE, name="x"),
            INVALID,
            "INVALID_REQUEST",
            ["organization_id", "scopes"],
        ),
        "a worker with both": (
            token(kind=TOKEN_KIND_WORKER, name="x", organization_id=str(uuid4()), scopes=[TOKEN_SCOPE_READ]),
            INVALID,
            "INVALID_REQUEST",
            ["organization_id", "scopes"],
        ),
        "expired": (
            token(kind=TOKEN_KIND_WORKER, name="x", expire_time=Timestamp(seconds=1)),
            INVALID,
            "INVALID_REQUEST",
            ["expire_time"],
        ),
        "year 10000": (
            token(kind=TOKEN_KIND_WORKER, name="x", expire_time=Timestamp(seconds=253_402_300_800)),
            INVALID,
            "INVALID_REQUEST",
            ["expire_time"],
        ),
        "an index in more than a year": (
            stage.writer.endpoints.IndexEndpoint(
                endpoints.IndexEndpointRequest(endpoint_id=stored.id, run_time=_now_plus(year + 60))
            ),
            INVALID,
            "INVALID_REQUEST",
            ["run_time"],
        ),
        "source data that is no JSON": (
            stage.writer.endpoints.IndexEndpoint(
                endpoints.IndexEndpointRequest(endpoint_id=stored.id, source_data_json="{", reason="\x00")
            ),
            INVALID,
            "INVALID_REQUEST",
            ["reason", "source_data_json"],
        ),
        "source data that is too large": (
            stage.writer.endpoints.IndexEndpoint(
                endpoints.IndexEndpointRequest(endpoint_id=stored.id, source_data_json='"' + "a" * 524_288 + '"')
            ),
            INVALID,
            "PAYLOAD_TOO_LARGE",
            ["source_data_json"],
        ),
    }
    async with nothing_stored(connection):
        assert await differing(rows) == {}


def _now_plus(seconds: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return Timestamp(seconds=timestamp.seconds + seconds)


async def test_request_ids(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    request_id = str(uuid4())
    async with FakeEndpoint(api_key=stage.ours.development_key, slug="app") as endpoint:
        first = await stage.create(url=endpoint.url, request_id=request_id)
        repeated = await stage.create(url=endpoint.url, request_id=request_id)
        assert (repeated.endpoint.id, repeated.index_id, repeated.created) == (first.endpoint.id, first.index_id, True)
        rows: dict[str, Row] = {
            "another request": (
                stage.create(url=endpoint.url + "?other", request_id=request_id),
                INVALID,
                "REQUEST_ID_REUSED",
                ["request_id"],
            ),
            "no version 4": (
                stage.create(request_id="01890a5d-ac96-774b-bcce-b302099a8057"),
                INVALID,
                "INVALID_REQUEST",
                ["request_id"],
            ),
            "37 characters": (
                stage.create(request_id=f"{uuid4()}0"),
                INVALID,
                "INVALID_REQUEST",
                ["request_id"],
            ),
        }
        async with nothing_stored(connection):
            assert await differing(rows) == {}


async def test_page_sizes_and_tokens(stage: Stage) -> None:
    ours = stage.ours
    for number in range(3):
        await stage.store_endpoint(slug=f"app-{number}")

    def listed(caller: Caller, environment_id: str = ours.development.id, **fields: Any) -> Awaitable[Any]:
        request = endpoints.ListEndpointsRequest(environment_id=environment_id, **fields)
        answer: Awaitable[Any] = caller.endpoints.ListEndpoints(request)
        return answer

    first = await listed(stage.writer, page_size=2)
    second = await listed(stage.writer, page_token=first.next_page_token)
    assert [endpoint.slug for page in (first, second) for endpoint in page.endpoints] == ["app-0", "app-1", "app-2"]
    assert second.next_page_token == ""
    assert len((await listed(stage.writer, page_size=10_000)).endpoints) == 3
    token = first.next_page_token
    theirs = stage.service.caller(stage.theirs.service_token)
    rows: dict[str, Row] = {
        "negative": (listed(stage.writer, page_size=-1), INVALID, "INVALID_REQUEST", ["page_size"]),
        "garbage": (listed(stage.writer, page_token="garbage"), INVALID, "INVALID_REQUEST", ["page_token"]),
        "forged": (
            listed(stage.writer, page_token=("B" if token[0] == "A" else "A") + token[1:]),
            INVALID,
            "INVALID_REQUEST",
            ["page_token"],
        ),
        "another filter's": (
            listed(stage.writer, ours.production.id, page_token=token),
            INVALID,
            "INVALID_REQUEST",
            ["page_token"],
        ),
        "another tenant's": (listed(theirs, page_token=token), INVALID, "INVALID_REQUEST", ["page_token"]),
        "another method's": (
            stage.writer.catalog.ListSources(
                catalog.ListSourcesRequest(environment_id=ours.development.id, page_token=token)
            ),
            INVALID,
            "INVALID_REQUEST",
            ["page_token"],
        ),
    }
    assert await differing(rows) == {}


@pytest.mark.parametrize("text", ["id;drop table", "1=1--", "%", "'", "\\"])
async def test_a_text_filter_is_data(stage: Stage, text: str) -> None:
    environment_id = stage.ours.development.id
    jobs = await stage.writer.catalog.ListJobs(
        catalog.ListJobsRequest(environment_id=environment_id, slug=text, title=text)
    )
    assert jobs.jobs == []
    assert (await stage.writer.queue.ListQueueJobs(queue.ListQueueJobsRequest(kind=text, lane=text))).queue_jobs == []
    refusal = await refused(
        stage.writer.catalog.GetJob(catalog.GetJobRequest(environment_id=environment_id, slug=text))
    )
    assert refusal.code is ABSENT


@pytest.mark.parametrize("character", ["a", "\U0001f680"], ids=["ASCII", "no ASCII"])
async def test_a_long_name_is_absent_like_a_short_one(stage: Stage, character: str) -> None:
    request = catalog.GetJobRequest(environment_id=stage.ours.development.id, slug=character * 1000)
    refusal = await refused(stage.writer.catalog.GetJob(request))
    assert (refusal.code, refusal.reason) == (ABSENT, "NOT_FOUND")
    assert refusal.message.startswith(f"There is no job '{character * 100}")


async def test_a_title_is_stored_as_it_came(stage: Stage) -> None:
    title = "'); drop table endpoints;--"
    request = tenancy.CreateOrganizationRequest(slug="odd", title=title)
    assert (await stage.admin.tenancy.CreateOrganization(request)).organization.title == title


async def test_credentials_that_are_not_good_read_the_same(stage: Stage) -> None:
    request = tenancy.CreateTokenRequest(kind=TOKEN_KIND_WORKER, name="revoked")
    revoked = await stage.admin.tenancy.CreateToken(request)
    await stage.admin.tenancy.RevokeToken(tenancy.RevokeTokenRequest(token_id=revoked.token.id))
    messages = set()
    for credential in (None, "", "nonsense", "tr_dev_aaaaaaaaaaaaaaaaaaaa", "kf_service_" + "a" * 40, revoked.secret):
        stranger = stage.service.caller(credential)
        refusal = await refused(stranger.endpoints.ListEndpoints(endpoints.ListEndpointsRequest()))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        messages.add(refusal.message)
    assert len(messages) == 1


async def test_good_credentials_without_the_scope(stage: Stage) -> None:
    any_id = str(uuid4())
    create = endpoints.CreateEndpointRequest(environment_id=stage.ours.development.id, slug="app", url=URL)
    run = worker.RunQueueJobsRequest(queue=QUEUE_DEFAULT, lanes=["endpoint-x"])
    rows: dict[str, Row] = {
        "reader writes": (stage.reader.endpoints.CreateEndpoint(create), FORBIDDEN, "PERMISSION_DENIED", []),
        "reader works": (stage.reader.worker.RunQueueJobs(run), FORBIDDEN, "PERMISSION_DENIED", []),
        "admin works": (stage.admin.worker.RunQueueJobs(run), FORBIDDEN, "PERMISSION_DENIED", []),
        "worker reads": (
            stage.worker.endpoints.GetEndpoint(endpoints.GetEndpointRequest(endpoint_id=any_id)),
            FORBIDDEN,
            "PERMISSION_DENIED",
            [],
        ),
        "API key makes a token": (
            stage.developer.tenancy.CreateToken(tenancy.CreateTokenRequest()),
            FORBIDDEN,
            "PERMISSION_DENIED",
            [],
        ),
    }
    assert await differing(rows) == {}


async def test_call_backs_that_name_no_work(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    def run(lanes: list[str], number: int = QUEUE_DEFAULT) -> Awaitable[Any]:
        request = worker.RunQueueJobsRequest(queue=number, lanes=lanes)  # type: ignore[arg-type]
        answer: Awaitable[Any] = stage.worker.worker.RunQueueJobs(request)
        return answer

    async with nothing_stored(connection):
        assert (await run(["endpoint-never-rung"])).outcome == worker.RUN_OUTCOME_NOTHING_DUE
        assert (await run([f"lane-{number}" for number in range(50)])).outcome == worker.RUN_OUTCOME_NOTHING_DUE
        rows: dict[str, Row] = {
            "no queue": (run(["a"], 0), INVALID, "INVALID_REQUEST", ["queue"]),
            "unknown queue": (run(["a"], 9), INVALID, "INVALID_REQUEST", ["queue"]),
            "a lane of 300": (run(["a", "a" * 300]), INVALID, "INVALID_REQUEST", ["lanes[1]"]),
            "an empty lane": (run([""]), INVALID, "INVALID_REQUEST", ["lanes[0]"]),
            "no lanes": (run([]), INVALID, "INVALID_REQUEST", ["lanes"]),
            "51 lanes": (run([f"lane-{number}" for number in range(51)]), INVALID, "INVALID_REQUEST", ["lanes"]),
        }
        assert await differing(rows) == {}


async def test_a_message_over_the_limit_is_refused_by_the_library(stage: Stage) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.create(slug="a" * (1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
