"""Which addresses a customer's endpoint may have: a pure verdict on one address.

The tables say what may be called, not what must not: IPv4 is everything but the special ranges, IPv6 only global
unicast without its special ranges. `ipaddress.is_private` and `is_global` miss several of these.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

LOOPBACK_NETWORKS: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""The allow list of a development machine."""

_METADATA: Final = frozenset(
    {
        IPv4Address("169.254.169.254"),
        IPv4Address("169.254.170.2"),
        IPv4Address("169.254.170.23"),
        IPv4Address("169.254.0.23"),
        IPv4Address("169.254.42.42"),
        IPv4Address("100.100.100.200"),
        IPv4Address("192.0.0.192"),
        IPv4Address("168.63.129.16"),
        IPv6Address("fd00:ec2::254"),
        IPv6Address("fd00:ec2::23"),
        IPv6Address("fd00:c1::a9fe:a9fe"),
        IPv6Address("fd00:42::42"),
        IPv6Address("fd20:ce::254"),
    }
)

# Source: IANA IPv4 Special-Purpose Address Registry.
_REFUSED_IPV4: Final = (
    (IPv4Network("0.0.0.0/8"), "an unspecified address"),
    (IPv4Network("10.0.0.0/8"), "a private address"),
    (IPv4Network("100.64.0.0/10"), "a carrier's shared address"),
    (IPv4Network("127.0.0.0/8"), "a loopback address"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv4Network("172.16.0.0/12"), "a private address"),
    (IPv4Network("192.0.0.0/24"), "a reserved address"),
    (IPv4Network("192.0.2.0/24"), "a documentation address"),
    (IPv4Network("192.31.196.0/24"), "a reserved address"),
    (IPv4Network("192.52.193.0/24"), "a reserved address"),
    (IPv4Network("192.88.99.0/24"), "a reserved address"),
    (IPv4Network("192.168.0.0/16"), "a private address"),
    (IPv4Network("192.175.48.0/24"), "a reserved address"),
    (IPv4Network("198.18.0.0/15"), "a benchmarking address"),
    (IPv4Network("198.51.100.0/24"), "a documentation address"),
    (IPv4Network("203.0.113.0/24"), "a documentation address"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("240.0.0.0/4"), "a reserved address"),
)

# Source: IANA IPv6 Special-Purpose Address Registry; RFC 3879 for site-local, RFC 4291 for IPv4-compatible addresses.
_REFUSED_IPV6: Final = (
    (IPv6Network("::1/128"), "a loopback address"),
    (IPv6Network("::/128"), "an unspecified address"),
    (IPv6Network("::/96"), "an IPv4 address wrapped in IPv6"),
    (IPv6Network("64:ff9b:1::/48"), "a private address"),
    (IPv6Network("fc00::/7"), "a private address"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("fec0::/10"), "a site-local address"),
    (IPv6Network("ff00::/8"), "a multicast address"),
    (IPv6Network("2001::/23"), "a reserved address"),
    (IPv6Network("2001:db8::/32"), "a documentation address"),
    (IPv6Network("2002::/16"), "an IPv4 address wrapped in IPv6"),
    (IPv6Network("2620:4f:8000::/48"), "a reserved address"),
    (IPv6Network("3fff::/20"), "a documentation address"),
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP_MARKS: Final = (0x00005EFE, 0x02005EFE)


def refusal_of(address: Address, allowed_networks: Sequence[Network]) -> str | None:
    """Return what makes `address` forbidden ("a private address"), or None when it may be called.

    `allowed_networks` opens what would be refused. An IPv4 address wrapped in IPv6 is judged as the IPv4 address it
    reaches. A metadata address is opened only by a network of exactly that address, so that allowing 10.0.0.0/8 or
    169.254.0.0/16 never hands out a machine's credentials.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "an address with a zone"
        if address.ipv4_mapped is not None or address in _NAT64:
            # What it reaches counts, even where a network as wide as ::/0 is open.
            return refusal_of(_last_32_bits(address), allowed_networks)
    if address in _METADATA:
        return None if _is_in(address, _single(allowed_networks)) else "a cloud metadata address"
    if _is_in(address, allowed_networks):
        return None
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _REFUSED_IPV4 if address in network), None)
    return _ipv6_refusal(address, allowed_networks)


def _ipv6_refusal(address: IPv6Address, allowed_networks: Sequence[Network]) -> str | None:
    kind = next((kind for network, kind in _REFUSED_IPV6 if address in network), None)
    if kind is not None:
        return kind
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP_MARKS:
        return refusal_of(_last_32_bits(address), allowed_networks)
    return None if address in _GLOBAL_UNICAST else "a reserved address"


def _last_32_bits(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _single(networks: Iterable[Network]) -> list[Network]:
    return [network for network in networks if network.num_addresses == 1]


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
