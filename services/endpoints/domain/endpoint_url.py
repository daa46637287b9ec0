"""What an endpoint's URL must look like, before anything is resolved.

These rules need no network. Whether the host may be called at all is decided by the egress guard, which asks
`literal_address` here for hosts that are addresses in disguise.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

MAX_URL_CHARACTERS = 2048
MAX_HOST_CHARACTERS = 253
MAX_LABEL_CHARACTERS = 63

_IPV4_PARTS = 4
_MAX_BYTE = 0xFF
_FORBIDDEN_CHARACTER = re.compile(r"[^\x21-\x7e]|[\\\"<>^`{|}]")
_CHARACTER_RULE = (
    "only printable ASCII is taken, without spaces, backslashes and quotes; "
    "write other characters as percent escapes and a host in its xn-- form"
)
_BRACKETS_RULE = "must hold a valid IPv6 address, and nothing else, between a pair of brackets"
_ESCAPED_CONTROL = re.compile(r"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)
_HOST_NAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)
_BRACKETED_AUTHORITY = re.compile(r"(?:[^@]*@)?\[[^\[\]]+\](?::[0-9-]*)?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)

# Services that answer something other than HTTP: a request sent there is an attack on them or a mistake.
_PORTS_OF_OTHER_SERVICES = {
    21: "FTP",
    22: "SSH",
    23: "Telnet",
    25: "SMTP",
    53: "DNS",
    69: "TFTP",
    110: "POP3",
    111: "RPC bind",
    119: "NNTP",
    135: "MS RPC",
    139: "NetBIOS",
    143: "IMAP",
    389: "LDAP",
    445: "SMB",
    465: "SMTP",
    512: "rexec",
    513: "rlogin",
    514: "syslog",
    515: "printers",
    548: "AFP",
    587: "SMTP",
    636: "LDAP",
    873: "rsync",
    993: "IMAP",
    995: "POP3",
    1433: "SQL Server",
    1521: "Oracle",
    2049: "NFS",
    2181: "ZooKeeper",
    2375: "Docker",
    2376: "Docker",
    2379: "etcd",
    2380: "etcd",
    3306: "MySQL",
    3389: "RDP",
    5060: "SIP",
    5061: "SIP",
    5432: "PostgreSQL",
    5672: "AMQP",
    5900: "VNC",
    6000: "X11",
    6379: "Redis",
    6667: "IRC",
    9042: "Cassandra",
    10250: "kubelet",
    11211: "memcached",
    27017: "MongoDB",
}


def check_url(url: str) -> list[str]:
    """Return a sentence for each rule that `url` breaks; an empty list means it may be stored.

    The URL must be absolute, http or https, printable ASCII, and name a host. Hosts that are addresses are accepted in
    every spelling: the egress guard judges the address, not the spelling.

    Source: RFC 3986 section 3; RFC 1035 section 2.3.4 for the lengths of a host and its labels.
    """
    if not url:
        return ["must not be empty"]
    if len(url) > MAX_URL_CHARACTERS:
        return [f"must be at most {MAX_URL_CHARACTERS} characters"]
    violations = _character_violations(url)
    if violations:
        return violations
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        # Of ASCII, it takes brackets amiss and nothing else; of which, differs from one Python to the next.
        return [_BRACKETS_RULE]
    if parts.scheme not in {"http", "https"}:
        return ["must start with http:// or https://"]
    violations = [
        *(["must not hold a user name or password"] if "@" in parts.netloc else []),
        *(["must not have a fragment (#)"] if "#" in url else []),
        *_host_violations(host, parts.netloc),
        *_port_violations(parts),
    ]
    if _BROKEN_ESCAPE.search(parts.path + parts.query):
        violations.append("must hold % only as a percent escape such as %20")
    return violations


def host_of(url: str) -> str:
    """Return the host of a URL that passed `check_url`: lower case, without brackets, trailing dot or port."""
    return (urlsplit(url).hostname or "").rstrip(".")


def port_of(url: str) -> int:
    """Return the port of a URL that passed `check_url`, or the default port of its scheme."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `host` spells, or None when it is a name.

    IPv4 is recognised in every spelling that `inet_aton` takes: one to four numbers, each decimal, octal (`0177`) or
    hexadecimal (`0x7f`), the last one filling the bytes that remain; a trailing dot is ignored.
    `127.0.0.1`, `127.1`, `0x7f.1`, `0177.0.0.01` and `2130706433` are all the same address.
    IPv6 may stand in brackets and carry a zone (`fe80::1%eth0`).

    Source: POSIX inet_addr; RFC 6874 for `%25` before a zone.
    """
    text = host.removeprefix("[").removesuffix("]")
    if ":" in text:
        try:
            return IPv6Address(text.replace("%25", "%", 1))
        except AddressValueError:
            return None
    return _ipv4(text.rstrip("."))


def _ipv4(text: str) -> IPv4Address | None:
    parts = text.split(".")
    if len(parts) > _IPV4_PARTS or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *leading, last = (_number(part) for part in parts)
    except ValueError:
        return None
    remaining_bytes = _IPV4_PARTS - len(leading)
    if any(number > _MAX_BYTE for number in leading) or last >= 1 << (8 * remaining_bytes):
        return None
    value = last
    for position, number in enumerate(leading):
        value |= number << (8 * (_IPV4_PARTS - 1 - position))
    return IPv4Address(value)


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text.startswith("0") else int(text)


def _character_violations(url: str) -> list[str]:
    found = _FORBIDDEN_CHARACTER.search(url)
    if found:
        return [f"must not hold {found.group()!a} (character {found.start() + 1}): {_CHARACTER_RULE}"]
    if _ESCAPED_CONTROL.search(url):
        return ["must not hold control characters, not even as percent escapes"]
    return []


def _host_violations(host: str, authority: str) -> list[str]:
    if not host:
        return ["must name a host"]
    if "[" in authority:
        is_address = _BRACKETED_AUTHORITY.fullmatch(authority) and literal_address(host)
        return [] if is_address else [_BRACKETS_RULE]
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST_CHARACTERS:
        return [f"must have a host of at most {MAX_HOST_CHARACTERS} characters"]
    if any(len(label) > MAX_LABEL_CHARACTERS for label in labels):
        return [f"must have a host whose labels are at most {MAX_LABEL_CHARACTERS} characters each"]
    is_name = _HOST_NAME.fullmatch(name) and all(labels)
    if not is_name or (_NUMBER.fullmatch(labels[-1]) and literal_address(name) is None):
        return ["must have a host that is an IP address or a name of letters, digits, hyphens and single dots"]
    return []


def _port_violations(parts: SplitResult) -> list[str]:
    try:
        port = parts.port
    except ValueError:
        return ["must have a port from 1 to 65535"]
    if port is None:
        return []
    if port == 0:
        return ["must have a port from 1 to 65535"]
    service = _PORTS_OF_OTHER_SERVICES.get(port)
    return [f"must not use port {port}, which belongs to {service}"] if service else []
