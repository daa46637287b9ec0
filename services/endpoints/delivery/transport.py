"""One guarded HTTP exchange with a customer's server: bounded in time and memory, every failure typed."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from yarl import URL

from services.endpoints.delivery.guard import GuardedResolver, RefusedSocketError
from services.endpoints.domain.endpoint_calls import CallFailure, RawAnswer
from services.endpoints.domain.errors import AddressNotAllowedError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import TracebackType

    from services.endpoints.delivery.guard import EgressGuard

MAX_HEADER_LINES: Final = 128
MAX_HEADER_LINE_BYTES: Final = 8190
MAX_ERROR_BODY_BYTES: Final = 64 * 1024

_CHUNK_BYTES: Final = 64 * 1024
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_SUCCESSFUL: Final = range(200, 300)


class NoAnswerError(Exception):
    """Nothing usable came back; `detail` says why in a few words and quotes nothing that the server sent."""

    def __init__(self, failure: CallFailure, detail: str) -> None:
        """Hold the kind of failure and the words for it."""
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class HttpTransport:
    """Sends POST requests to customers' servers.

    Connections are not kept: one call per connection means that every call goes to an address that was checked for it,
    and that none fails because the server had just closed an idle connection.
    """

    def __init__(
        self,
        *,
        guard: EgressGuard,
        max_answer_bytes: int,
        max_connections: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        """Hold the limits; `max_answer_bytes` counts the answer after gzip and the like are undone."""
        self._guard = guard
        self._max_answer_bytes = max_answer_bytes
        self._max_connections = max_connections
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session, which belongs to the running event loop."""
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard),
            socket_factory=self._guard.open_socket,
            ssl=self._ssl_context or True,
            use_dns_cache=False,
            force_close=True,
            limit=self._max_connections,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            trust_env=False,
            read_bufsize=_CHUNK_BYTES,
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADER_LINES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session; calls that still run fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: timedelta,
        spent: timedelta = timedelta(),
        keeps_every_body: bool = False,
    ) -> RawAnswer:
        """Send one request and read its answer, of whatever status, within what is left of `timeout` after `spent`.

        The body of an answer outside 2xx is read as far as `MAX_ERROR_BODY_BYTES` and is empty when it is longer or
        breaks off: the status says enough. With `keeps_every_body` it is treated like that of a 2xx answer.

        Raises:
            NoAnswerError: nothing usable came back.
        """
        if self._session is None:
            raise RuntimeError("The transport is not open.")
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + (timeout - spent).total_seconds()
        try:
            self._guard.check_literal(url)
            async with asyncio.timeout_at(deadline):
                response = await self._session.post(
                    URL(url, encoded=True),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    skip_auto_headers=("Content-Type",),
                )
            try:
                content = await self._body(response, deadline, is_needed=keeps_every_body)
            finally:
                response.close()
        except (AddressNotAllowedError, aiohttp.ClientError, OSError, ValueError) as failure:
            raise _no_answer(failure, timeout, is_late=loop.time() >= deadline) from failure
        return RawAnswer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=content,
            duration=timedelta(seconds=loop.time() - started),
        )

    async def _body(self, response: aiohttp.ClientResponse, deadline: float, *, is_needed: bool) -> bytes:
        if is_needed or response.status in _SUCCESSFUL:
            async with asyncio.timeout_at(deadline):
                return await _read(response, self._max_answer_bytes)
        try:
            async with asyncio.timeout_at(deadline):
                return await _read(response, min(MAX_ERROR_BODY_BYTES, self._max_answer_bytes))
        except (NoAnswerError, aiohttp.ClientError, OSError):
            return b""


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise NoAnswerError(CallFailure.TOO_LARGE, f"answer larger than {_in_words(max_bytes)}")
        chunks.append(chunk)
    return b"".join(chunks)


def _in_words(size_bytes: int) -> str:
    mebibytes, rest = divmod(size_bytes, 1024 * 1024)
    return f"{size_bytes} bytes" if rest else f"{mebibytes} MiB"


def _no_answer(failure: Exception, timeout: timedelta, *, is_late: bool) -> NoAnswerError:
    match failure:
        case AddressNotAllowedError():
            return NoAnswerError(CallFailure.ADDRESS_NOT_ALLOWED, failure.message)
        case aiohttp.ClientConnectorError():
            return _not_connected(failure)
        case TimeoutError() if is_late:
            return NoAnswerError(CallFailure.TIMED_OUT, f"timed out after {timeout.total_seconds():g} s")
        case TimeoutError():
            return NoAnswerError(CallFailure.NAME_NOT_RESOLVED, "looking up the host name took too long")
        case _:
            return next(NoAnswerError(kind, detail) for types, kind, detail in _BROKEN if isinstance(failure, types))


# The first row that fits counts; the last one fits everything.
_BROKEN: Final[tuple[tuple[tuple[type[Exception], ...], CallFailure, str], ...]] = (
    (
        (aiohttp.ClientResponseError,),
        CallFailure.INVALID_HTTP,
        f"not valid HTTP, or more than {MAX_HEADER_LINES} header lines of {MAX_HEADER_LINE_BYTES} bytes",
    ),
    ((aiohttp.ClientPayloadError,), CallFailure.DISCONNECTED, "the answer broke off or its encoding is broken"),
    ((ValueError,), CallFailure.NOT_CONNECTED, "the URL or a header cannot be sent"),
    ((Exception,), CallFailure.DISCONNECTED, "the connection was closed before the answer"),
)


def _not_connected(failure: aiohttp.ClientConnectorError) -> NoAnswerError:
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        reason = getattr(failure.certificate_error, "verify_message", "") or "the certificate does not fit the host"
        return NoAnswerError(CallFailure.TLS, f"certificate verify failed: {reason}")
    error = failure.os_error
    if isinstance(failure, aiohttp.ClientSSLError):
        reason = getattr(error, "reason", None) or "handshake failed"
        return NoAnswerError(CallFailure.TLS, f"TLS error: {str(reason).replace('_', ' ').lower()}")
    if isinstance(failure, aiohttp.ClientConnectorDNSError):
        return NoAnswerError(CallFailure.NAME_NOT_RESOLVED, "the host name does not resolve")
    if isinstance(error, RefusedSocketError):
        return NoAnswerError(CallFailure.ADDRESS_NOT_ALLOWED, str(error))
    if error.errno == errno.ECONNREFUSED:
        return NoAnswerError(CallFailure.NOT_CONNECTED, "connection refused")
    reason = os.strerror(error.errno).lower() if error.errno else "no address of the host accepts connections"
    return NoAnswerError(CallFailure.NOT_CONNECTED, reason)
