"""The rows of the table of bad inputs that need something before or after their call: each named by its number."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import catalog_service_pb2 as catalog
from kongflow.v1 import dispatcher_service_pb2 as dispatchers
from kongflow.v1 import endpoint_service_pb2 as endpoints
from kongflow.v1 import event_service_pb2 as events
from kongflow.v1 import queue_service_pb2 as queue
from kongflow.v1 import tenancy_service_pb2 as tenancy
from kongflow.v1 import worker_service_pb2 as worker
from kongflow.v1.dispatcher_pb2 import Dispatcher
from kongflow.v1.endpoint_pb2 import Endpoint
from kongflow.v1.event_explanation_pb2 import DISPATCHER_VERDICT_UNREADABLE_FILTER
from kongflow.v1.queue_pb2 import QUEUE_DEFAULT
from kongflow.v1.token_pb2 import TOKEN_KIND_WORKER

from services.endpoints.domain.identifiers import new_uuid7
from tests.support.bad_inputs import ABSENT, IMPOSSIBLE, INVALID, Ground, bad_input_ground
from tests.support.events import get, send
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, hang, json_body, status
from tests.support.pair import state_name
from tests.support.rpc import refused
from tests.support.servers import fresh_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kongflow.v1.event_pb2 import Event

    from services.embedded.postgres import EmbeddedPostgres
    from services.embedded.redis import EmbeddedRedis

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("bad inputs")]

JOB = "bad-inputs-job"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> AsyncIterator[Ground]:
    async with fresh_database(postgres) as url, bad_input_ground(database_url=url, redis_url=redis.url) as ground:
        yield ground


def answering(monkeypatch: pytest.MonkeyPatch, host: str, *answers: list[str]) -> None:
    """Let a name have these addresses, each list for one look-up and the last for all that follow."""
    looked_up, left = socket.getaddrinfo, list(answers)

    def look_up(name: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if name != host:
            return looked_up(name, port, *arguments, **options)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def job_version(ground: Ground) -> str:
    """Return the version of a job that an endpoint of the development environment offers."""
    name = f"app-{uuid4().hex[:8]}"
    index = {**EMPTY_INDEX, "jobs": [event_job(JOB, event="never.sent")]}
    async with FakeEndpoint(index=index, api_key=ground.stage.ours.development_key, slug=name) as endpoint:
        created = await ground.stage.create(slug=name, url=endpoint.url)
        watch = ground.stage.writer.endpoints.WatchEndpointIndex(
            endpoints.WatchEndpointIndexRequest(index_id=created.index_id)
        )
        async for _ in watch:
            pass
    request = catalog.GetJobRequest(environment_id=ground.stage.ours.development.id, slug=JOB)
    return str((await ground.stage.writer.catalog.GetJob(request)).job.latest_version.id)


async def listener(ground: Ground, name: str, version_id: str, **fields: Any) -> str:
    """Let the job listen to events of this name; returns the dispatcher."""
    request = dispatchers.CreateDispatcherRequest(
        environment_id=ground.stage.ours.development.id,
        dispatcher=Dispatcher(event_names=[name], job_version_id=version_id, enabled=True, **fields),
    )
    return str((await ground.stage.writer.dispatchers.CreateDispatcher(request)).dispatcher.id)


async def delivered(ground: Ground, **fields: Any) -> Event:
    """Send an event and return it once it is delivered."""
    sent = (await send(ground.stage.developer, **fields)).event

    async def is_delivered() -> Any:
        return (await get(ground.stage.developer, sent.id)).HasField(
            "deliver_time"
        ) and await ground.connection.fetchval("SELECT state = 'DELIVERED' FROM events WHERE id = $1", sent.id)

    await eventually(is_delivered, within=timedelta(seconds=20))
    return await get(ground.stage.developer, sent.id)


async def matches(ground: Ground, event_id: str) -> int:
    return int(await ground.connection.fetchval("SELECT match_count FROM events WHERE id = $1", event_id))


async def test_row_19_a_name_with_a_public_and_a_private_address(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, "both.example", ["93.184.216.34", "fd00::1"])
    request = endpoints.CreateEndpointRequest(
        environment_id=ground.stage.ours.development.id, slug="app", url="http://both.example/"
    )
    refusal = await refused(ground.guarded.endpoints.CreateEndpoint(request))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "ADDRESS_NOT_ALLOWED", ["url"])
    assert "fd00" not in refusal.message


async def test_row_20_a_name_that_is_private_only_when_it_is_connected_to(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeEndpoint() as endpoint:
        answering(monkeypatch, "rebinding.example", ["93.184.216.34"], ["127.0.0.1"])
        request = endpoints.CreateEndpointRequest(
            environment_id=ground.stage.ours.development.id,
            slug="app",
            url=f"http://rebinding.example:{endpoint.port}/",
        )
        refusal = await refused(ground.guarded.endpoints.CreateEndpoint(request))
        assert endpoint.journal == []
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "FAILED_PING")
    assert "127.0.0.1" not in refusal.message


async def test_row_21_an_endpoint_that_never_answers(ground: Ground) -> None:
    async with FakeEndpoint(behaviour=hang) as endpoint, ground.nothing_stored():
        request = endpoints.CreateEndpointRequest(
            environment_id=ground.stage.ours.development.id, slug="app", url=endpoint.url
        )
        refusal = await refused(ground.stage.writer.endpoints.CreateEndpoint(request, timeout=2.5))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "FAILED_PING")


async def test_row_22_the_status_of_a_failed_ping_is_told(ground: Ground) -> None:
    async with FakeEndpoint(behaviour=status(500)) as endpoint:
        refusal = await refused(ground.stage.create(url=endpoint.url))
    assert refusal.metadata["http_status"] == "500"
    assert "google.rpc.PreconditionFailure" in refusal.details


async def test_row_23_the_message_of_a_failed_ping_is_cut(ground: Ground) -> None:
    async with FakeEndpoint(behaviour=json_body({"ok": False, "error": "a\x1b\n" * 1000})) as endpoint:
        refusal = await refused(ground.stage.create(url=endpoint.url))
    assert set(refusal.message[:100].replace(" ", "")) == {"a"}
    assert len(refusal.message) <= 500


async def test_row_24_an_existing_slug(ground: Ground) -> None:
    first = await ground.stage.create(url=ground.endpoint.url)
    again = await ground.stage.create(url=ground.endpoint.url + "?again")
    upserted = await ground.stage.store_endpoint()
    assert not again.created
    identities = {(each.id, each.indexing_hook_identifier) for each in (first.endpoint, again.endpoint, upserted)}
    assert len(identities) == 1


async def test_row_27_an_output_only_path_is_ignored(ground: Ground) -> None:
    stored = await ground.stage.store_endpoint(slug="row-27")
    request = endpoints.UpdateEndpointRequest(
        endpoint=Endpoint(id=stored.id, indexing_hook_identifier="0123456789"),
        update_mask=FieldMask(paths=["id", "state", "create_time", "indexing_hook_identifier"]),
    )
    assert (await ground.stage.writer.endpoints.UpdateEndpoint(request)).endpoint == stored


async def test_row_28_an_absent_endpoint_may_be_missing(ground: Ground) -> None:
    request = endpoints.DeleteEndpointRequest(endpoint_id=str(uuid4()), allow_missing=True)
    assert await ground.stage.writer.endpoints.DeleteEndpoint(request) == endpoints.DeleteEndpointResponse()


async def test_row_29_a_suspended_endpoint_is_indexed_by_force_only(ground: Ground) -> None:
    stored = await ground.stage.store_endpoint(slug="row-29")
    await ground.connection.execute("UPDATE endpoints SET state = 'SUSPENDED' WHERE id = $1", stored.id)
    index = ground.stage.writer.endpoints.IndexEndpoint
    refusal = await refused(index(endpoints.IndexEndpointRequest(endpoint_id=stored.id)))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "ENDPOINT_SUSPENDED")
    assert not (await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, force=True))).deduplicated


async def test_row_30_a_second_index_inside_the_window(ground: Ground) -> None:
    later = Timestamp()
    later.GetCurrentTime()
    later.seconds += 3600
    stored = await ground.stage.store_endpoint(environment_id=ground.stage.ours.production.id, slug="row-30")
    index = ground.stage.writer.endpoints.IndexEndpoint
    first = await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, run_time=later))
    second = await index(endpoints.IndexEndpointRequest(endpoint_id=stored.id, run_time=later))
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert second.index.id == first.index.id
    assert second.HasField("run_time")


async def test_row_32_an_empty_event_id_is_generated(ground: Ground) -> None:
    assert (await send(ground.stage.developer, event_id="")).event.event_id


async def test_row_33_the_same_event_again(ground: Ground) -> None:
    first, again = [await send(ground.stage.developer, event_id="row-33", payload_json="{}") for _ in range(2)]
    assert (first.created, again.created) == (True, False)
    assert again.event.id == first.event.id


async def test_row_34_another_event_of_the_same_id(ground: Ground) -> None:
    await send(ground.stage.developer, event_id="row-34", payload_json="{}")
    refusal = await refused(send(ground.stage.developer, event_id="row-34", payload_json="[]"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert "payload" in refusal.message


async def test_row_35_the_same_request_id_of_another_request(ground: Ground) -> None:
    request_id = str(uuid4())
    await ground.stage.create(url=ground.endpoint.url, request_id=request_id)
    refusal = await refused(ground.stage.create(url=ground.endpoint.url + "?other", request_id=request_id))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "REQUEST_ID_REUSED", ["request_id"])


@pytest.mark.parametrize(
    "payload", ["[9007199254740993,9223372036854775808,1.0,1]", '{"__proto__":1,"$set":{"a":1},"":2}']
)
async def test_row_44_and_45_data_comes_back_as_it_came(ground: Ground, payload: str) -> None:
    sent = (await send(ground.stage.developer, payload_json=payload)).event
    assert (await get(ground.stage.developer, sent.id)).payload_json == payload


async def test_row_47_a_message_of_more_than_1_mib(ground: Ground) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(ground.stage.developer, payload_json='"' + "x" * 1024 * 1024 + '"')
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_row_50_a_delivery_in_the_past_is_due_now(ground: Ground) -> None:
    event = (await send(ground.stage.developer, deliver_time=Timestamp(seconds=1))).event
    assert event.deliver_time.seconds > 1_000_000_000


async def test_row_55_a_stored_filter_that_is_none_any_more(ground: Ground) -> None:
    version_id = await job_version(ground)
    broken = await listener(ground, "row.55", version_id, payload_filter_json='{"a": ["x"]}')
    await listener(ground, "row.55", version_id)
    await ground.connection.execute("UPDATE event_dispatchers SET payload_filter = '[]' WHERE id = $1", broken)
    event = await delivered(ground, name="row.55", payload_json='{"a": "x"}')
    assert await matches(ground, event.id) == 1
    request = events.ExplainEventRequest(id=event.id)
    explained = await ground.stage.developer.events.ExplainEvent(request)
    verdicts = {each.dispatcher.id: each.verdict for each in explained.dispatchers}
    assert verdicts[broken] == DISPATCHER_VERDICT_UNREADABLE_FILTER


async def test_row_56_a_request_whose_body_is_no_json(ground: Ground) -> None:
    version_id = await job_version(ground)
    await listener(ground, "row.56", version_id, payload_filter_json='{"a": ["x"]}')
    await listener(ground, "row.56", version_id)
    body = json.dumps({"url": "/", "method": "POST", "headers": {}, "rawBody": "{"})
    event = await delivered(ground, name="row.56", payload_json=body, payload_type=2)
    assert await matches(ground, event.id) == 1


async def test_row_57_a_dispatcher_of_another_account(ground: Ground) -> None:
    version_id = await job_version(ground)
    await listener(ground, "row.57", version_id, account_id="one")
    wanted, unwanted = [await delivered(ground, name="row.57", account_id=account) for account in ("one", "two")]
    assert [await matches(ground, event.id) for event in (wanted, unwanted)] == [1, 0]


async def test_row_58_cancelling_late_and_twice(ground: Ground) -> None:
    later = Timestamp()
    later.GetCurrentTime()
    later.seconds += 3600
    cancel = ground.stage.developer.events.CancelEvent
    waiting = (await send(ground.stage.developer, name="row.58", deliver_time=later)).event
    first, again = [await cancel(events.CancelEventRequest(id=waiting.id)) for _ in range(2)]
    assert first.event == again.event
    done = await delivered(ground, name="row.58")
    refusal = await refused(cancel(events.CancelEventRequest(id=done.id)))
    assert (refusal.code, refusal.reason) == (IMPOSSIBLE, "WRONG_STATE")


async def test_row_59_a_replay_outside_retention(ground: Ground) -> None:
    now = await ground.connection.fetchval("SELECT clock_timestamp()")
    month_ago = now - timedelta(days=30, minutes=1)
    old = str(new_uuid7(now_ms=lambda: int(month_ago.timestamp() * 1000)))
    refusal = await refused(ground.stage.developer.events.ReplayEvents(events.ReplayEventsRequest(ids=[old])))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")


async def test_row_60_and_61_pages_and_their_tokens(ground: Ground) -> None:
    for number in range(3):
        await ground.stage.store_endpoint(slug=f"row-60-{number}")
    environment_id = ground.stage.ours.development.id

    async def listed(caller: Any, environment_id: str = environment_id, **fields: Any) -> Any:
        request = endpoints.ListEndpointsRequest(environment_id=environment_id, **fields)
        return await caller.endpoints.ListEndpoints(request)

    writer, ours, theirs = ground.stage.writer, ground.stage.ours, ground.stage.theirs
    everything = await listed(writer, page_size=10_000)
    assert len(everything.endpoints) == len((await listed(writer, page_size=0)).endpoints) >= 3
    token = (await listed(writer, page_size=2)).next_page_token
    for call in (
        listed(writer, page_token=("B" if token[0] == "A" else "A") + token[1:]),
        listed(writer, ours.production.id, page_token=token),
        listed(ground.stage.service.caller(theirs.service_token), page_token=token),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_REQUEST", ["page_token"])


@pytest.mark.parametrize("text", ["id;drop table", "1=1--"])
async def test_row_62_a_text_filter_is_data(ground: Ground, text: str) -> None:
    request = catalog.ListJobsRequest(environment_id=ground.stage.ours.development.id, slug=text, title=text)
    assert (await ground.stage.writer.catalog.ListJobs(request)).jobs == []
    assert (await ground.stage.writer.queue.ListQueueJobs(queue.ListQueueJobsRequest(lane=text))).queue_jobs == []


async def test_row_63_a_title_is_stored_verbatim(ground: Ground) -> None:
    title = "'); drop table endpoints;--"
    request = tenancy.CreateOrganizationRequest(slug="row-63", title=title)
    assert (await ground.stage.admin.tenancy.CreateOrganization(request)).organization.title == title


async def test_row_64_revoked_and_expired_credentials_read_as_those_that_never_were(ground: Ground) -> None:
    create = ground.stage.admin.tenancy.CreateToken
    revoked = await create(tenancy.CreateTokenRequest(kind=TOKEN_KIND_WORKER, name="revoked"))
    await ground.stage.admin.tenancy.RevokeToken(tenancy.RevokeTokenRequest(token_id=revoked.token.id))
    expired = await create(tenancy.CreateTokenRequest(kind=TOKEN_KIND_WORKER, name="expired"))
    await ground.connection.execute(
        "UPDATE tokens SET created_at = created_at - interval '2 days', expires_at = created_at - interval '1 day'"
        " WHERE id = $1",
        expired.token.id,
    )
    answers = set()
    for credential in (None, "nonsense", revoked.secret, expired.secret):
        stranger = ground.stage.service.caller(credential)
        refusal = await refused(stranger.endpoints.ListEndpoints(endpoints.ListEndpointsRequest()))
        answers.add((refusal.code, refusal.reason, refusal.message))
    assert {answer[:2] for answer in answers} == {(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")}
    assert len(answers) == 1


async def test_row_68_a_lane_that_was_never_rung(ground: Ground) -> None:
    request = worker.RunQueueJobsRequest(queue=QUEUE_DEFAULT, lanes=["endpoint-never-rung"])
    async with ground.nothing_stored():
        answer = await ground.stage.worker.worker.RunQueueJobs(request)
    assert answer.outcome == worker.RUN_OUTCOME_NOTHING_DUE


async def test_row_69_the_same_call_back_twice_at_once(ground: Ground) -> None:
    key = ground.stage.ours.development_key
    async with FakeEndpoint(index=EMPTY_INDEX, api_key=key, slug="row-69") as endpoint:
        stored = await ground.stage.store_endpoint(slug="row-69", url=endpoint.url)
        index = await ground.stage.writer.endpoints.IndexEndpoint(endpoints.IndexEndpointRequest(endpoint_id=stored.id))
        lane = await ground.connection.fetchval("SELECT lane FROM queue_jobs WHERE id = $1", index.queue_job_id)
        request = worker.RunQueueJobsRequest(queue=QUEUE_DEFAULT, lanes=[lane])
        await asyncio.gather(*(ground.stage.worker.worker.RunQueueJobs(request) for _ in range(2)))
        watch = ground.stage.writer.endpoints.WatchEndpointIndex(
            endpoints.WatchEndpointIndexRequest(index_id=index.index.id)
        )
        async for _ in watch:
            pass
        assert len(endpoint.calls("INDEX_ENDPOINT")) == 1


@pytest.mark.parametrize("method", ["/kongflow.v1.EndpointService/Nothing", "/kongflow.v9.Nothing/Nothing"])
async def test_row_73_a_method_that_is_not_there(ground: Ground, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ground.stage.writer.send(method, b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_row_74_unknown_fields_are_ignored(ground: Ground) -> None:
    request = endpoints.ListEndpointsRequest(environment_id=ground.stage.ours.development.id)
    known = request.SerializeToString()
    answers = [
        await ground.stage.writer.send("/kongflow.v1.EndpointService/ListEndpoints", raw)
        for raw in (known, known + b"\xfa\x3f\x01x")
    ]
    assert answers[0] == answers[1]


async def test_row_80_a_watch_to_be_resumed_of_an_index_that_is_no_longer_kept(ground: Ground) -> None:
    now = await ground.connection.fetchval("SELECT clock_timestamp()")
    week_ago = now - timedelta(days=7, minutes=1)
    old = str(new_uuid7(now_ms=lambda: int(week_ago.timestamp() * 1000)))
    young = str(new_uuid7(now_ms=lambda: int(now.timestamp() * 1000)))

    async def watched(index_id: str, revision: int) -> Any:
        request = endpoints.WatchEndpointIndexRequest(index_id=index_id, resume_revision=revision)
        return await anext(aiter(ground.stage.writer.endpoints.WatchEndpointIndex(request)))

    refusal = await refused(watched(old, 3))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")
    for absent, revision in ((old, 0), (young, 3)):
        assert (await refused(watched(absent, revision))).code is ABSENT


async def test_row_82_what_one_endpoint_lacks_stays_with_the_other(ground: Ground) -> None:
    key = ground.stage.ours.development_key
    for name, job in (("row-82-a", "job-82-a"), ("row-82-b", "job-82-b")):
        index = {**EMPTY_INDEX, "jobs": [event_job(job)]}
        async with FakeEndpoint(index=index, api_key=key, slug=name) as endpoint:
            created = await ground.stage.create(slug=name, url=endpoint.url)
            watch = ground.stage.writer.endpoints.WatchEndpointIndex(
                endpoints.WatchEndpointIndexRequest(index_id=created.index_id)
            )
            async for _ in watch:
                pass
    request = catalog.GetJobRequest(environment_id=ground.stage.ours.development.id, slug="job-82-a")
    job = (await ground.stage.writer.catalog.GetJob(request)).job
    assert state_name(job.latest_version) == "ACTIVE"
