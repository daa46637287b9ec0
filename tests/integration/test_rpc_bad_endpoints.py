"""What callers get for endpoints that must not be registered, read or indexed; nothing of a refused call is stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import queue_service_pb2 as queue
from kongflow.v1.endpoint_pb2 import Endpoint, EndpointKey

from services.endpoints.delivery.guard import SystemNameLookup
from tests.support.fake_endpoint import Behaviour, FakeEndpoint, hang, html, json_body, redirect, refuse_key, status
from tests.support.rpc import refused
from tests.support.stage import URL, Row, Stage, differing, nothing_stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FORBIDDEN = grpc.StatusCode.PERMISSION_DENIED
ABSENT = grpc.StatusCode.NOT_FOUND
IMPOSSIBLE = grpc.StatusCode.FAILED_PRECONDITION


async def test_refused_slugs_and_urls(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    slugs = {
        "empty": "",
        "101 characters": "a" * 101,
        "space": "a b",
        "slash": "a/b",
        "dots": "a..b",
        "emoji": "app\U0001f680",
        "right-to-left mark": "app\u200f",
        "NUL": "app\x00",
        "composed": "caf\u00e9",
        "decomposed": "cafe\u0301",
        "SQL": "'); drop table endpoints;--",
    }
    urls = {
        "empty": "",
        "ftp": "ftp://example.com/",
        "file": "file:///etc/passwd",
        "gopher": "gopher://example.com/",
        "javascript": "javascript:alert(1)",
        "no scheme": "//example.com/",
        "no host": "http:///path",
        "2,049 characters": "http://example.com/" + "a" * 2030,
        "host of 254": "http://" + ".".join(["a" * 63] * 3 + ["a" * 62]) + "/",
        "label of 64": f"http://{'a' * 64}.example.com/",
        "line feed": "http://example.com/\n",
        "carriage return": "http://example.com/\r",
        "tab": "http://exam\tple.com/",
        "NUL": "http://example.com/\x00",
        "space": "http://example.com/a b",
        "backslash": "http://example.com\\@127.0.0.1/",
    }
    rows: dict[str, Row] = {
        f"slug: {name}": (stage.create(slug=slug), INVALID, "INVALID_REQUEST", ["slug"]) for name, slug in slugs.items()
    }
    rows |= {f"url: {name}": (stage.create(url=url), INVALID, "INVALID_REQUEST", ["url"]) for name, url in urls.items()}
    async with nothing_stored(connection):
        assert await differing(rows) == {}


async def test_all_fields_are_named_at_once(stage: Stage) -> None:
    refusal = await refused(
        stage.create(environment_id="x", slug="", url="", organization_id="y", project_id="z", request_id="r")
    )
    assert refusal.fields == ["environment_id", "slug", "url", "organization_id", "project_id", "request_id"]
    assert refusal.details == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


async def test_refused_ids_and_owners(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    ours, theirs, unknown = stage.ours, stage.theirs, str(uuid4())
    get = stage.writer.endpoints.GetEndpoint
    rows: dict[str, Row] = {
        "no UUID": (stage.create(environment_id="env"), INVALID, "INVALID_REQUEST", ["environment_id"]),
        "nil UUID": (
            stage.create(environment_id="00000000-0000-0000-0000-000000000000"),
            INVALID,
            "INVALID_REQUEST",
            ["environment_id"],
        ),
        "none, and no API key": (stage.create(environment_id=""), INVALID, "INVALID_REQUEST", ["environment_id"]),
        "unknown": (stage.create(environment_id=unknown), ABSENT, "NOT_FOUND", []),
        "another tenant's": (stage.create(environment_id=theirs.development.id), ABSENT, "NOT_FOUND", []),
        "another organization": (
            stage.create(organization_id=theirs.organization_id, project_id=theirs.project_id),
            INVALID,
            "INVALID_REQUEST",
            ["organization_id", "project_id"],
        ),
        "unknown endpoint": (get(endpoints.GetEndpointRequest(endpoint_id=unknown)), ABSENT, "NOT_FOUND", []),
        "no look-up": (get(endpoints.GetEndpointRequest()), INVALID, "INVALID_REQUEST", ["endpoint_id"]),
        "no key": (
            get(endpoints.GetEndpointRequest(key=EndpointKey(environment_id="x"))),
            INVALID,
            "INVALID_REQUEST",
            ["key.environment_id", "key.slug"],
        ),
        "the production environment with the development key": (
            stage.developer.endpoints.ListEndpoints(endpoints.ListEndpointsRequest(environment_id=ours.production.id)),
            FORBIDDEN,
            "PERMISSION_DENIED",
            [],
        ),
    }
    async with nothing_stored(connection):
        assert await differing(rows) == {}


async def test_another_tenants_endpoint_reads_as_an_absent_one(stage: Stage) -> None:
    theirs = stage.service.caller(stage.theirs.service_token)
    ours = await stage.store_endpoint()
    absent = str(uuid4())

    async def message(endpoint_id: str, call: Callable[[str], Awaitable[Any]]) -> str:
        refusal = await refused(call(endpoint_id))
        assert refusal.code is ABSENT
        return refusal.message.replace(endpoint_id, "")

    for call in (
        lambda name: theirs.endpoints.GetEndpoint(endpoints.GetEndpointRequest(endpoint_id=name)),
        lambda name: theirs.endpoints.PingEndpoint(endpoints.PingEndpointRequest(endpoint_id=name)),
        lambda name: theirs.endpoints.IndexEndpoint(endpoints.IndexEndpointRequest(endpoint_id=name)),
        lambda name: theirs.endpoints.DeleteEndpoint(endpoints.DeleteEndpointRequest(endpoint_id=name)),
        lambda name: theirs.endpoints.ListEndpointIndexes(endpoints.ListEndpointIndexesRequest(endpoint_id=name)),
        lambda name: theirs.endpoints.UpdateEndpoint(
            endpoints.UpdateEndpointRequest(endpoint=Endpoint(id=name, url=URL))
        ),
    ):
        assert await message(ours.id, call) == await message(absent, call)


async def test_another_tenants_index_and_queue_job_read_as_absent(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    indexed = await stage.writer.endpoints.IndexEndpoint(endpoints.IndexEndpointRequest(endpoint_id=endpoint.id))
    theirs = stage.service.caller(stage.theirs.service_token)
    index_id, queue_job_id = indexed.index.id, indexed.queue_job_id
    watch = theirs.endpoints.WatchEndpointIndex(endpoints.WatchEndpointIndexRequest(index_id=index_id))
    rows: dict[str, Row] = {
        "index": (
            theirs.endpoints.GetEndpointIndex(endpoints.GetEndpointIndexRequest(index_id=index_id)),
            ABSENT,
            "NOT_FOUND",
            [],
        ),
        "items": (
            theirs.endpoints.ListEndpointIndexItems(endpoints.ListEndpointIndexItemsRequest(index_id=index_id)),
            ABSENT,
            "NOT_FOUND",
            [],
        ),
        "watch": (anext(aiter(watch)), ABSENT, "NOT_FOUND", []),
        "queue job": (
            theirs.queue.GetQueueJob(queue.GetQueueJobRequest(queue_job_id=queue_job_id)),
            ABSENT,
            "NOT_FOUND",
            [],
        ),
    }
    assert await differing(rows) == {}
    assert (await theirs.queue.ListQueueJobs(queue.ListQueueJobsRequest())).queue_jobs == []
    ours = await stage.writer.queue.ListQueueJobs(queue.ListQueueJobsRequest())
    assert [queue_job.id for queue_job in ours.queue_jobs] == [queue_job_id]


@pytest.mark.parametrize(
    ("behaviour", "http_status", "said"),
    [
        (refuse_key, "401", "client apiKey mismatch"),
        (status(404), "404", "Could not connect to endpoint"),
        (status(500), "500", "Could not connect to endpoint"),
        (html(), "200", "Could not parse response"),
        (redirect("http://example.com/"), "302", "Could not connect to endpoint"),
        (json_body({"ok": False, "error": "Endpoint ID mismatch"}), "200", "Endpoint ID mismatch"),
        (json_body({"ok": False, "error": "a\x1b\n" * 1000}), "200", "a"),
        (json_body({"ok": False, "error": "\U0001f680" * 1000}), "200", "\U0001f680"),
    ],
    ids=["401", "404", "500", "HTML", "302", "not ok", "long and with control characters", "long and no ASCII"],
)
async def test_a_failed_ping_refuses_the_endpoint_and_says_why(
    stage: Stage,
    connection: asyncpg.Connection[asyncpg.Record],
    behaviour: Behaviour,
    http_status: str,
    said: str,
) -> None:
    async with FakeEndpoint(behaviour=behaviour) as endpoint, nothing_stored(connection):
        refusal = await refused(stage.create(url=endpoint.url))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "FAILED_PING")
    assert said in refusal.message
    assert len(refusal.message) <= 500
    assert refusal.message.isprintable()
    assert refusal.metadata["http_status"] == http_status
    assert "google.rpc.PreconditionFailure" in refusal.details


async def test_an_endpoint_that_refuses_or_hangs_fails_its_ping_and_nothing_is_internal(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with FakeEndpoint(behaviour=hang) as endpoint, nothing_stored(connection):
        for url in (URL, endpoint.url):
            request = endpoints.CreateEndpointRequest(environment_id=stage.ours.development.id, slug="app", url=url)
            refusal = await refused(stage.writer.endpoints.CreateEndpoint(request, timeout=2.5))
            assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "FAILED_PING")
            assert refusal.message == f"Could not connect to endpoint {url}"
            assert "http_status" not in refusal.metadata


@pytest.mark.parametrize("lookup_seconds", [pytest.param(1, id="slow"), pytest.param(60, id="dead")])
@pytest.mark.parametrize("verb", ["create", "update"])
async def test_a_ping_fails_in_time_for_its_reason_whatever_the_name_server_does(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, verb: str, lookup_seconds: float
) -> None:
    async def addresses_of(_self: SystemNameLookup, _host: str, _port: int) -> Sequence[str]:
        answered = asyncio.Event()
        asyncio.get_running_loop().call_later(lookup_seconds, answered.set)
        await answered.wait()
        return ["127.0.0.1"]

    monkeypatch.setattr(SystemNameLookup, "addresses_of", addresses_of)
    stored = await stage.store_endpoint()
    async with FakeEndpoint(behaviour=hang) as endpoint:
        url = f"http://app.example.com:{endpoint.port}/"
        if verb == "create":
            registered = endpoints.CreateEndpointRequest(environment_id=stored.environment_id, slug="app", url=url)
            refusal = await refused(stage.writer.endpoints.CreateEndpoint(registered, timeout=2.5))
        else:
            moved = endpoints.UpdateEndpointRequest(endpoint=Endpoint(id=stored.id, url=url))
            refusal = await refused(stage.writer.endpoints.UpdateEndpoint(moved, timeout=2.5))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "FAILED_PING")
    assert refusal.message == f"Could not connect to endpoint {url}"


async def test_a_failed_ping_of_a_stored_endpoint_is_a_result(stage: Stage) -> None:
    stored = await stage.store_endpoint()
    answer = await stage.writer.endpoints.PingEndpoint(
        endpoints.PingEndpointRequest(endpoint_id=stored.id), timeout=2.5
    )
    assert (answer.ok, answer.error, answer.http_status) == (False, f"Could not connect to endpoint {URL}", 0)
    assert answer.HasField("duration")


async def test_an_existing_slug_is_updated_and_keeps_its_id_and_hook_identifier(stage: Stage) -> None:
    async with FakeEndpoint(api_key=stage.ours.development_key, slug="app") as endpoint:
        first = await stage.create(url=endpoint.url)
        second = await stage.create(url=endpoint.url + "?again")
    third = await stage.store_endpoint(url="http://127.0.0.1:9/third")
    assert (first.created, second.created) == (True, False)
    identities = {(answer.id, answer.indexing_hook_identifier) for answer in (first.endpoint, second.endpoint, third)}
    assert len(identities) == 1
    assert third.url == "http://127.0.0.1:9/third"


async def test_update_masks(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    stored = await stage.store_endpoint()

    def update(*paths: str, **fields: Any) -> Awaitable[Any]:
        request = endpoints.UpdateEndpointRequest(
            endpoint=Endpoint(id=stored.id, **fields), update_mask=FieldMask(paths=paths)
        )
        answer: Awaitable[Any] = stage.writer.endpoints.UpdateEndpoint(request)
        return answer

    rows: dict[str, Row] = {
        "unknown path": (update("nothing"), INVALID, "INVALID_REQUEST", ["update_mask"]),
        "immutable path": (update("slug", slug="other"), INVALID, "INVALID_REQUEST", ["update_mask"]),
        "no url": (update("url"), INVALID, "INVALID_REQUEST", ["endpoint.url"]),
        "every field, no url": (update("*"), INVALID, "INVALID_REQUEST", ["endpoint.url"]),
        "bad url without a mask": (update(url="ftp://x"), INVALID, "INVALID_REQUEST", ["endpoint.url"]),
        "no endpoint": (
            stage.writer.endpoints.UpdateEndpoint(endpoints.UpdateEndpointRequest()),
            INVALID,
            "INVALID_REQUEST",
            ["endpoint.id"],
        ),
    }
    async with nothing_stored(connection):
        assert await differing(rows) == {}
        ignored = await update(
            "state", "create_time", "indexing_hook_identifier", indexing_hook_identifier="0123456789"
        )
        assert ignored.endpoint == stored
        assert ignored.index_id == ""


@pytest.mark.parametrize("text", ["a" * 100, "\U0001f680" * 100], ids=["ASCII", "no ASCII"])
async def test_a_refusal_of_very_much_is_no_more_than_clients_take(stage: Stage, text: str) -> None:
    mask = FieldMask(paths=[f"{number}{text}" for number in range(200)])
    request = endpoints.UpdateEndpointRequest(endpoint=Endpoint(id=str(uuid4())), update_mask=mask)
    for _ in range(20):
        refusal = await refused(stage.writer.endpoints.UpdateEndpoint(request))
        assert (refusal.code, refusal.reason, set(refusal.fields)) == (INVALID, "INVALID_REQUEST", {"update_mask"})


async def test_deleting_what_is_not_there(stage: Stage) -> None:
    delete, absent = stage.writer.endpoints.DeleteEndpoint, str(uuid4())
    refusal = await refused(delete(endpoints.DeleteEndpointRequest(endpoint_id=absent)))
    assert (refusal.code, refusal.reason) == (ABSENT, "NOT_FOUND")
    await delete(endpoints.DeleteEndpointRequest(endpoint_id=absent, allow_missing=True))


async def test_a_suspended_endpoint_is_indexed_by_force_only(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    stored = await stage.store_endpoint()
    await connection.execute("UPDATE endpoints SET state = 'SUSPENDED'")
    index = stage.writer.endpoints.IndexEndpoint
    async with nothing_stored(connection):
        refusal = await refused(index(endpoints.IndexEndpointRequest(endpoint_id=stored.id)))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "ENDPOINT_SUSPENDED")
    forced = await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, force=True))
    assert not forced.deduplicated


async def test_a_second_index_joins_the_one_that_waits(stage: Stage) -> None:
    stored = await stage.store_endpoint(environment_id=stage.ours.production.id)
    index = stage.writer.endpoints.IndexEndpoint
    first = await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, reason="one"))
    second = await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, reason="two"))
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert (second.index.id, second.queue_job_id) == (first.index.id, first.queue_job_id)
    assert second.index.reason == "two"
    assert second.HasField("run_time")
