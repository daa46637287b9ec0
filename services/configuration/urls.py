"""The URLs of PostgreSQL and Redis: what is wrong with one, as far as that can be told without calling anybody."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PORT: Final = 65_535
_POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_UNREADABLE: Final = (
    "cannot be read: a port is a number, special characters of a password are percent-encoded, "
    "and an IPv6 address stands in brackets, before other hosts"
)
_IPV6_HOST: Final = re.compile(r"\[[^\[\]]+\](:[0-9]*)?")
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS: Final = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_POSTGRES_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
_REDIS_NUMBERS: Final = ("socket_timeout", "socket_connect_timeout", "timeout")
_REDIS_WHOLE_NUMBERS: Final = ("db", "max_connections", "health_check_interval")
_REDIS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_PARAMETERS: Final = (
    *_REDIS_NUMBERS,
    *_REDIS_WHOLE_NUMBERS,
    *_REDIS_FILES,
    "client_name",
    "password",
    "protocol",
    "retry_on_timeout",
    "socket_keepalive",
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ciphers",
    "username",
)


def postgresql_url(url: str) -> str:
    """Return the URL of a PostgreSQL as it is: one host or several with commas, or a folder with a socket.

    Raises:
        ValueError: it has another scheme, is none that the driver can read, or names a file that is not there; no part
            of it is in the text.

    Source: PostgreSQL, libpq, "Connection URIs".
    """
    if not url.startswith(_POSTGRES_SCHEMES):
        raise ValueError("must begin with postgresql://")
    parts, query = _split(url)
    # As the driver does it: what comes after the first @ are hosts.
    hosts = parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc
    with _unreadable():
        for host in hosts.split(",") if hosts else ():
            _check_host(host)
        for port in query["port"].split(",") if query.get("port") else ():
            _check_port(port)
    _check_choice(query, "sslmode", _TLS_MODES)
    _check_choice(query, "target_session_attrs", _SESSIONS)
    _check_files(query, _POSTGRES_FILES)
    return url


def redis_url(url: str) -> str:
    """Return the URL of a Redis as it is.

    Raises:
        ValueError: it has another scheme, is none that the driver can read, has parameters that the driver does not
            know, or names a file that is not there; no part of it is in the text.
    """
    if not url.startswith(_REDIS_SCHEMES):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    parts, query = _split(url)
    with _unreadable():
        # It is read when it is asked for.
        _ = parts.port
    if parts.scheme != "unix" and re.fullmatch(r"/?[0-9]*", unquote(parts.path)) is None:
        raise ValueError("must end with the number of a database, or with none")
    if not query.keys() <= set(_REDIS_PARAMETERS):
        raise ValueError(f"must have no parameters but {', '.join(sorted(_REDIS_PARAMETERS))}")
    for numbers, read in ((_REDIS_NUMBERS, float), (_REDIS_WHOLE_NUMBERS, int)):
        for name in query.keys() & set(numbers):
            try:
                read(query[name])
            except ValueError:
                raise ValueError(f"must have a number as its {name}") from None
    _check_files(query, _REDIS_FILES)
    return url


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    with _unreadable():
        parts = urlsplit(url)
        if parts.fragment:
            raise ValueError("a # that is not percent-encoded")
        return parts, dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}


def _check_host(text: str) -> None:
    if text.startswith("["):
        if _IPV6_HOST.fullmatch(text) is None:
            raise ValueError("no IPv6 address")
        port = text.rpartition("]")[2].removeprefix(":")
    else:
        host, _, port = text.partition(":")
        if not host or "@" in host:
            raise ValueError("no host")
    if port:
        _check_port(unquote(port))


def _check_port(text: str) -> None:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_PORT):
        raise ValueError("no port")


def _check_choice(query: dict[str, str], name: str, choices: tuple[str, ...]) -> None:
    if query.get(name, choices[0]) not in choices:
        raise ValueError(f"must have one of these as its {name}: {', '.join(choices)}")


def _check_files(query: dict[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        if name in query and not Path(query[name]).is_file():
            raise ValueError(f"must name a file that is there as its {name}")


@contextmanager
def _unreadable() -> Iterator[None]:
    """Say what to do in place of what is wrong, which may quote a part of the password."""
    try:
        yield
    except ValueError:
        raise ValueError(_UNREADABLE) from None
