"""The rules of an endpoint's URL that need no network."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.endpoint_url import check_url, host_of, literal_address, port_of


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com/api/trigger",
        "http://app.example.com:8080/api/trigger?tenant=a&b=%20c",
        "HTTPS://App.Example.com",
        "https://xn--bcher-kva.example/",
        "https://under_score.example./x",
        "http://127.0.0.1:3000/api/trigger",
        "http://2130706433/",
        "http://[::1]:3000/api/trigger",
        "http://[fe80::1%25eth0]/",
        "https://" + ".".join(["a" * 63] * 3) + "/",
        "https://example.com/" + "a" * (2048 - len("https://example.com/")),
    ],
)
def test_url_that_may_be_stored_breaks_no_rule(url: str) -> None:
    assert check_url(url) == []


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "empty"),
        ("ftp://example.com/", "http://"),
        ("file:///etc/passwd", "http://"),
        ("gopher://example.com/", "http://"),
        ("javascript:alert(1)", "http://"),
        ("//example.com/", "http://"),
        ("example.com/api/trigger", "http://"),
        ("http:///api/trigger", "name a host"),
        ("http://:80/", "name a host"),
        ("https://example.com/" + "a" * 2048, "2048"),
        ("https://" + ".".join(["a" * 49] * 5 + ["abcde"]) + "/", "253"),
        ("https://" + "a" * 64 + ".example/", "63"),
        ("https://a..example/", "single dots"),
        ("https://.example/", "single dots"),
        ("https://exa%6dple.com/", "letters"),
        ("https://256.1.1.1/", "IP address"),
        ("https://1.2.3.4.5/", "IP address"),
        ("https://0xz.1/", "IP address"),
        ("https://[::1", "brackets"),
        ("https://[::1]x/", "brackets"),
        ("https://x[::1]/", "brackets"),
        ("https://[v1.a]/", "brackets"),
        ("https://user@example.com/", "user name"),
        ("https://user:secret@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:0/", "1 to 65535"),
        ("https://example.com:65536/", "1 to 65535"),
        ("https://example.com:99999/", "1 to 65535"),
        ("https://example.com:-1/", "1 to 65535"),
        ("https://example.com:22/", "SSH"),
        ("https://example.com:25/", "SMTP"),
        ("https://example.com:5432/", "PostgreSQL"),
        ("https://example.com:6379/", "Redis"),
        ("https://example.com/%0d%0aX: y", "must not hold"),
        ("https://example.com/%00", "control characters"),
        ("https://example.com/%zz", "%20"),
    ],
)
def test_url_that_breaks_a_rule_is_told_which(url: str, complaint: str) -> None:
    violations = check_url(url)
    assert any(complaint in violation for violation in violations), violations


@pytest.mark.parametrize("character", [*'\r\n\t\0 \\"<>^`{|}\x7f\x1b', "é", "。", "\u202e", "\uff11", "\ud800"])
@pytest.mark.parametrize("pattern", ["http://exam{}ple.com/", "http://example.com/a{}b", "{}http://example.com/"])
def test_character_outside_printable_ascii_is_refused_anywhere(pattern: str, character: str) -> None:
    assert check_url(pattern.replace("{}", character)) != []


@given(st.text(max_size=80))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert isinstance(check_url(f"http://{text}"), list)


@pytest.mark.parametrize(
    "spelling",
    ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "0177.0.0.1", "017700000001", "127.0.0.1."],
)
def test_every_spelling_of_an_ipv4_address_is_that_address(spelling: str) -> None:
    assert literal_address(spelling) == ip_address("127.0.0.1")


@pytest.mark.parametrize("name", ["example.com", "1.2.3.256", "0x100000000", "08.1.1.1", "1.2.3.4.5", "", "a1", "::g"])
def test_what_spells_no_address_is_a_name(name: str) -> None:
    assert literal_address(name) is None


def test_brackets_and_zone_belong_to_an_ipv6_address() -> None:
    assert literal_address("[::1]") == ip_address("::1")
    assert literal_address("fe80::1%25eth0") == ip_address("fe80::1%eth0")


def test_host_and_port_are_what_is_connected_to() -> None:
    assert (host_of("HTTPS://App.Example.com./x"), port_of("https://app.example.com/")) == ("app.example.com", 443)
    assert (host_of("http://[::1]:3000/"), port_of("http://[::1]:3000/")) == ("::1", 3000)
    assert port_of("http://app.example.com/") == 80
