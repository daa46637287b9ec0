"""What the egress guard says to every spelling of an address and to every answer of a name server.

One table: a host as a customer may write it, or what a name server says of a name, and the verdict. A MALFORMED host is
refused before anything is looked up, a REFUSED one is or leads to a forbidden address, an UNKNOWN one has no address
and is left to the ping, and only a CALLED one is ever connected to.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from services.endpoints.delivery.guard import MAX_ADDRESSES, EgressGuard, GuardedResolver, RefusedSocketError
from services.endpoints.domain.endpoint_url import check_url, host_of, port_of
from services.endpoints.domain.errors import AddressNotAllowedError, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(Enum):
    """What becomes of a URL."""

    MALFORMED = "MALFORMED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    CALLED = "CALLED"


class Silence:
    """The answer of a name server that gives none."""


@dataclass(frozen=True)
class NameServer:
    """Says the same of every name."""

    answer: Sequence[str] | Exception | Silence

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        match self.answer:
            case Silence():
                await asyncio.Event().wait()
                raise AssertionError(host, port)
            case Exception() as failure:
                raise failure
            case addresses:
                return addresses

    def close(self) -> None:
        pass


HOSTS_BY_VERDICT: dict[Verdict, tuple[str, ...]] = {
    Verdict.REFUSED: (
        # IPv4 as it is usually written, at both ends of each special range
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),  # noqa: S104
        *("127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.255.255", "172.16.0.0", "172.31.255.255"),
        *("192.0.0.0", "192.0.0.255", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.0"),
        *("192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255"),
        # metadata services
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42"),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]", "[fd00:c1::a9fe:a9fe]", "[fd00:42::42]"),
        *("metadata", "metadata.google.internal", "METADATA.Google.Internal", "metadata.google.internal."),
        *("metadata.goog", "metadata.azure.internal", "instance-data", "instance-data.ec2.internal"),
        *("metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com"),
        # decimal, octal and hexadecimal, with one to four parts
        *("2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7F000001.", "2852039166", "0xa9fea9fe"),
        *("025177524776", "0", "00", "0x", "0x0", "4294967295", "0xffffffff", "3232235521", "167772161"),
        *(
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "0x7f.1",
            "0x7f.0.1",
            "0177.1",
            "0177.0.0.1",
            "0177.0.0.01",
            "0x7f.0.0.0x1",
        ),
        *("127.0x0.00.1", "00000000177.0.0.1", "0x0000007f.0.0.1", "127.65535", "127.0xffff", "127.16777215"),
        *("10.1", "10.0x1", "012.1", "0xa.1", "172.16.1", "172.1048577", "0xac.0x10.1", "0254.020.0.1", "192.168.257"),
        *("192.11010049", "0xc0.0xa8.1", "0300.0250.1", "169.254.43518", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376"),
        *("169.16689662", "169.0376.0xa9fe", "100.64.1", "0x64.0x64.0x64.0xc8", "0144.0144.0144.0310"),
        # names that mean loopback without a name server
        *("localhost", "LOCALHOST", "LocalHost", "localhost.", "app.localhost", "a.b.localhost", "app.LOCALHOST."),
        # IPv6: special ranges, long and short
        *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[0::1]", "[::0:1]"),
        *("[fc00::]", "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", "[FD12::1]", "[fe80::1]", "[febf::1]", "[FE80::A]"),
        *("[fec0::1]", "[feff::1]", "[ff00::]", "[ff02::1]", "[ff0e::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]"),
        *("[5f00::1]", "[4000::1]", "[1fff::1]", "[2001::]", "[2001:2::1]", "[2001:20::1]", "[2001:1ff::1]"),
        *("[2620:4f:8000::1]",),
        # IPv6 with a zone
        *("[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%251]", "[2606:4700::1111%25eth0]", "[ff02::1%25lo]"),
        # IPv4 in IPv6: mapped, compatible, translated, NAT64, local NAT64, 6to4, Teredo, ISATAP
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]", "[0:0:0:0:0:ffff:169.254.169.254]"),
        *("[::ffff:a9fe:a9fe]", "[::ffff:168.63.129.16]", "[::ffff:0.0.0.0]", "[::127.0.0.1]", "[::7f00:1]"),
        *("[::8.8.8.8]", "[::ffff:0:127.0.0.1]", "[::ffff:0:8.8.8.8]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]"),
        *("[64:ff9b::a9fe:a9fe]", "[64:ff9b::10.0.0.1]", "[64:ff9b::168.63.129.16]", "[64:ff9b:1::8.8.8.8]"),
        *("[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[2002:808:808::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]"),
        *("[2001:0:808:808::1]", "[2606:4700::5efe:10.0.0.1]", "[2606:4700::200:5efe:127.0.0.1]"),
    ),
    Verdict.MALFORMED: (
        # digits, dots and letters of other scripts, plain and percent-encoded
        *("１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "ⓛocalhost", "ｌocalhost"),  # noqa: RUF001
        *("١٢٧.0.0.1", "१२७.0.0.1", "[::１]", "0ｘ7f.1", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "%6cocalhost"),  # noqa: RUF001
        *("127.0.0.1%00.example", "127.0.0.1%0d%0a", "%EF%BC%91", "localhost%23", "app%2eexample.com"),
        # characters that end a host for one parser and not for another
        *("127.0.0.1\\@app.example", "app.example\\.127.0.0.1", "app.example@127.0.0.1", "user:word@app.example"),
        *("app.example#@127.0.0.1", "127.0.0.1 .example", "127.0.0.1\t", "app.example\r\nHost: a", "a\x00.example"),
        *("app.example;127.0.0.1", "app.example,127.0.0.1", "127.0.0.1&app.example", "app!example", "(127.0.0.1)"),
        # what looks like a number and is none
        *("256.0.0.1", "1.2.3.256", "4294967296", "0x100000000", "127.0.0.08", "127.0.0.09", "1.2.3.4.5", "0x7g.1"),
        *(
            "127.16777216",
            "127.0.65536",
            "0o177.0.0.1",
            "0b1111111.0.0.1",
            "1e3.0.0.1",
            "app.example.1",
            "00000000000x1.1",
        ),
        # too many dots, too much of anything
        *("127.0.0.1..", "localhost..", "127..1", ".127.0.0.1", "..", ".", "", "a" * 64, ".".join(["a" * 50] * 6)),
        # brackets
        *("[]", "[::1", "::1]", "[[::1]]", "[::1]x", "x[::1]", "[127.0.0.1]", "[localhost]", "[v1.fe80::a]", "[:::1]"),
        *("[::ffff:0177.0.0.1]", "[::ffff:127.1]", "[::ffff:0x7f000001]", "[1::2::3]", "[12345::]", "[::1%25]", "::1"),
    ),
    Verdict.CALLED: (
        *("8.8.8.8", "1.1.1.1", "134744072", "0x08080808", "010.8.8.8", "8.8.2056", "8.8.8.8.", "0x8.010.8.8"),
        *("9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
        *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17", "[2606:4700:4700::1111]"),
        *("[2001:4860:4860::8888]", "[2A00:1450::1]", "[2001:200::1]", "[::ffff:8.8.8.8]", "[64:ff9b::8.8.8.8]"),
    ),
}

ANSWERS: list[tuple[str, Sequence[str] | Exception | Silence, Verdict]] = [
    ("public", ["8.8.8.8"], Verdict.CALLED),
    ("public of both families", ["8.8.8.8", "2001:4860:4860::8888"], Verdict.CALLED),
    ("the same twice", ["8.8.8.8", "8.8.8.8"], Verdict.CALLED),
    ("a thousand public", [f"8.8.{number // 256}.{number % 256}" for number in range(1000)], Verdict.CALLED),
    (
        "a private one behind a thousand public",
        [*(f"8.8.{number // 256}.{number % 256}" for number in range(1000)), "10.0.0.1"],
        Verdict.REFUSED,
    ),
    ("a thousand private", [f"10.0.{number // 256}.{number % 256}" for number in range(1000)], Verdict.REFUSED),
    ("public A, private AAAA", ["8.8.8.8", "fd12:3456::1"], Verdict.REFUSED),
    ("private A, public AAAA", ["192.168.7.7", "2001:4860:4860::8888"], Verdict.REFUSED),
    ("public and loopback", ["8.8.8.8", "127.0.0.1"], Verdict.REFUSED),
    ("loopback", ["127.0.0.1"], Verdict.REFUSED),
    ("loopback of the other family", ["::1"], Verdict.REFUSED),
    ("unspecified", ["0.0.0.0"], Verdict.REFUSED),  # noqa: S104 - an answer, nothing listens
    ("unspecified of the other family", ["::"], Verdict.REFUSED),
    ("metadata", ["169.254.169.254"], Verdict.REFUSED),
    ("metadata, mapped", ["::ffff:169.254.169.254"], Verdict.REFUSED),
    ("metadata, NAT64", ["64:ff9b::a9fe:a9fe"], Verdict.REFUSED),
    ("metadata, 6to4", ["2002:a9fe:a9fe::1"], Verdict.REFUSED),
    ("metadata of one cloud in public space", ["168.63.129.16"], Verdict.REFUSED),
    ("Teredo", ["2001:0:4136:e378:8000:63bf:3fff:fdd2"], Verdict.REFUSED),
    ("a carrier's", ["100.64.0.1"], Verdict.REFUSED),
    ("link-local with a zone", ["fe80::1%eth0"], Verdict.REFUSED),
    ("public with a zone", ["2606:4700::1111%2"], Verdict.REFUSED),
    ("multicast", ["224.0.0.251"], Verdict.REFUSED),
    ("public behind a translator", ["64:ff9b::8.8.8.8"], Verdict.CALLED),
    ("empty", [], Verdict.UNKNOWN),
    ("not an address", ["not an address"], Verdict.UNKNOWN),
    ("no address beside a public one", ["8.8.8.8", "8.8.8"], Verdict.UNKNOWN),
    ("NXDOMAIN", socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Verdict.UNKNOWN),
    ("SERVFAIL", socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Verdict.UNKNOWN),
    ("a name that cannot be asked for", UnicodeError("label too long"), Verdict.UNKNOWN),
    ("a broken resolver", OSError("resolv.conf"), Verdict.UNKNOWN),
    ("silence", Silence(), Verdict.UNKNOWN),
]

HOSTS = [(host, verdict) for verdict, hosts in HOSTS_BY_VERDICT.items() for host in hosts]
PORTS = [
    *(("0", Verdict.MALFORMED), ("00", Verdict.MALFORMED), ("65536", Verdict.MALFORMED), ("99999", Verdict.MALFORMED)),
    *(("-1", Verdict.MALFORMED), ("+80", Verdict.MALFORMED), ("8o", Verdict.MALFORMED), ("0x50", Verdict.MALFORMED)),
    *((" 80", Verdict.MALFORMED), ("８０", Verdict.MALFORMED), ("22", Verdict.MALFORMED), ("0022", Verdict.MALFORMED)),  # noqa: RUF001
    *(("25", Verdict.MALFORMED), ("53", Verdict.MALFORMED), ("2375", Verdict.MALFORMED), ("2379", Verdict.MALFORMED)),
    *(("3306", Verdict.MALFORMED), ("5432", Verdict.MALFORMED), ("6379", Verdict.MALFORMED)),
    *(("10250", Verdict.MALFORMED), ("11211", Verdict.MALFORMED), ("27017", Verdict.MALFORMED)),
    *(("", Verdict.CALLED), ("80", Verdict.CALLED), ("443", Verdict.CALLED), ("3000", Verdict.CALLED)),
    *(("8080", Verdict.CALLED), ("65535", Verdict.CALLED)),
]


async def verdict_of(url: str, answer: Sequence[str] | Exception | Silence) -> Verdict:
    """Judge a URL as creating an endpoint does: its form, then its host; then as each call does."""
    if check_url(url):
        return Verdict.MALFORMED
    guard = EgressGuard(lookup=NameServer(answer), lookup_timeout=timedelta(milliseconds=20))
    try:
        await guard.check(url)
    except AddressNotAllowedError:
        with pytest.raises(AddressNotAllowedError):
            await GuardedResolver(guard).resolve(host_of(url), port_of(url))
        return Verdict.REFUSED
    try:
        found = await GuardedResolver(guard).resolve(host_of(url), port_of(url))
    except OSError:
        return Verdict.UNKNOWN
    assert 0 < len(found) <= MAX_ADDRESSES
    return Verdict.CALLED


def test_table_is_as_long_as_promised_and_repeats_nothing() -> None:
    assert len(HOSTS) + len(ANSWERS) + len(PORTS) >= 150
    assert len(set(HOSTS)) == len(HOSTS)


@pytest.mark.parametrize(("host", "verdict"), HOSTS, ids=[f"{verdict.value}-{host!a}" for host, verdict in HOSTS])
async def test_host_is_judged_however_it_is_spelled(host: str, verdict: Verdict) -> None:
    unlucky_answer = AssertionError("an address was looked up as if it were a name")
    assert await verdict_of(f"http://{host}/api/trigger", unlucky_answer) is verdict


@pytest.mark.parametrize(("answer", "verdict"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
async def test_name_is_judged_by_all_that_its_name_server_says(
    answer: Sequence[str] | Exception | Silence, verdict: Verdict
) -> None:
    assert await verdict_of("https://app.example.com/api/trigger", answer) is verdict


@pytest.mark.parametrize(("port", "verdict"), PORTS)
async def test_port_of_another_service_is_malformed(port: str, verdict: Verdict) -> None:
    assert await verdict_of(f"http://8.8.8.8:{port}/", []) is verdict


@pytest.mark.parametrize("answer", [case[1] for case in ANSWERS if case[2] is Verdict.REFUSED])
async def test_refusal_never_tells_what_a_name_resolved_to(answer: Sequence[str]) -> None:
    with pytest.raises(AddressNotAllowedError) as caught:
        await EgressGuard(lookup=NameServer(answer)).check("https://app.example.com/")
    error = caught.value
    assert error.reason is Reason.ADDRESS_NOT_ALLOWED
    told = " ".join(
        [
            str(error),
            error.message,
            *error.metadata.values(),
            *(violation.description for violation in error.violations),
        ]
    )
    assert "app.example.com" in told
    assert [address for address in answer if address in told and address != "::"] == []


@pytest.mark.parametrize("host", [host for host in HOSTS_BY_VERDICT[Verdict.REFUSED] if host.startswith("[")])
async def test_socket_is_never_made_for_a_forbidden_address(host: str) -> None:
    address = str(ip_address(host.strip("[]").replace("%25", "%")))
    with pytest.raises(RefusedSocketError) as caught:
        EgressGuard().open_socket((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80, 0, 0)))
    assert address not in str(caught.value) or address == "::"
