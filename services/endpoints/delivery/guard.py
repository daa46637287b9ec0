"""The egress guard: decides which addresses an endpoint may have, and pins the connection to what it decided."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from services.endpoints.delivery.addresses import refusal_of
from services.endpoints.domain.endpoint_url import host_of, literal_address, port_of
from services.endpoints.domain.errors import AddressNotAllowedError, ServerOverloadedError, is_out_of_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.connector import AddrInfoType

    from services.endpoints.delivery.addresses import Address, Network

MAX_ADDRESSES: Final = 16
"""How many of a name's addresses a call may try; every one of them is checked."""

# More than the calls that run at once by default, so that names that nobody answers for hold up only who asks for them.
_LOOKUP_THREADS: Final = 128
_LOCALHOST_ADDRESSES: Final = (ip_address("127.0.0.1"), ip_address("::1"))
_METADATA_NAMES: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)


class NameLookup(Protocol):
    """Turns a host name into addresses."""

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        """Return every address of `host`, in the order they should be tried.

        Raises:
            OSError: the name does not exist or nobody answers.
        """
        ...

    def close(self) -> None:
        """Let go of threads and sockets; a lookup that still runs is abandoned."""
        ...


class SystemNameLookup:
    """Asks the operating system, in threads of its own: a slow name server holds up nothing but lookups."""

    def __init__(self) -> None:
        """Start no thread until the first lookup."""
        self._executor = ThreadPoolExecutor(max_workers=_LOOKUP_THREADS, thread_name_prefix="lookup")

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        """Return what `getaddrinfo` says for stream sockets, doubles removed."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Abandon lookups that still run."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class RefusedSocketError(OSError):
    """A connection was about to go to an address that nobody allowed."""


class EgressGuard:
    """Checks hosts before and while they are called.

    A name is refused when *any* of its addresses is: an attacker must not win by adding a good one. The guard is asked
    once per connection and the connection goes to the addresses it returned, so a name that changes between check and
    connect (DNS rebinding) gains nothing.
    """

    def __init__(
        self,
        *,
        allowed_networks: Sequence[Network] = (),
        lookup: NameLookup | None = None,
        lookup_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        """Open `allowed_networks` besides the public internet, and say so in the log."""
        self._allowed_networks = tuple(allowed_networks)
        self._lookup = lookup or SystemNameLookup()
        self._lookup_timeout = lookup_timeout
        if self._allowed_networks:
            structlog.get_logger(__name__).warning(
                "egress_networks_opened", networks=[str(network) for network in self._allowed_networks]
            )

    async def check(self, url: str) -> None:
        """Refuse a URL, which passed `check_url`, whose host must not be called.

        A name that does not resolve passes: the ping that follows reports it in the protocol's own words.

        Raises:
            AddressNotAllowedError: the host is, or resolves to, a forbidden address.
        """
        try:
            await self.resolve(host_of(url), port_of(url))
        except OSError:
            return

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses a call to `host` may connect to, at most `MAX_ADDRESSES`, all of them checked.

        Raises:
            AddressNotAllowedError: the host is, or resolves to, a forbidden address.
            OSError: the name does not resolve; `TimeoutError` when that took longer than the lookup timeout.
        """
        name = host.rstrip(".").lower()
        literal = literal_address(name)
        if literal is not None:
            self._admit(host, [literal])
            return [literal]
        if name in _METADATA_NAMES:
            raise AddressNotAllowedError(host, "a cloud metadata address")
        if name == "localhost" or name.endswith(".localhost"):
            return self._localhost(host)
        async with asyncio.timeout(self._lookup_timeout.total_seconds()):
            try:
                addresses = [ip_address(text) for text in await self._lookup.addresses_of(name, port)]
            except ValueError as failure:
                # A name that no question can hold, or an answer that is no address.
                raise socket.gaierror(socket.EAI_NONAME, "the name cannot be looked up") from failure
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        self._admit(host, addresses)
        return addresses[:MAX_ADDRESSES]

    def check_literal(self, url: str) -> None:
        """Refuse a URL whose host is a forbidden address in any spelling; names pass, the resolver judges them.

        Raises:
            AddressNotAllowedError: the host is a forbidden address.
        """
        host = host_of(url)
        literal = literal_address(host)
        if literal is not None:
            self._admit(host, [literal])

    def open_socket(self, address_info: AddrInfoType) -> socket.socket:
        """Make the socket for one connection: the last gate, for whatever way an address may have come.

        Raises:
            RefusedSocketError: the address is forbidden.
            ServerOverloadedError: this process may open no more; that is no failure of the endpoint's.
        """
        family, kind, protocol, _, address = address_info
        refusal = refusal_of(ip_address(address[0]), self._allowed_networks)
        if refusal is not None:
            raise RefusedSocketError(f"the address is {refusal}")
        try:
            return socket.socket(family=family, type=kind, proto=protocol)
        except OSError as error:
            if is_out_of_descriptors(error):
                raise ServerOverloadedError("file descriptors") from error
            raise

    def close(self) -> None:
        """Let go of the lookup's threads."""
        self._lookup.close()

    def _localhost(self, host: str) -> list[Address]:
        # RFC 6761: these names mean loopback and need no name server. Whichever loopback addresses are open will do.
        opened = [address for address in _LOCALHOST_ADDRESSES if refusal_of(address, self._allowed_networks) is None]
        if not opened:
            raise AddressNotAllowedError(host, "a loopback address")
        return opened

    def _admit(self, host: str, addresses: Sequence[Address]) -> None:
        for address in addresses:
            refusal = refusal_of(address, self._allowed_networks)
            if refusal is not None:
                raise AddressNotAllowedError(host, refusal)


class GuardedResolver(AbstractResolver):
    """Hands aiohttp only addresses that the guard has checked, so what was checked is what is connected to."""

    def __init__(self, guard: EgressGuard) -> None:
        """Ask `guard`, which the caller owns and closes."""
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the checked addresses of `host`, of `family` when it is given.

        Raises:
            AddressNotAllowedError: the host resolves to a forbidden address.
            OSError: the name does not resolve.
        """
        addresses = await self._guard.resolve(host, port)
        results = [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,  # noqa: PLR2004 - IP versions
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]
        return [result for result in results if family in (socket.AF_UNSPEC, result["family"])]

    async def close(self) -> None:
        """Do nothing: the guard belongs to the caller."""
