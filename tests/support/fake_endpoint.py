"""A customer's endpoint for tests: speaks the protocol, keeps a journal, and misbehaves on demand.

    async with FakeEndpoint(index=INDEX, behaviour=on("INDEX_ENDPOINT", hang)) as endpoint:
        ...  # call endpoint.url; then look at endpoint.journal

It listens on a free loopback port. Behaviours are functions: they answer a call, or return None to let the endpoint
answer as it should. Closing the endpoint ends every call that still hangs or drips.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from types import TracebackType

    from services.endpoints.domain.json_text import JsonValue

API_KEY: Final = "tr_dev_FakeEndpoint000000Aa"
SLUG: Final = "fake-endpoint"
VERSION_HEADERS: Final = {"Trigger-Version": "2023-09-29", "Trigger-SDK-Version": "2.3.18"}
EMPTY_INDEX: Final[Mapping[str, Any]] = {
    "jobs": [],
    "sources": [],
    "webhooks": [],
    "dynamicTriggers": [],
    "dynamicSchedules": [],
    "httpEndpoints": [],
}

_MEBIBYTE: Final = 1024 * 1024
_MISMATCH: Final = "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One call as the endpoint saw it; header names are lower case and the key's value is never kept."""

    action: str
    time: datetime
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    key_fits: bool


Answer: TypeAlias = "web.StreamResponse | None"
Behaviour: TypeAlias = "Callable[[web.Request, FakeEndpoint], Awaitable[Answer]]"


class FakeEndpoint:
    """One endpoint on a port of its own.

    `index` is what INDEX_ENDPOINT answers and may be replaced at any time, as may `behaviour`. `arrived` is released
    once per call, so that a test can wait for one: `await endpoint.arrived.acquire()`.
    """

    def __init__(
        self,
        *,
        index: Mapping[str, Any] | None = None,
        api_key: str = API_KEY,
        slug: str = SLUG,
        behaviour: Behaviour | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.index: Mapping[str, Any] = EMPTY_INDEX if index is None else index
        self.api_key = api_key
        self.slug = slug
        self.behaviour = behaviour
        self.journal: list[JournalEntry] = []
        self.arrived = asyncio.Semaphore(0)
        self.closing = asyncio.Event()
        self.port = 0
        self._ssl_context = ssl_context
        self._clock = clock
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=64 * _MEBIBYTE)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._ssl_context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/api/trigger"

    def calls(self, action: str) -> list[JournalEntry]:
        """Return the journal's entries of one action."""
        return [entry for entry in self.journal if entry.action == action]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("x-trigger-api-key")
        self.journal.append(
            JournalEntry(
                action=request.headers.get("x-trigger-action", ""),
                time=self._clock(),
                headers={
                    name.lower(): value
                    for name, value in request.headers.items()
                    if name.lower() != "x-trigger-api-key"
                },
                body=await request.read(),
                key_fits=key == self.api_key,
            )
        )
        self.arrived.release()
        if self.behaviour is not None:
            answer = await self.behaviour(request, self)
            if answer is not None:
                return answer
        return self.answer_as_agreed(request)

    def answer_as_agreed(self, request: web.Request) -> web.Response:
        """Answer as the SDK would."""
        key = request.headers.get("x-trigger-api-key")
        if key is None:
            return reply({"message": "Unauthorized: missing x-trigger-api-key header"}, status=401)
        if key != self.api_key:
            return reply({"message": _MISMATCH}, status=401)
        if request.method != "POST":
            return reply({"message": "Method not allowed (only POST is allowed)"}, status=405)
        return self._act(request)

    def _act(self, request: web.Request) -> web.Response:
        match request.headers.get("x-trigger-action"):
            case "PING":
                return reply(self._ping(request.headers.get("x-trigger-endpoint-id")))
            case "VALIDATE":
                return reply({"ok": True, "endpointId": self.slug})
            case "INDEX_ENDPOINT":
                return reply(self.index)
            case None:
                return reply({"message": "Missing x-trigger-action header"}, status=400)
            case _:
                return reply({"message": "Method not allowed"}, status=405)

    def _ping(self, slug: str | None) -> dict[str, Any]:
        if slug is None:
            return {"ok": False, "error": "Missing endpoint ID"}
        if slug != self.slug:
            return {"ok": False, "error": f"Endpoint ID mismatch error. Expected {self.slug}, got {slug}"}
        return {"ok": True}


def as_sent(body: JsonValue) -> JsonValue:
    """Read an answer as it came."""
    return body


def index_of(jobs: int) -> dict[str, Any]:
    """Return an index of this many small event jobs; 20,001 is one more than an answer may offer."""
    return {**EMPTY_INDEX, "jobs": [event_job(f"job-{number}") for number in range(jobs)]}


def event_job(slug: str, *, version: str = "1.0.0", event: str = "thing.happened") -> dict[str, Any]:
    """Return one event job as an index lists it."""
    return {
        "id": slug,
        "name": slug,
        "version": version,
        "event": {"name": event, "title": "Event", "source": "trigger.dev", "icon": "custom-event"},
        "trigger": {
            "type": "static",
            "title": event,
            "rule": {"event": event, "source": "trigger.dev", "payload": {}},
        },
        "integrations": {},
        "startPosition": "latest",
        "enabled": True,
        "preprocessRuns": False,
    }


def reply(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON answer with the SDK's version headers."""
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type="application/json",
        headers={**VERSION_HEADERS, **(headers or {})},
    )


def on(action: str, behaviour: Behaviour) -> Behaviour:
    """Misbehave for one action only."""

    async def behave(request: web.Request, endpoint: FakeEndpoint) -> Answer:
        return await behaviour(request, endpoint) if request.headers.get("x-trigger-action") == action else None

    return behave


def in_turn(*behaviours: Behaviour | None) -> Behaviour:
    """Use one behaviour per call, in this order; None and everything after the last one answer as agreed."""
    remaining = iter(behaviours)

    async def behave(request: web.Request, endpoint: FakeEndpoint) -> Answer:
        behaviour = next(remaining, None)
        return None if behaviour is None else await behaviour(request, endpoint)

    return behave


def held_until(release: asyncio.Event) -> Behaviour:
    """Answer as agreed, but not before `release` is set."""

    async def behave(_request: web.Request, _endpoint: FakeEndpoint) -> Answer:
        await release.wait()
        return None

    return behave


def json_body(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with this JSON."""

    async def behave(_request: web.Request, _endpoint: FakeEndpoint) -> Answer:
        return reply(body, status=status, headers=headers)

    return behave


def raw_body(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with these bytes."""

    async def behave(_request: web.Request, _endpoint: FakeEndpoint) -> Answer:
        return web.Response(status=status, body=body, headers=headers)

    return behave


def status(number: int, *, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with a status and an empty body."""
    return raw_body(b"", status=number, headers=headers)


def redirect(location: str, *, number: int = 302) -> Behaviour:
    """Send the caller elsewhere."""
    return status(number, headers={"Location": location})


def html(*, number: int = 200) -> Behaviour:
    """Answer with a page instead of JSON."""
    page = b"<!doctype html><title>Welcome</title><h1>It works</h1>"
    return raw_body(page, status=number, headers={"Content-Type": "text/html"})


refuse_key: Final[Behaviour] = json_body({"message": _MISMATCH}, status=401)


async def hang(_request: web.Request, endpoint: FakeEndpoint) -> Answer:
    """Say nothing until the endpoint closes."""
    await endpoint.closing.wait()
    return web.Response(status=503)


def drip(*, pause: timedelta = timedelta(seconds=1)) -> Behaviour:
    """Send the headers and then one byte per `pause`, for ever."""

    async def behave(request: web.Request, endpoint: FakeEndpoint) -> Answer:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while not endpoint.closing.is_set():
                await response.write(b" ")
                await _pause(endpoint, pause)
        return response

    return behave


def huge_body(*, size_bytes: int = 1024 * _MEBIBYTE) -> Behaviour:
    """Stream one endless JSON string, a mebibyte at a time as the caller takes it."""

    def pieces() -> Iterator[bytes]:
        yield b'{"jobs": "'
        for _ in range(size_bytes // _MEBIBYTE):
            yield b"a" * _MEBIBYTE

    return _stream(pieces, {"Content-Type": "application/json"})


def gzip_bomb(*, inflated_bytes: int = 256 * _MEBIBYTE) -> Behaviour:
    """Send a small gzip body that inflates to `inflated_bytes`, about a thousandth of which travels."""

    def pieces() -> Iterator[bytes]:
        compressor = zlib.compressobj(level=9, wbits=31)
        yield compressor.compress(b'{"jobs": "')
        for _ in range(inflated_bytes // _MEBIBYTE):
            yield compressor.compress(b"a" * _MEBIBYTE)
        yield compressor.flush()

    return _stream(pieces, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


async def endless_headers(request: web.Request, endpoint: FakeEndpoint) -> Answer:
    """Start an answer whose header lines never end."""
    return await _write_raw(request, endpoint, b"HTTP/1.1 200 OK\r\n", lambda n: b"x-line-%d: more\r\n" % n)


async def endless_header_line(request: web.Request, endpoint: FakeEndpoint) -> Answer:
    """Start an answer with one header line that never ends."""
    return await _write_raw(request, endpoint, b"HTTP/1.1 200 OK\r\nx-line: ", lambda _: b"m" * 4096)


async def not_http(request: web.Request, endpoint: FakeEndpoint) -> Answer:
    """Answer in another protocol."""
    return await _write_raw(request, endpoint, b"220 mail.example ESMTP ready\r\n", None)


async def hang_up(request: web.Request, _endpoint: FakeEndpoint) -> Answer:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def break_off(request: web.Request, _endpoint: FakeEndpoint) -> Answer:
    """Promise a body and close the connection in the middle of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"jobs": [')
    if request.transport is not None:
        request.transport.close()
    return response


def _stream(pieces: Callable[[], Iterator[bytes]], headers: Mapping[str, str]) -> Behaviour:
    async def behave(request: web.Request, endpoint: FakeEndpoint) -> Answer:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with suppress(ConnectionError):
            for piece in pieces():
                if endpoint.closing.is_set():
                    break
                await response.write(piece)
        return response

    return behave


async def _write_raw(
    request: web.Request, endpoint: FakeEndpoint, start: bytes, line: Callable[[int], bytes] | None
) -> Answer:
    transport = request.transport
    if transport is not None:
        transport.write(start)
        count = 0
        while line is not None and not transport.is_closing() and not endpoint.closing.is_set():
            transport.write(line(count))
            count += 1
            await _pause(endpoint, timedelta(milliseconds=1))
        transport.close()
    return web.Response()


async def _pause(endpoint: FakeEndpoint, pause: timedelta) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(pause.total_seconds()):
            await endpoint.closing.wait()
