"""Which addresses may be called, however they are written."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from services.endpoints.delivery.addresses import LOOPBACK_NETWORKS, refusal_of
from services.endpoints.delivery.guard import (
    MAX_ADDRESSES,
    EgressGuard,
    GuardedResolver,
    RefusedSocketError,
    SystemNameLookup,
)
from services.endpoints.domain.errors import AddressNotAllowedError, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("100.64.0.1", "100.127.255.255", "100.100.100.200", "169.254.169.254", "169.254.1.1", "192.0.0.192"),
    *("168.63.129.16", "198.18.0.1", "198.19.255.255", "192.0.2.1", "203.0.113.9", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255"),
    *("::1", "::", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::1", "2002:a9fe:a9fe::", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fec0::1"),
    *("fe80::1", "fe80::1%eth0", "2606:4700::1111%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("3fff::1", "100::1", "5f00::1", "4000::1", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.1"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2a00:1450::1"),
]


class Names:
    """A name server in memory: each lookup of a name gives its next answer, and the last one for ever after."""

    def __init__(self, **answers: list[Sequence[str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(f"{host}:{port}")
        answers = self.answers.get(host.partition(".")[0])
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def close(self) -> None:
        pass


class SilentNames:
    """A name server that never answers."""

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError(host, port)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("text", REFUSED)
def test_special_address_is_refused(text: str) -> None:
    assert refusal_of(ip_address(text), ()) is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_public_address_is_called(text: str) -> None:
    assert refusal_of(ip_address(text), ()) is None


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0", "0x0"),
        *("localhost", "LOCALHOST", "localhost.", "app.localhost", "metadata.google.internal", "METADATA"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]"),
        *("[fec0::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "169.254.169.254", "2852039166", "10.0.0.1"),
    ],
)
async def test_forbidden_host_is_refused_in_every_spelling(host: str) -> None:
    names = Names()
    with pytest.raises(AddressNotAllowedError) as caught:
        await EgressGuard(lookup=names).check(f"http://{host}:8080/api/trigger")
    assert caught.value.reason is Reason.ADDRESS_NOT_ALLOWED
    assert [violation.field for violation in caught.value.violations] == ["url"]
    assert names.asked == []


async def test_name_with_one_forbidden_address_among_good_ones_is_refused() -> None:
    guard = EgressGuard(lookup=Names(app=[["8.8.8.8", "fd12::1"]]))
    with pytest.raises(AddressNotAllowedError, match="a private address") as caught:
        await guard.check("https://app.example/")
    assert "fd12" not in str(caught.value)


async def test_name_with_public_addresses_passes() -> None:
    names = Names(app=[["8.8.8.8", "2001:4860:4860::8888"]])
    await EgressGuard(lookup=names).check("https://App.example./api")
    assert names.asked == ["app.example:443"]


async def test_name_that_does_not_resolve_is_left_to_the_ping() -> None:
    await EgressGuard(lookup=Names()).check("https://nobody.example/")
    await EgressGuard(lookup=SilentNames(), lookup_timeout=timedelta(milliseconds=10)).check("https://slow.example/")


async def test_every_address_is_checked_though_few_are_tried() -> None:
    many = [f"8.8.{number // 256}.{number % 256}" for number in range(1000)]
    assert len(await EgressGuard(lookup=Names(app=[many])).resolve("app.example", 443)) == MAX_ADDRESSES
    with pytest.raises(AddressNotAllowedError):
        await EgressGuard(lookup=Names(app=[[*many, "10.0.0.1"]])).resolve("app.example", 443)


async def test_resolver_hands_out_only_what_was_checked() -> None:
    resolver = GuardedResolver(EgressGuard(lookup=Names(app=[["8.8.8.8"], ["127.0.0.1"]])))
    found = await resolver.resolve("app.example", 443)
    assert [(entry["host"], entry["family"]) for entry in found] == [("8.8.8.8", socket.AF_INET)]
    with pytest.raises(AddressNotAllowedError):
        await resolver.resolve("app.example", 443)


async def test_name_without_an_address_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        await EgressGuard(lookup=Names(app=[[]])).resolve("app.example", 443)


def test_last_gate_opens_no_socket_to_a_forbidden_address() -> None:
    with pytest.raises(RefusedSocketError, match="a link-local address"):
        EgressGuard().open_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.7.7", 80)))


async def test_allow_list_opens_its_networks_and_nothing_else() -> None:
    guard = EgressGuard(allowed_networks=[*LOOPBACK_NETWORKS, ip_network("10.20.0.0/16")])
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.20.1.1"):
        await guard.check(f"http://{host}:3000/")
    for host in ("10.21.0.1", "192.168.0.1", "169.254.169.254", "[::]", "metadata.google.internal"):
        with pytest.raises(AddressNotAllowedError):
            await guard.check(f"http://{host}:3000/")


async def test_localhost_is_the_loopback_address_that_is_open() -> None:
    guard = EgressGuard(allowed_networks=[ip_network("127.0.0.0/8")])
    assert await guard.resolve("localhost", 3000) == [ip_address("127.0.0.1")]


def test_metadata_address_is_opened_by_its_own_network_only() -> None:
    metadata = ip_address("169.254.169.254")
    assert refusal_of(metadata, [ip_network("169.254.0.0/16"), ip_network("0.0.0.0/0")]) is not None
    assert refusal_of(metadata, [ip_network("169.254.169.254/32")]) is None


@pytest.mark.parametrize("text", ["64:ff9b::a9fe:a9fe", "::ffff:a9fe:a9fe", "64:ff9b::a00:1"])
def test_address_wrapped_in_ipv6_is_not_opened_by_a_network_of_ipv6(text: str) -> None:
    assert refusal_of(ip_address(text), [ip_network("::/0")]) is not None
    assert refusal_of(ip_address(text), [ip_network("169.254.169.254/32"), ip_network("10.0.0.0/8")]) is None


def test_opened_networks_are_logged_once_and_silence_means_none() -> None:
    with capture_logs() as logs:
        EgressGuard(allowed_networks=LOOPBACK_NETWORKS)
    assert [(entry["event"], entry["networks"]) for entry in logs] == [
        ("egress_networks_opened", ["127.0.0.0/8", "::1/128"])
    ]
    with capture_logs() as logs:
        EgressGuard()
    assert logs == []


async def test_system_lookup_gives_each_address_once() -> None:
    lookup = SystemNameLookup()
    assert list(await lookup.addresses_of("127.0.0.1", 80)) == ["127.0.0.1"]
    lookup.close()


async def test_name_that_no_name_server_could_hold_does_not_resolve() -> None:
    guard = EgressGuard()
    with pytest.raises(socket.gaierror):
        await guard.resolve("a" * 64 + ".example", 443)
    guard.close()
