"""The bodies of requests: read within a bound, however slowly they come and however small they were made."""

from __future__ import annotations

import asyncio
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Awaitable

BODY_WITHIN: Final = timedelta(seconds=10)
CODINGS: Final = "gzip, deflate, identity"
"""The values of `Content-Encoding` that `body_of` reads, one at a time, as `Accept-Encoding` lists them."""
_IDENTITY: Final = "identity"
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""What zlib is told for each coding that has to be undone."""

Read = TypeVar("Read")


async def in_time(reading: Awaitable[Read], *, within: timedelta) -> Read:
    """Return what `reading` reads of a request's body.

    Raises:
        web.HTTPRequestTimeout: it has not come `within` that time.

    Source: RFC 9110, section 15.5.9.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await reading
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(reason=f"The body did not come within {within.total_seconds():g} s") from error


async def body_of(request: web.Request, *, within: timedelta) -> bytes:
    """Return a request's body, decoded; nothing of one that is not what its `Content-Encoding` says.

    Raises:
        web.HTTPUnsupportedMediaType: it is encoded as nobody here can read, or more than once.
        web.HTTPRequestTimeout: it has not come `within` that time.
        web.HTTPRequestEntityTooLarge: it is larger than the application takes, as it comes or decoded.

    Source: RFC 9110, sections 8.4 and 15.5.16.
    """
    codings = codings_of(request)
    if len(codings) > 1 or not _WINDOWS.keys() >= set(codings):
        raise web.HTTPUnsupportedMediaType(reason=f"The Content-Encoding must be one of {CODINGS}")
    try:
        body = await in_time(request.read(), within=within)
        return _inflated(body, _WINDOWS[codings[0]], most_bytes=request.client_max_size) if body and codings else body
    except (web.RequestPayloadError, zlib.error):
        return b""


def codings_of(request: web.Request) -> list[str]:
    """Return what was done to a request's body, in its order; what changes nothing is left out."""
    named = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, ())).lower().split(",")
    return [coding for each in named if (coding := each.strip()) not in {"", _IDENTITY}]


def _inflated(body: bytes, window: int, *, most_bytes: int) -> bytes:
    """Return what was deflated.

    Raises:
        zlib.error: it is something else, or a part.
        web.HTTPRequestEntityTooLarge: it is more than `most_bytes`.
    """
    inflater = zlib.decompressobj(window)
    inflated = inflater.decompress(body, most_bytes + 1)
    if len(inflated) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=len(inflated))
    if not inflater.eof or inflater.unused_data:
        raise zlib.error("no whole stream, or more than one")
    return inflated
