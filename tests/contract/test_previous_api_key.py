"""A call that an endpoint refuses with 401 while the environment's previous API key is good."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.endpoint_calls import CallFailure, CallSigning, EndpointAddress
from services.endpoints.domain.endpoint_wire import (
    EnvironmentReference,
    HttpSourceDelivery,
    JobReference,
    OrganizationReference,
    RunJobBody,
    RunReference,
    SentEvent,
)
from tests.support import fake_endpoint as fake
from tests.support.fake_endpoint import FakeEndpoint, as_sent
from tests.support.machine_time import machine_time
from tests.support.signed_calls import signed_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.endpoints.domain.ports.endpoint_client import EndpointClient

OLD, NEW = "tr_dev_TheKeyFromBefore000A", "tr_dev_TheKeyFromNowOn0000B"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
DELIVERY = HttpSourceDelivery(key="k", secret="s", http_url="http://a/", http_method="POST", http_headers={}, body=b"x")
BEGAN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
RUN = RunJobBody(
    event=SentEvent(id="event-1", name="any", payload={"id": 7}, timestamp=BEGAN),
    job=JobReference(id="greet", version="1.0.0"),
    run=RunReference(id="run-1", is_test=False, started_at=BEGAN),
    environment=EnvironmentReference(id="env_1", slug="dev", type="DEVELOPMENT"),
    organization=OrganizationReference(id="org_1", title="Books", slug="books"),
)
CALLS: dict[str, Callable[[EndpointClient, EndpointAddress], Any]] = {
    "PING": lambda client, address: client.ping(address),
    "VALIDATE": lambda client, address: client.validate(address),
    "INDEX_ENDPOINT": lambda client, address: client.index_endpoint(address, read=as_sent),
    "EXECUTE_JOB": lambda client, address: client.execute_job(address, RUN),
    "DELIVER_HTTP_SOURCE_REQUEST": lambda client, address: client.deliver_http_source_request(address, DELIVERY),
}


@pytest.fixture
async def client() -> AsyncIterator[EndpointClient]:
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    clock = iter(datetime(2026, 5, 4, 3, 2, second, tzinfo=UTC) for second in range(60))
    async with AiohttpEndpointClient(guard=guard, timeout=timedelta(seconds=20), clock=lambda: next(clock)) as opened:
        yield opened
    guard.close()


def rotated(endpoint: FakeEndpoint) -> EndpointAddress:
    return EndpointAddress(
        endpoint.url, NEW, endpoint.slug, signing=CallSigning("call-1", (SECRET,)), previous_api_key=OLD
    )


@pytest.mark.parametrize("action", CALLS)
async def test_refused_call_is_made_once_more_with_the_previous_key(client: EndpointClient, action: str) -> None:
    async def accept_delivery(_request: Any, endpoint: FakeEndpoint) -> fake.Answer:
        is_delivery = action == "DELIVER_HTTP_SOURCE_REQUEST" and endpoint.journal[-1].key_fits
        return fake.reply({"response": {"status": 200}, "events": []}) if is_delivery else None

    async with FakeEndpoint(api_key=OLD, behaviour=accept_delivery) as endpoint:
        with capture_logs() as lines:
            answer = await CALLS[action](client, rotated(endpoint))
        assert getattr(answer, "ok", True)
    assert [(line["event"], line["slug"], line["action"]) for line in lines] == [
        ("endpoint_took_previous_api_key", endpoint.slug, action)
    ]
    refused, accepted = endpoint.journal
    assert (refused.action, accepted.action) == (action, action)
    assert (refused.key_fits, accepted.key_fits) == (False, True)
    assert refused.body == accepted.body
    assert [entry.headers["webhook-id"] for entry in endpoint.journal] == ["call-1", "call-1"]
    assert refused.headers["webhook-timestamp"] != accepted.headers["webhook-timestamp"]
    assert signed_by(refused, SECRET)
    assert signed_by(accepted, SECRET)


async def test_endpoint_that_has_the_new_key_is_called_once(client: EndpointClient) -> None:
    async with FakeEndpoint(api_key=NEW) as endpoint:
        assert (await client.ping(rotated(endpoint))).ok
    assert len(endpoint.journal) == 1


@pytest.mark.parametrize("number", [302, 400, 403, 404, 407, 429, 500])
async def test_no_other_status_is_taken_for_a_wrong_key(client: EndpointClient, number: int) -> None:
    async with FakeEndpoint(api_key=OLD, behaviour=fake.status(number)) as endpoint:
        assert (await client.ping(rotated(endpoint))).http_status == number
    assert len(endpoint.journal) == 1


async def test_without_a_previous_key_the_refusal_stands_with_its_hint(client: EndpointClient) -> None:
    async with FakeEndpoint(api_key=OLD) as endpoint:
        result = await client.ping(replace(rotated(endpoint), previous_api_key=None))
    assert (result.failure, result.http_status) == (CallFailure.UNAUTHORIZED, 401)
    assert result.error is not None
    assert result.error.startswith("Forbidden: client apiKey mismatch")
    assert len(endpoint.journal) == 1


async def test_endpoint_that_knows_neither_key_is_asked_twice_and_neither_key_nor_secret_is_kept(
    client: EndpointClient,
) -> None:
    behaviour = fake.json_body({"message": f"not {OLD}, not {NEW}, nor {SECRET}"}, status=401)
    async with FakeEndpoint(behaviour=behaviour) as endpoint:
        with capture_logs() as lines:
            result = await client.ping(rotated(endpoint))
    assert lines == []
    assert result.error == "not [key], not [key], nor [key]"
    assert (result.failure, result.retryable) == (CallFailure.UNAUTHORIZED, False)
    assert len(endpoint.journal) == 2


async def test_both_calls_together_end_within_the_timeout(client: EndpointClient) -> None:
    timeout, began = timedelta(seconds=4), machine_time()

    async def refuse_late(_request: Any, endpoint: FakeEndpoint) -> fake.Answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endpoint.closing.wait(), 2)
        return fake.reply({}, status=401)

    async with FakeEndpoint(behaviour=fake.in_turn(refuse_late, fake.hang)) as endpoint:
        result = await client.ping(rotated(endpoint), timeout=timeout)
        took = machine_time() - began
    assert (result.failure, result.detail) == (CallFailure.TIMED_OUT, "timed out after 4 s")
    assert len(endpoint.journal) == 2
    assert result.duration > 0.9 * timeout
    assert took < 5.5


async def test_answer_of_the_second_call_took_as_long_as_both(client: EndpointClient) -> None:
    async def refuse_late(_request: Any, endpoint: FakeEndpoint) -> fake.Answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endpoint.closing.wait(), 0.3)
        return fake.reply({}, status=401)

    async with FakeEndpoint(behaviour=fake.in_turn(refuse_late, None), api_key=OLD) as endpoint:
        answer = await client.index_endpoint(rotated(endpoint), read=as_sent)
    assert answer.duration > timedelta(milliseconds=300)


def test_address_shows_neither_key() -> None:
    shown = repr(EndpointAddress("http://a/", NEW, "a", previous_api_key=OLD))
    assert (NEW in shown, OLD in shown) == (False, False)
