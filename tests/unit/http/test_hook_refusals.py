from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.endpoints.domain.errors import (
    DatabaseUnavailableError,
    KongflowError,
    NoConnectionFreeError,
    Reason,
    ServerOverloadedError,
)
from services.endpoints.http.server import HttpServer, hooks_and_health
from services.endpoints.rpc.memory import PLENTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SECOND = timedelta(seconds=1)


HOOK = f"/api/v1/endpoints/{UUID(int=1)}/shop/index/{'a' * 10}"


async def why_not() -> str | None:
    return None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KongflowError("Too many calls.", reason=Reason.RATE_LIMITED, retry_after=SECOND), 429),
        (KongflowError("Too many at once.", reason=Reason.QUOTA_EXCEEDED, retry_after=SECOND), 429),
        (DatabaseUnavailableError("PostgreSQL is away.", retry_after=SECOND), 503),
        (NoConnectionFreeError("connections"), 503),
        (ServerOverloadedError("memory"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_who_asked_too_much_is_told_apart_from_a_server_without_room(error: KongflowError, status: int) -> None:
    async def deployed(*_arguments: object, **_named: object) -> None:
        raise error

    application = hooks_and_health(deployed=deployed, not_ready=why_not, admit=PLENTY.admit)
    async with TestClient(TestServer(application)) as client:
        answer = await client.post(HOOK)
        assert (answer.status, answer.headers["Retry-After"]) == (status, "1")
        assert await answer.json() == {"error": error.message}


async def test_hook_is_not_begun_without_room_for_it_and_health_is_told_all_the_same() -> None:
    async def deployed(*_arguments: object, **_named: object) -> None:
        pytest.fail("it was begun")

    def admit() -> None:
        raise ServerOverloadedError("memory")

    application = hooks_and_health(deployed=deployed, not_ready=why_not, admit=admit)
    async with TestClient(TestServer(application)) as client:
        answer = await client.post(HOOK)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "no memory left" in (await answer.json())["error"]
        assert (await client.get("/healthz")).status == 200


async def read_the_body(
    environment_id: UUID,
    slug: str,
    hook_identifier: str,
    read_body: Callable[[], Awaitable[bytes]],
) -> None:
    assert (environment_id, slug) == (UUID(int=1), "shop")
    await read_body()


@asynccontextmanager
async def stalled_hook(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """Send one byte of ten, and give what is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {HOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{".encode())
    await writer.drain()
    yield reader
    writer.close()


async def test_body_that_does_not_come_is_waited_for_no_longer_than_its_time() -> None:
    application = hooks_and_health(
        deployed=read_the_body, not_ready=why_not, admit=PLENTY.admit, body_within=timedelta(milliseconds=50)
    )
    server = HttpServer(application, host="127.0.0.1", port=0)
    async with stalled_hook(await server.start()) as answer, asyncio.timeout(5):
        head = await answer.readuntil(b"\r\n\r\n")
        body = await answer.readuntil(b"}")
    await server.close()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == {"error": "The body did not come within 0.05 s."}


async def test_body_that_is_not_what_its_encoding_says_is_nothing() -> None:
    bodies = []

    async def deployed(
        environment_id: UUID, slug: str, hook_identifier: str, read_body: Callable[[], Awaitable[bytes]]
    ) -> None:
        assert (environment_id, slug, hook_identifier) == (UUID(int=1), "shop", "a" * 10)
        bodies.append(await read_body())

    application = hooks_and_health(deployed=deployed, not_ready=why_not, admit=PLENTY.admit)
    async with TestClient(TestServer(application)) as client:
        answer = await client.post(HOOK, data=b"{}", headers={"Content-Encoding": "gzip"})
        assert (answer.status, await answer.json()) == (200, {"ok": True})
    assert bodies == [b""]


@asynccontextmanager
async def served(bodies: list[bytes]) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve hooks that put their bodies into `bodies`, as the service does it, and yield what calls them."""

    async def deployed(
        environment_id: UUID, slug: str, hook_identifier: str, read_body: Callable[[], Awaitable[bytes]]
    ) -> None:
        assert (environment_id, slug, hook_identifier) == (UUID(int=1), "shop", "a" * 10)
        bodies.append(await read_body())

    application = hooks_and_health(deployed=deployed, not_ready=why_not, admit=PLENTY.admit)
    server = HttpServer(application, host="127.0.0.1", port=0)
    port = await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.close()


# Without the time of day: tests are named after it.
ZIPPED = gzip.compress(b"{}", mtime=0)


@pytest.mark.parametrize(
    ("encoding", "sent", "read"),
    [
        ("identity", b"{}", b"{}"),
        ("", b"{}", b"{}"),
        ("gzip", ZIPPED, b"{}"),
        ("X-GZIP", ZIPPED, b"{}"),
        ("gzip, identity", ZIPPED, b"{}"),
        ("deflate", zlib.compress(b"{}"), b"{}"),
        ("deflate", b"", b""),
        ("gzip", b"{}", b""),
        ("gzip", ZIPPED[:-4], b""),
    ],
)
async def test_body_is_read_by_its_encoding(encoding: str, sent: bytes, read: bytes) -> None:
    bodies: list[bytes] = []
    async with served(bodies) as session:
        answer = await session.post(HOOK, data=sent, headers={"Content-Encoding": encoding})
        assert (answer.status, await answer.json()) == (200, {"ok": True})
    assert bodies == [read]


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "nonsense", "gzip, gzip", "deflate, gzip", "*"])
async def test_body_in_an_encoding_that_is_not_known_is_refused_with_those_that_are(encoding: str) -> None:
    bodies: list[bytes] = []
    async with served(bodies) as session:
        answer = await session.post(HOOK, data=b"{}", headers={"Content-Encoding": encoding})
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "gzip, deflate, identity"
        assert await answer.json() == {"error": "The Content-Encoding must be one of gzip, deflate, identity."}
        assert (await session.get("/healthz", headers={"Content-Encoding": encoding})).status == 200
    assert bodies == []


async def test_body_that_is_too_large_once_it_is_decoded_is_refused() -> None:
    bodies: list[bytes] = []
    async with served(bodies) as session:
        sent = gzip.compress(b" " * (512 * 1024 + 1))
        answer = await session.post(HOOK, data=sent, headers={"Content-Encoding": "gzip"})
        assert answer.status == 413
    assert bodies == []


async def test_server_that_stops_does_not_wait_for_a_body_that_does_not_come() -> None:
    begun = asyncio.Event()
    application = hooks_and_health(deployed=read_the_body, not_ready=why_not, admit=begun.set)
    server = HttpServer(application, host="127.0.0.1", port=0)
    async with stalled_hook(await server.start()), asyncio.timeout(8):
        await begun.wait()
        await server.close()
