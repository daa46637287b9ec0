"""A customer's endpoint in a process of its own, so that its work is not counted as ours.

`python -m benchmarks.endpoint <port>` serves on loopback until SIGTERM. The path says what it offers:
`/offers/<jobs>/<name>` the same jobs every time, `/listens/<jobs>/<name>` jobs that all want the event
`<name>.happened`, every second of them through a filter, `/changes/<jobs>/<name>` jobs with a new version at each call,
whose ids begin with the name, because an endpoint takes over jobs that another one of its environment offered.
`/holds/…` gives no answer before the next `POST /release`, and then refuses. It keeps when each INDEX_ENDPOINT reached
it: `GET /arrivals/<name>`, in seconds since 1970.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from http import HTTPStatus
from typing import Any, Final

import uvloop
from aiohttp import web

_VERSION_HEADERS: Final = {"Trigger-Version": "2023-09-29", "Trigger-SDK-Version": "2.3.18"}
_NAME: Final = b"@name@"
_PONG: Final = b'{"ok":true}'


class BenchmarkEndpoint:
    """Answers PING and INDEX_ENDPOINT; answers that stay the same are written once."""

    def __init__(self) -> None:
        self._arrivals: dict[str, list[float]] = {}
        self._answers: dict[int, bytes] = {}
        self._versions = itertools.count(1)
        self._released = asyncio.Event()

    def application(self) -> web.Application:
        """Return the endpoint as an application."""
        application = web.Application()
        application.router.add_post("/{offer}/{jobs}/{name}", self._answer)
        application.router.add_post("/release", self._release)
        application.router.add_get("/arrivals/{name}", self._show_arrivals)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        arrived = time.time()
        await request.read()
        if request.headers["x-trigger-action"] == "PING":
            return _json(_PONG)
        name = request.match_info["name"]
        self._arrivals.setdefault(name, []).append(arrived)
        if request.match_info["offer"] == "holds":
            await self._released.wait()
            return web.Response(status=HTTPStatus.NOT_FOUND)
        jobs = int(request.match_info["jobs"])
        if request.match_info["offer"] == "changes":
            return _json(_named(_offer(jobs, version=f"1.0.{next(self._versions)}"), name))
        if request.match_info["offer"] == "listens":
            return _json(_named(_audience(jobs), name))
        if jobs not in self._answers:
            self._answers[jobs] = _offer(jobs, version="1.0.0")
        return _json(_named(self._answers[jobs], name))

    async def _release(self, _request: web.Request) -> web.Response:
        self._released.set()
        self._released = asyncio.Event()
        return web.Response()

    async def _show_arrivals(self, request: web.Request) -> web.Response:
        return web.json_response(self._arrivals.get(request.match_info["name"], []))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=_VERSION_HEADERS)


def _named(offer: bytes, name: str) -> bytes:
    return offer.replace(_NAME, name.encode())


def _offer(jobs: int, *, version: str) -> bytes:
    """Return an index of event jobs of which every tenth runs by a schedule instead."""
    document = {
        "jobs": [_job(number, version) for number in range(jobs)],
        "sources": [],
        "dynamicTriggers": [],
        "dynamicSchedules": [],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _job(number: int, version: str) -> dict[str, Any]:
    scheduled = number % 10 == 9  # noqa: PLR2004 - the last of every ten
    event = "scheduled" if scheduled else f"thing.{number}.happened"
    trigger: dict[str, Any] = (
        {"type": "scheduled", "schedule": {"type": "cron", "options": {"cron": "*/5 * * * *"}}}
        if scheduled
        else {"type": "static", "title": event, "rule": {"event": event, "source": "trigger.dev", "payload": {}}}
    )
    return {
        "id": f"{_NAME.decode()}-{number:05}",
        "name": f"Job {number}",
        "version": version,
        "event": {"name": event, "title": "Event", "source": "trigger.dev", "icon": "custom-event"},
        "trigger": trigger,
        "integrations": {},
        "startPosition": "latest",
        "enabled": True,
        "preprocessRuns": False,
    }


def _audience(jobs: int) -> bytes:
    """Return an index of jobs that want one event, half of them through a filter."""
    document = json.loads(_offer(0, version="1.0.0"))
    for number in range(jobs):
        job = _job(0, "1.0.0")
        event = f"{_NAME.decode()}.happened"
        job |= {"id": f"{_NAME.decode()}-{number:05}", "name": f"Job {number}"}
        job["event"]["name"] = job["trigger"]["title"] = job["trigger"]["rule"]["event"] = event
        job["trigger"]["rule"]["payload"] = {"plan": ["pro", "team"]} if number % 2 else {}
        document["jobs"].append(job)
    return json.dumps(document, separators=(",", ":")).encode()


async def _serve(port: int) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    runner = web.AppRunner(BenchmarkEndpoint().application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
