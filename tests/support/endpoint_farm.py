"""Many customers' endpoints on one port, whose offer changes with every index, and a journal of every call they saw."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from tests.support.fake_endpoint import EMPTY_INDEX, VERSION_HEADERS, event_job, reply
from tests.support.offers import source
from tests.support.passing import lasting

if TYPE_CHECKING:
    from types import TracebackType

MARKER: Final = "customers-own-words"
"""Stands in every answer, and must stand in no log and in no Redis."""

_REVISION: Final = "0000000000"
_STEP: Final = timedelta(milliseconds=150)
_STEPS: Final = 5


@dataclass(slots=True)
class FarmCall:
    """One call as an endpoint saw it; `answered` is the revision it was given, None while it was given none.

    `idempotency_id` is empty for a call that carries none.
    """

    action: str
    began: float
    key_fits: bool
    idempotency_id: str
    ended: float | None = None
    answered: int | None = None


@dataclass
class FarmEndpoint:
    """One endpoint that offers `jobs` event jobs; each index offers a revision of all of them never offered before.

    While `failing` it answers 503.
    """

    slug: str
    jobs: int
    api_key: str
    url: str
    failing: bool = False
    journal: list[FarmCall] = field(default_factory=list)
    revision: int = 0

    def __post_init__(self) -> None:
        jobs = [event_job(f"{self.slug}-job-{number}") for number in range(self.jobs)]
        for job in jobs:
            job["event"]["title"] = f"{MARKER} {_REVISION}"
        self._template = json.dumps({**EMPTY_INDEX, "jobs": jobs})

    def add_source(self, key: str) -> None:
        """Offer a source, too."""
        offer = json.loads(self._template)
        self._template = json.dumps({**offer, "sources": [*offer["sources"], source(key)]})

    def listen(self, slug: str, event: str, payload_filter: dict[str, Any]) -> None:
        """Offer a job that wants this event, too."""
        job = event_job(slug, event=event)
        job["event"]["title"] = f"{MARKER} {_REVISION}"
        job["trigger"]["rule"]["payload"] = payload_filter
        offer = json.loads(self._template)
        self._template = json.dumps({**offer, "jobs": [*offer["jobs"], job]})

    def index_calls(self) -> list[FarmCall]:
        """Return the calls that asked what there is."""
        return [call for call in self.journal if call.action == "INDEX_ENDPOINT"]

    def next_offer(self) -> str:
        """Return a new revision's answer."""
        self.revision += 1
        return self._template.replace(_REVISION, f"{self.revision:010d}")


class EndpointFarm:
    """All the endpoints of a test; clear `answers` to keep every index waiting, set `failing` to answer 503."""

    def __init__(self) -> None:
        self.endpoints: dict[str, FarmEndpoint] = {}
        self.answers = asyncio.Event()
        self.answers.set()
        self.failing = False
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/{slug}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answers.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def add(self, slug: str, *, jobs: int, api_key: str, port: int | None = None) -> FarmEndpoint:
        """Open an endpoint; `port` is where it is reached when that is a proxy."""
        endpoint = FarmEndpoint(slug, jobs, api_key, f"http://127.0.0.1:{port or self.port}/{slug}")
        self.endpoints[slug] = endpoint
        return endpoint

    @staticmethod
    def _thinking(endpoint: FarmEndpoint) -> timedelta:
        """Return how long this answer takes: a call that is over at once is hardly ever hit by a fault."""
        return _STEP * (len(endpoint.journal) % _STEPS)

    async def _serve(self, request: web.Request) -> web.Response:
        endpoint = self.endpoints[request.match_info["slug"]]
        action = request.headers.get("x-trigger-action", "")
        call = FarmCall(
            action,
            time.monotonic(),
            key_fits=request.headers.get("x-trigger-api-key") == endpoint.api_key,
            idempotency_id=request.headers.get("webhook-id", ""),
        )
        endpoint.journal.append(call)
        try:
            await request.read()
            if action != "INDEX_ENDPOINT":
                return reply({"ok": True})
            await lasting(self._thinking(endpoint))
            await self.answers.wait()
            if self.failing or endpoint.failing:
                return reply({"message": "not now"}, status=503)
            offer = endpoint.next_offer()
            call.answered = endpoint.revision
            return web.Response(text=offer, content_type="application/json", headers=VERSION_HEADERS)
        finally:
            call.ended = time.monotonic()
