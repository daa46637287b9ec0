"""The endpoint client against recorded answers of the SDK and against endpoints that misbehave."""

from __future__ import annotations

import asyncio
import json
import ssl
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.endpoint_calls import CallFailure, EndpointAddress, EndpointCallError
from services.endpoints.domain.endpoint_wire import HttpSourceDelivery
from tests.support import fake_endpoint as fake
from tests.support.fake_endpoint import FakeEndpoint, as_sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.endpoints.domain.ports.endpoint_client import EndpointClient

RECORDED: dict[str, Any] = {
    exchange["name"]: exchange
    for exchange in json.loads((Path(__file__).parent / "recorded" / "sdk-2.3.18.json").read_text())
}
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SHORT = timedelta(milliseconds=300)
LONG = timedelta(seconds=4)
UNPARSABLE = (
    "Could not parse response from endpoint. Make sure it points to the correct URL (you might be missing /api/trigger)"
)


@pytest.fixture
async def client() -> AsyncIterator[EndpointClient]:
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    async with AiohttpEndpointClient(guard=guard, timeout=timedelta(seconds=20), clock=lambda: NOW) as opened:
        yield opened
    guard.close()


def address_of(endpoint: FakeEndpoint) -> EndpointAddress:
    return EndpointAddress(endpoint.url, endpoint.api_key, endpoint.slug)


def recorded(name: str) -> fake.Behaviour:
    exchange = RECORDED[name]
    return fake.raw_body(exchange["body"].encode(), status=exchange["status"], headers=exchange["headers"])


async def index_failure(client: EndpointClient, behaviour: fake.Behaviour) -> EndpointCallError:
    async with FakeEndpoint(behaviour=behaviour) as endpoint:
        with pytest.raises(EndpointCallError) as caught:
            await client.index_endpoint(address_of(endpoint), read=as_sent)
    return caught.value


@pytest.mark.parametrize(
    ("name", "ok", "http_status", "error"),
    [
        ("ping", True, 200, None),
        ("ping with another slug", False, 200, "Endpoint ID mismatch error. Expected bookshop, got library"),
        (
            "ping with another key",
            False,
            401,
            "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment",
        ),
    ],
)
async def test_ping_reads_what_the_sdk_answered(
    client: EndpointClient, name: str, http_status: int, error: str | None, *, ok: bool
) -> None:
    async with FakeEndpoint(behaviour=recorded(name)) as endpoint:
        result = await client.ping(address_of(endpoint))
    assert (result.ok, result.http_status, result.error) == (ok, http_status, error)
    assert (result.trigger_version, result.sdk_version) == ("2023-09-29", "2.3.18")


async def test_recorded_answers_of_the_other_calls_are_read(client: EndpointClient) -> None:
    async with FakeEndpoint(behaviour=recorded("validate")) as endpoint:
        address = address_of(endpoint)
        assert (await client.validate(address)).endpoint_id == "bookshop"
        endpoint.behaviour = recorded("index")
        assert (await client.index_endpoint(address, read=as_sent)).body == json.loads(RECORDED["index"]["body"])
        endpoint.behaviour = recorded("initialize trigger")
        registration = await client.initialize_trigger(address, trigger_slug="any-depot", params={"depot": "a"})
        assert registration.rule.payload == {"depot": ["a"]}
        assert json.loads(endpoint.journal[-1].body) == {"id": "any-depot", "params": {"depot": "a"}}
        endpoint.behaviour = recorded("initialize unknown trigger")
        with pytest.raises(EndpointCallError, match=r"^EndpointApiError: Dynamic trigger not found$"):
            await client.initialize_trigger(address, trigger_slug="none", params={})
        endpoint.behaviour = recorded("unknown action")
        assert (
            await client.validate(address)
        ).error == f"Could not connect to endpoint {address.url}. Status code: 405"


@pytest.mark.parametrize("action", ["PING", "VALIDATE", "INDEX_ENDPOINT"])
async def test_question_is_sent_with_the_protocols_headers_and_no_body(client: EndpointClient, action: str) -> None:
    calls: dict[str, Callable[[EndpointAddress], Any]] = {
        "PING": client.ping,
        "VALIDATE": client.validate,
        "INDEX_ENDPOINT": lambda address: client.index_endpoint(address, read=as_sent),
    }
    async with FakeEndpoint() as endpoint:
        await calls[action](address_of(endpoint))
    (entry,) = endpoint.journal
    assert entry.key_fits
    assert entry.body == b""
    expected = {
        "accept": "application/json",
        "user-agent": "Kongflow/1.0",
        "x-trigger-action": action,
        "x-trigger-version": "2023-09-29",
        **({"x-trigger-endpoint-id": endpoint.slug} if action == "PING" else {}),
    }
    of_http = {"host", "accept-encoding", "content-length", "connection"}
    assert {name: value for name, value in entry.headers.items() if name not in of_http} == expected
    assert entry.headers["content-length"] == "0"


async def test_delivered_request_carries_its_source_in_ascii_headers(client: EndpointClient) -> None:
    delivery = HttpSourceDelivery(
        key="courier-http-nörth".encode().hex(),
        secret="whsec_1",
        params={"depot": "nörth\n"},
        http_url="http://127.0.0.1/x",
        http_method="POST",
        http_headers={"x-a": "b"},
        body=b"\x00raw\xff",
        dynamic_id="any-depot",
        metadata={"a": None},
    )
    answer = {"response": {"status": 200, "body": {"ok": True}}, "events": []}
    async with FakeEndpoint(behaviour=fake.json_body(answer)) as endpoint:
        response = await client.deliver_http_source_request(address_of(endpoint), delivery)
    assert (response.response.status, response.events) == (200, [])
    (entry,) = endpoint.journal
    assert entry.body == b"\x00raw\xff"
    sent = {name: value for name, value in entry.headers.items() if name.startswith("x-ts-")}
    assert json.loads(sent.pop("x-ts-params")) == {"depot": "nörth\n"}
    assert sent == {
        "x-ts-key": delivery.key,
        "x-ts-secret": "whsec_1",
        "x-ts-data": "{}",
        "x-ts-http-url": "http://127.0.0.1/x",
        "x-ts-http-method": "POST",
        "x-ts-http-headers": '{"x-a":"b"}',
        "x-ts-dynamic-id": "any-depot",
        "x-ts-metadata": '{"a":null}',
    }
    assert entry.headers["content-type"] == "application/octet-stream"


async def test_header_injection_is_refused_before_anything_is_sent(client: EndpointClient) -> None:
    delivery = HttpSourceDelivery(
        key="a\r\nx-evil: 1", secret="s", http_url="http://a/", http_method="GET", http_headers={}
    )
    async with FakeEndpoint() as endpoint:
        with pytest.raises(EndpointCallError) as caught:
            await client.deliver_http_source_request(address_of(endpoint), delivery)
    assert caught.value.detail == "the URL or a header cannot be sent"
    assert endpoint.journal == []


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
async def test_redirect_is_a_failure_and_is_not_followed(client: EndpointClient, number: int) -> None:
    async with FakeEndpoint() as elsewhere:
        async with FakeEndpoint(behaviour=fake.redirect(elsewhere.url, number=number)) as endpoint:
            result = await client.ping(address_of(endpoint))
        assert result.error == f"Could not connect to endpoint {endpoint.url}. Status code: {number}"
        assert (result.http_status, result.retryable) == (number, False)
        assert elsewhere.journal == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"ok": False, "message": "Endpoint ID mismatch"}, "Endpoint ID mismatch"),
        ({"ok": False, "error": "a\x00b\x1b" + "c" * 600}, "ab" + "c" * 498),
        ({"ok": False, "error": "Missing endpoint ID", "message": {"code": 7}}, "Missing endpoint ID"),
        ({"ok": False}, 'Endpoint {url} responded with error: Field required at "error"'),
        ({"ok": False, "error": 7}, 'Endpoint {url} responded with error: Input should be a valid string at "error"'),
        ({}, 'Endpoint {url} responded with error: Field required at "ok"'),
        ([], 'Endpoint {url} responded with error: Input should be an object at "top level"'),
        ({"ok": "yes"}, 'Endpoint {url} responded with error: Input should be a valid boolean at "ok"'),
    ],
)
async def test_ping_that_is_not_ok_says_why(client: EndpointClient, answer: Any, error: str) -> None:
    async with FakeEndpoint(behaviour=fake.raw_body(json.dumps(answer).encode())) as endpoint:
        result = await client.ping(address_of(endpoint))
    assert result.error is not None
    assert result.error.startswith(error.replace("{url}", endpoint.url))
    assert len(result.error) <= 500 + len(f"Endpoint {endpoint.url} responded with error: ")
    assert (result.ok, result.http_status, result.retryable) == (False, 200, False)


async def test_ping_that_is_ok_is_so_whatever_else_it_says(client: EndpointClient) -> None:
    answer = {"ok": True, "error": {"code": 0}, "message": ["fine"], "endpointId": 7}
    async with FakeEndpoint(behaviour=fake.json_body(answer)) as endpoint:
        result = await client.ping(address_of(endpoint))
    assert (result.ok, result.error, result.endpoint_id) == (True, None, None)


async def test_validate_without_a_slug_is_of_the_wrong_shape(client: EndpointClient) -> None:
    async with FakeEndpoint(behaviour=fake.json_body({"ok": True})) as endpoint:
        result = await client.validate(address_of(endpoint))
    assert (result.ok, result.failure) == (False, CallFailure.BAD_SCHEMA)
    assert result.error == f'Endpoint {endpoint.url} responded with error: Field required at "endpointId"'


async def test_key_repeated_by_the_endpoint_is_blotted_out(client: EndpointClient) -> None:
    behaviour = fake.json_body({"message": f"wrong key {fake.API_KEY}"}, status=401)
    async with FakeEndpoint(behaviour=behaviour) as endpoint:
        assert (await client.ping(address_of(endpoint))).error == "wrong key [key]"


@pytest.mark.parametrize("behaviour", [fake.status(401), fake.html(number=401), fake.json_body({}, status=401)])
async def test_unauthorized_without_a_sentence_gets_the_protocols(
    client: EndpointClient, behaviour: fake.Behaviour
) -> None:
    async with FakeEndpoint(behaviour=behaviour) as endpoint:
        assert (await client.ping(address_of(endpoint))).error == "Trigger API key is invalid"


async def test_page_instead_of_json_is_not_parsed_and_an_index_may_be_repeated(client: EndpointClient) -> None:
    failure = await index_failure(client, fake.html())
    assert (failure.message, failure.http_status, failure.retryable) == (UNPARSABLE, 200, True)
    async with FakeEndpoint(behaviour=fake.html()) as endpoint:
        result = await client.ping(address_of(endpoint))
    assert (result.error, result.retryable) == (UNPARSABLE, False)


async def test_byte_order_mark_is_ignored_as_browsers_do(client: EndpointClient) -> None:
    async with FakeEndpoint(behaviour=fake.raw_body(b'\xef\xbb\xbf{"ok": true}')) as endpoint:
        assert (await client.ping(address_of(endpoint))).ok


async def test_large_index_is_parsed(client: EndpointClient) -> None:
    index = fake.index_of(20_001)
    async with FakeEndpoint(index=index) as endpoint:
        answer = await client.index_endpoint(address_of(endpoint), read=as_sent)
    assert answer.size_bytes > 256 * 1024
    assert answer.body == index


async def test_retry_after_is_obeyed_and_capped(client: EndpointClient) -> None:
    failure = await index_failure(client, fake.status(429, headers={"Retry-After": "7"}))
    assert (failure.retryable, failure.retry_after) == (True, timedelta(seconds=7))
    failure = await index_failure(client, fake.status(503, headers={"Retry-After": "Mon, 04 May 2026 23:00:00 GMT"}))
    assert (failure.retryable, failure.retry_after) == (True, timedelta(hours=1))


@pytest.mark.parametrize(
    ("behaviour", "failure", "detail"),
    [
        (fake.hang, CallFailure.TIMED_OUT, "timed out after 0.3 s"),
        (fake.drip(pause=timedelta(milliseconds=20)), CallFailure.TIMED_OUT, "timed out after 0.3 s"),
        (fake.endless_headers, CallFailure.INVALID_HTTP, "header lines"),
        (fake.endless_header_line, CallFailure.INVALID_HTTP, "header lines"),
        (fake.not_http, CallFailure.INVALID_HTTP, "not valid HTTP"),
        (fake.hang_up, CallFailure.DISCONNECTED, "closed before the answer"),
        (fake.break_off, CallFailure.DISCONNECTED, "broke off"),
    ],
)
async def test_endpoint_that_gives_no_whole_answer_is_no_response(
    client: EndpointClient, behaviour: fake.Behaviour, failure: CallFailure, detail: str
) -> None:
    timeout = SHORT if failure is CallFailure.TIMED_OUT else LONG
    async with FakeEndpoint(behaviour=behaviour) as endpoint, asyncio.timeout(5):
        result = await client.ping(address_of(endpoint), timeout=timeout)
    assert result.error == f"Could not connect to endpoint {endpoint.url}"
    assert (result.failure, result.http_status, result.retryable) == (failure, None, True)
    assert detail in str(result.detail)


@pytest.mark.parametrize("behaviour", [fake.huge_body(), fake.gzip_bomb()])
async def test_answer_over_the_cap_is_cut_off_in_bounded_memory(
    client: EndpointClient, behaviour: fake.Behaviour
) -> None:
    async with FakeEndpoint(behaviour=behaviour) as endpoint:
        tracemalloc.start()
        try:
            with pytest.raises(EndpointCallError) as caught:
                await client.index_endpoint(address_of(endpoint), read=as_sent)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.message == f"Could not connect to endpoint {endpoint.url}"
    assert (caught.value.detail, caught.value.retryable) == ("answer larger than 8 MiB", False)
    assert peak_bytes < 24 * 1024 * 1024


async def test_long_error_body_does_not_hide_the_status(client: EndpointClient) -> None:
    failure = await index_failure(client, fake.raw_body(b"x" * 100_000, status=500))
    assert (failure.http_status, failure.failure) == (500, CallFailure.STATUS)


async def test_refused_connection_is_no_response(client: EndpointClient) -> None:
    async with FakeEndpoint() as endpoint:
        address = address_of(endpoint)
    result = await client.ping(address)
    assert (result.error, result.detail) == (f"Could not connect to endpoint {address.url}", "connection refused")
    assert (result.http_status, result.retryable) == (None, True)


async def test_address_that_is_not_allowed_is_never_called() -> None:
    guard = EgressGuard()
    async with FakeEndpoint() as endpoint, AiohttpEndpointClient(guard=guard) as closed_client:
        address = address_of(endpoint)
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = address.url.replace("127.0.0.1", host)
            result = await closed_client.ping(replace(address, url=url))
            assert result.error == f"Could not connect to endpoint {url}"
            assert (result.failure, result.retryable) == (CallFailure.ADDRESS_NOT_ALLOWED, False)
        assert endpoint.journal == []


class ChangingName:
    """A name that is public when it is checked and loopback when it is called."""

    def __init__(self) -> None:
        self.answers = [["8.8.8.8"], ["127.0.0.1"]]

    async def addresses_of(self, host: str, port: int) -> list[str]:
        assert host == "rebind.example", port
        return self.answers.pop(0)

    def close(self) -> None:
        pass


async def test_name_that_changes_after_the_check_is_never_called() -> None:
    guard = EgressGuard(lookup=ChangingName())
    async with FakeEndpoint() as endpoint, AiohttpEndpointClient(guard=guard) as closed_client:
        address = replace(address_of(endpoint), url=f"http://rebind.example:{endpoint.port}/api/trigger")
        await guard.check(address.url)
        result = await closed_client.ping(address)
    assert (result.ok, result.failure) == (False, CallFailure.ADDRESS_NOT_ALLOWED)
    assert endpoint.journal == []


def certificate(folder: Path, *, host: str, not_after: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName(
        [x509.DNSName(host), *([x509.IPAddress(IPv4Address(host))] if host[0].isdigit() else [])]
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(not_after)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "endpoint.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    ("host", "year", "is_trusted", "detail"),
    [
        ("127.0.0.1", 2099, True, None),
        ("127.0.0.1", 2099, False, "certificate verify failed: self"),
        ("127.0.0.1", 2021, True, "certificate verify failed: certificate has expired"),
        ("other.example", 2099, True, "certificate verify failed: IP address mismatch"),
    ],
)
async def test_certificate_decides_whether_the_key_is_sent(
    tmp_path: Path, host: str, year: int, detail: str | None, *, is_trusted: bool
) -> None:
    pem = certificate(tmp_path, host=host, not_after=datetime(year, 1, 1, tzinfo=UTC))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trust = ssl.create_default_context(cafile=str(pem) if is_trusted else None)
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    async with (
        FakeEndpoint(ssl_context=server) as endpoint,
        AiohttpEndpointClient(guard=guard, ssl_context=trust) as tls_client,
    ):
        result = await tls_client.ping(address_of(endpoint))
    assert result.ok is (detail is None)
    if detail is not None:
        assert (result.failure, result.retryable) == (CallFailure.TLS, True)
        assert str(result.detail).startswith(detail)
        assert endpoint.journal == []


async def test_plain_http_behind_an_https_url_is_a_tls_failure(client: EndpointClient) -> None:
    async with FakeEndpoint() as endpoint:
        address = replace(address_of(endpoint), url=endpoint.url.replace("http://", "https://"))
        result = await client.ping(address)
    assert result.failure is CallFailure.TLS
    assert str(result.detail).startswith("TLS error: ")
