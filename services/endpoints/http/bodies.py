"""The bodies of requests: read within a bound, however slowly they come."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable

BODY_WITHIN: Final = timedelta(seconds=10)

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
    """Return a request's body; nothing of one that is not what its `Content-Encoding` says.

    Raises:
        web.HTTPRequestTimeout: it has not come `within` that time.
        web.HTTPRequestEntityTooLarge: it is larger than the application takes.
    """
    try:
        return await in_time(request.read(), within=within)
    except web.RequestPayloadError:
        return b""
