"""Where the endpoint client really connects: to the address that was judged, by no proxy, and never past the guard."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import MAX_ADDRESSES, EgressGuard
from services.endpoints.domain.endpoint_calls import CallFailure, EndpointAddress, EndpointCallError
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, as_sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "app.example.com"


class ChangingName:
    """A name server whose answer for the one name changes with every question."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def addresses_of(self, host: str, port: int) -> list[str]:
        assert host == HOST, port
        return self.answers.pop(0)

    def close(self) -> None:
        pass


class FailingName:
    """A name server that answers with an error."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    async def addresses_of(self, host: str, port: int) -> list[str]:
        assert (host, port) == (HOST, 80)
        raise self.error

    def close(self) -> None:
        pass


class SilentName:
    """A name server that never answers."""

    async def addresses_of(self, host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError(host, port)

    def close(self) -> None:
        pass


class Listener:
    """Counts the connections that a loopback port accepts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = 0


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.accepted += 1
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    listener = Listener(server.sockets[0].getsockname()[1])
    async with server:
        yield listener


@pytest.mark.parametrize(
    "at_connect",
    [
        ["127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["0.0.0.0"],  # noqa: S104 - an answer, nothing listens
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "2001:4860:4860::8888"],
    ],
    ids=",".join,
)
async def test_name_that_is_public_at_the_check_and_private_at_the_call_is_never_connected_to(
    at_connect: list[str],
) -> None:
    guard = EgressGuard(lookup=ChangingName(["8.8.8.8"], at_connect, at_connect))
    async with listening() as listener, AiohttpEndpointClient(guard=guard) as client:
        address = EndpointAddress(f"http://{HOST}:{listener.port}/api/trigger", "tr_dev_Secret", "app")
        await guard.check(address.url)
        result = await client.ping(address)
        with pytest.raises(EndpointCallError) as caught:
            await client.index_endpoint(address, read=as_sent)
        assert listener.accepted == 0
    assert (result.failure, result.retryable) == (CallFailure.ADDRESS_NOT_ALLOWED, False)
    assert (caught.value.failure, caught.value.retryable) == (CallFailure.ADDRESS_NOT_ALLOWED, False)
    told = f"{result.error} {result.detail} {caught.value.message} {caught.value.detail}"
    assert [text for text in at_connect if text in told] == []


async def test_listener_of_these_tests_counts_what_gets_through() -> None:
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS, lookup=ChangingName(["127.0.0.1"]))
    async with listening() as listener, AiohttpEndpointClient(guard=guard) as client:
        await client.ping(EndpointAddress(f"http://{HOST}:{listener.port}/", "tr_dev_Secret", "app"))
        assert listener.accepted == 1


async def test_one_call_asks_for_the_name_once_and_connects_to_what_it_was_told_under_the_names_own_host() -> None:
    names = ChangingName(["127.0.0.1"])
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS, lookup=names)
    async with FakeEndpoint() as endpoint, AiohttpEndpointClient(guard=guard) as client:
        url = f"http://{HOST}:{endpoint.port}/api/trigger"
        result = await client.ping(EndpointAddress(url, endpoint.api_key, endpoint.slug))
        assert result.ok
        assert endpoint.journal[0].headers["host"] == f"{HOST}:{endpoint.port}"
    assert names.answers == []


async def test_each_call_is_judged_anew_because_no_connection_and_no_answer_is_kept() -> None:
    guard = EgressGuard(allowed_networks=[ip_network("127.0.0.1/32")], lookup=ChangingName(["127.0.0.1"], ["10.0.0.1"]))
    async with FakeEndpoint() as endpoint, AiohttpEndpointClient(guard=guard) as client:
        url = f"http://{HOST}:{endpoint.port}/api/trigger"
        address = EndpointAddress(url, endpoint.api_key, endpoint.slug)
        assert (await client.ping(address)).ok
        assert (await client.ping(address)).failure is CallFailure.ADDRESS_NOT_ALLOWED
        assert len(endpoint.journal) == 1


@pytest.mark.parametrize(
    "answer",
    [
        [*(f"8.8.{n // 250}.{n % 250}" for n in range(999)), "10.0.0.1"],
        ["127.0.0.1", "fe80::1"],
        ["fd00::1", "127.0.0.1"],
        ["127.0.0.1", "::ffff:10.0.0.1"],
        ["127.0.0.1", "169.254.169.254"],
    ],
    ids=["the last of 1,000", "AAAA link-local", "AAAA private", "A wrapped in AAAA", "metadata"],
)
async def test_one_forbidden_address_among_good_ones_and_nothing_is_connected_to(answer: list[str]) -> None:
    guard = EgressGuard(allowed_networks=[ip_network("127.0.0.1/32")], lookup=ChangingName(answer))
    async with listening() as listener, AiohttpEndpointClient(guard=guard) as client:
        result = await client.ping(EndpointAddress(f"http://{HOST}:{listener.port}/", "tr_dev_Secret", "app"))
        assert (result.failure, result.retryable, listener.accepted) == (CallFailure.ADDRESS_NOT_ALLOWED, False, 0)
    assert [text for text in answer if text in f"{result.error} {result.detail}"] == []


async def test_of_a_thousand_good_addresses_a_few_are_tried_in_their_order() -> None:
    dead = [f"127.0.{n // 250}.{2 + n % 250}" for n in range(999)]
    async with FakeEndpoint() as endpoint:
        for place, is_reached in [(0, True), (MAX_ADDRESSES - 1, True), (MAX_ADDRESSES, False)]:
            answer = [*dead[:place], "127.0.0.1", *dead[place:]]
            guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS, lookup=ChangingName(answer))
            async with AiohttpEndpointClient(guard=guard) as client:
                url = f"http://{HOST}:{endpoint.port}/api/trigger"
                result = await client.ping(EndpointAddress(url, endpoint.api_key, endpoint.slug))
            expected = (True, None) if is_reached else (False, CallFailure.NOT_CONNECTED)
            assert (result.ok, result.failure) == expected, place


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"),
    ],
    ids=["NXDOMAIN", "SERVFAIL", "no data"],
)
async def test_name_that_does_not_resolve_fails_at_once_and_may_pass_later(error: OSError) -> None:
    async with AiohttpEndpointClient(guard=EgressGuard(lookup=FailingName(error))) as client:
        result = await client.ping(EndpointAddress(f"http://{HOST}/", "tr_dev_Secret", "app"))
    assert (result.failure, result.retryable) == (CallFailure.NAME_NOT_RESOLVED, True)
    assert (result.error, result.detail) == (
        f"Could not connect to endpoint http://{HOST}/",
        "the host name does not resolve",
    )


@pytest.mark.parametrize(
    ("lookup_milliseconds", "call_milliseconds", "failure"),
    [(50, 60_000, CallFailure.NAME_NOT_RESOLVED), (60_000, 50, CallFailure.TIMED_OUT)],
)
async def test_name_server_that_says_nothing_ends_the_call_in_its_time(
    lookup_milliseconds: int, call_milliseconds: int, failure: CallFailure
) -> None:
    guard = EgressGuard(lookup=SilentName(), lookup_timeout=timedelta(milliseconds=lookup_milliseconds))
    async with AiohttpEndpointClient(guard=guard) as client:
        address = EndpointAddress(f"http://{HOST}/", "tr_dev_Secret", "app")
        result = await client.ping(address, timeout=timedelta(milliseconds=call_milliseconds))
    assert (result.failure, result.retryable) == (failure, True)
    assert result.duration < timedelta(seconds=10)


async def test_a_hundred_names_that_nobody_answers_for_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[object]:
        if host.startswith("silent"):
            asked.append(host)
            silence.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    guard = EgressGuard()
    try:
        silent = [asyncio.ensure_future(guard.resolve(f"silent-{n}.example.com", 443)) for n in range(100)]
        await eventually(lambda: len(asked) == len(silent))
        assert await guard.resolve("answered.example.com", 443) == [ip_address("8.8.8.8")]
    finally:
        silence.set()
        await asyncio.gather(*silent, return_exceptions=True)
        guard.close()


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    async with listening() as proxy, FakeEndpoint() as endpoint:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with AiohttpEndpointClient(guard=guard) as client:
            address = EndpointAddress(endpoint.url, endpoint.api_key, endpoint.slug)
            assert (await client.ping(address)).ok
            other = replace(address, url=endpoint.url.replace("127.0.0.1", "127.0.0.2"))
            assert not (await client.ping(other)).ok
        assert proxy.accepted == 0
