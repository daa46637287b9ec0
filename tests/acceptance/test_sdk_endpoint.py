"""The client against an unmodified SDK app: texts, the index, and every other call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.endpoint_calls import CallFailure, EndpointAddress, EndpointCallError
from services.endpoints.domain.endpoint_wire import (
    EnvironmentReference,
    HttpSourceDelivery,
    JobReference,
    OrganizationReference,
    PreprocessedRunReference,
    PreprocessRunBody,
    PreprocessRunResponse,
    RunFailed,
    RunJobBody,
    RunPayloadInvalid,
    RunReference,
    RunSucceeded,
    SentEvent,
    parse_answer,
    parse_run_job_response,
)
from services.endpoints.domain.json_text import parse_json
from tests.support.fake_endpoint import as_sent
from tests.support.sdk_app import SdkApp, running_sdk_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from services.endpoints.domain.json_text import JsonValue

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("sdk endpoint")]

NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
ENVIRONMENT = EnvironmentReference(id="env_1", slug="dev", type="DEVELOPMENT")
ORGANIZATION = OrganizationReference(id="org_1", title="Books", slug="books")


@pytest.fixture(scope="module")
def app() -> Iterator[SdkApp]:
    with running_sdk_app() as running:
        yield running


@pytest.fixture
def address(app: SdkApp) -> EndpointAddress:
    return EndpointAddress(app.url, app.api_key, app.client_id)


@pytest.fixture
async def client() -> AsyncIterator[AiohttpEndpointClient]:
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    async with AiohttpEndpointClient(guard=guard, timeout=timedelta(seconds=20)) as opened:
        yield opened
    guard.close()


def run_body(job: str, payload: JsonValue) -> RunJobBody:
    return RunJobBody(
        event=SentEvent(id="event-1", name="any", payload=payload, timestamp=NOW),
        job=JobReference(id=job, version="1.0.0"),
        run=RunReference(id="run-1", is_test=False, started_at=NOW),
        environment=ENVIRONMENT,
        organization=ORGANIZATION,
    )


async def test_ping_with_the_right_key_and_slug_is_ok(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    result = await client.ping(address)
    assert (result.ok, result.error, result.http_status) == (True, None, 200)
    assert (result.trigger_version, result.sdk_version) == ("2023-09-29", "2.3.18")


async def test_ping_with_another_key_gives_the_apps_own_sentence(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    result = await client.ping(replace(address, api_key="tr_dev_Another000000000000A"))
    assert result.error == (
        "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment"
    )
    assert (result.ok, result.http_status, result.retryable) == (False, 401, False)


async def test_ping_with_another_slug_names_both(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    result = await client.ping(replace(address, slug="library"))
    assert result.error == "Endpoint ID mismatch error. Expected bookshop, got library"
    assert (result.ok, result.http_status, result.failure) == (False, 200, CallFailure.REPORTED)


async def test_a_path_that_is_not_the_endpoints_gives_its_status(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    url = address.url.replace("/api/trigger", "/")
    result = await client.ping(replace(address, url=url))
    assert result.error == f"Could not connect to endpoint {url}. Status code: 404"


async def test_validate_tells_the_slug(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    result = await client.validate(replace(address, slug="whatever"))
    assert (result.ok, result.endpoint_id) == (True, "bookshop")


async def test_index_lists_every_kind_of_item(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    answer = await client.index_endpoint(address, read=as_sent)
    assert isinstance(answer.body, dict)
    body: dict[str, Any] = answer.body
    jobs = {job["id"]: job for job in body["jobs"]}
    assert {"book-sold", "reading-room", "nightly-count", "till-check", "unpack", "forward-parcel"} < jobs.keys()
    assert jobs["closed-department"]["enabled"] is False
    assert jobs["book-sold"]["trigger"]["rule"]["payload"] == {"shelf": ["fiction", "poetry"], "copies": [{"$gte": 1}]}
    assert jobs["reading-room"]["event"]["name"] == ["reader.came", "reader.left"]
    assert [source["channel"] for source in body["sources"]] == ["HTTP"]
    assert [trigger["id"] for trigger in body["dynamicTriggers"]] == ["any-depot"]
    assert body["dynamicSchedules"] == [{"id": "reader-digest", "jobs": [{"id": "send-digest", "version": "1.1.0"}]}]
    assert any(job.get("internal") for job in body["jobs"])
    assert answer.size_bytes > 1000
    assert answer.sdk_version == "2.3.18"


async def test_index_with_another_key_is_unauthorized(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    with pytest.raises(EndpointCallError, match="client apiKey mismatch") as caught:
        await client.index_endpoint(replace(address, api_key="tr_dev_Another000000000000A"), read=as_sent)
    assert (caught.value.failure, caught.value.retryable) == (CallFailure.UNAUTHORIZED, False)


async def test_initialize_trigger_answers_what_it_listens_to(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    registration = await client.initialize_trigger(address, trigger_slug="any-depot", params={"depot": "söuth"})
    assert registration.rule.event == "parcel.arrived"
    assert registration.rule.payload == {"depot": ["söuth"]}
    assert registration.source["params"] == {"depot": "söuth"}


async def test_initialize_unknown_trigger_is_an_error_of_the_app(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    with pytest.raises(EndpointCallError, match=r"^EndpointApiError: Dynamic trigger not found$") as caught:
        await client.initialize_trigger(address, trigger_slug="no-such", params={})
    assert (caught.value.http_status, caught.value.retryable) == (404, False)


async def test_preprocess_run_answers_the_properties(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    answer = await client.preprocess_run(
        address,
        PreprocessRunBody(
            event=SentEvent(id="event-1", name="parcel.arrived", payload={"weight": 250}, timestamp=NOW),
            job=JobReference(id="unpack", version="1.0.0"),
            run=PreprocessedRunReference(id="run-1", is_test=True),
            environment=ENVIRONMENT,
            organization=ORGANIZATION,
        ),
    )
    response = parse_answer(PreprocessRunResponse, parse_json(answer.body))
    assert response.abort is False
    assert [(found.label, found.text) for found in response.properties or []] == [("Weight", "250 g")]


async def test_executed_job_answers_its_output(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    answer = await client.execute_job(address, run_body("nightly-count", {"ts": "2026-05-04T02:30:00.000Z"}))
    response = parse_run_job_response(answer.body)
    assert isinstance(response, RunSucceeded)
    assert response.output == {"at": "2026-05-04T02:30:00.000Z", "before": None}
    assert answer.headers["x-trigger-run-metadata"] == "{}"


async def test_job_without_output_differs_from_null(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    answer = await client.execute_job(address, run_body("reading-room", {"act": "nothing"}))
    response = parse_run_job_response(answer.body)
    assert isinstance(response, RunSucceeded)
    assert "output" not in response.model_fields_set


async def test_job_that_throws_answers_its_error(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    answer = await client.execute_job(address, run_body("reading-room", {"act": "fail"}))
    response = parse_run_job_response(answer.body)
    assert isinstance(response, RunFailed)
    assert (response.error.name, response.error.message) == ("RangeError", "the page is blank")


async def test_payload_off_the_schema_is_reported_by_place(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    answer = await client.execute_job(address, run_body("book-sold", {"isbn": 7, "copies": 1}))
    response = parse_run_job_response(answer.body)
    assert isinstance(response, RunPayloadInvalid)
    assert [(issue.path, issue.message) for issue in response.errors] == [
        (["isbn"], "Expected string, received number")
    ]


async def test_unknown_job_is_an_answer_with_its_status(
    client: AiohttpEndpointClient, address: EndpointAddress
) -> None:
    answer = await client.execute_job(address, run_body("no-such", {}))
    assert (answer.status, parse_json(answer.body)) == (404, {"message": "Job not found"})


async def test_delivered_request_comes_back_as_events(client: AiohttpEndpointClient, address: EndpointAddress) -> None:
    index = await client.index_endpoint(address, read=as_sent)
    assert isinstance(index.body, dict)
    sources: Any = index.body["sources"]
    response = await client.deliver_http_source_request(
        address,
        HttpSourceDelivery(
            key=sources[0]["key"],
            secret="whsec",
            params={"depot": "nörth"},
            http_url="http://127.0.0.1:1/api/v1/sources/http/1",
            http_method="POST",
            http_headers={"content-type": "application/json"},
            body=b'{"number": 41, "weight": 900}',
        ),
    )
    assert (response.response.status, response.response.body) == (202, {"accepted": 41})
    assert response.response.headers == {"x-courier": "thanks"}
    event = response.events[0]
    assert (event.id, event.payload) == ("parcel-41", {"weight": 900, "depot": "nörth"})
