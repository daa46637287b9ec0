"""The protocol's side of the sample endpoint: who may call, and which action is answered how."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from examples.sample_endpoint.offer import offer

if TYPE_CHECKING:
    from collections.abc import Mapping

SLUG: Final = "greenhouse"
PATH: Final = "/api/trigger"
_VERSION_HEADERS: Final = {"Trigger-Version": "2023-09-29", "Trigger-SDK-Version": "2.3.18"}
_MISMATCH: Final = "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment"
_API_KEY: Final = web.AppKey("api_key", str)


def sample_endpoint(*, api_key: str) -> web.Application:
    """Return the app; it answers only who sends `api_key`."""
    application = web.Application()
    application[_API_KEY] = api_key
    application.router.add_route("*", PATH, _answer)
    return application


async def _answer(request: web.Request) -> web.Response:
    given = request.headers.get("x-trigger-api-key")
    if given is None:
        return _message(401, "Unauthorized: missing x-trigger-api-key header")
    if not hmac.compare_digest(given.encode(), request.app[_API_KEY].encode()):
        return _message(401, _MISMATCH)
    if request.method != "POST":
        return _message(405, "Method not allowed (only POST is allowed)")
    return _act(request)


def _act(request: web.Request) -> web.Response:
    match request.headers.get("x-trigger-action"):
        case "PING":
            return _reply(_ping(request.headers.get("x-trigger-endpoint-id")))
        case "VALIDATE":
            return _reply({"ok": True, "endpointId": SLUG})
        case "INDEX_ENDPOINT":
            return _reply(offer())
        case None:
            return _message(400, "Missing x-trigger-action header")
        case _:
            return _message(405, "Method not allowed")


def _ping(endpoint_id: str | None) -> dict[str, Any]:
    if endpoint_id is None:
        return {"ok": False, "error": "Missing endpoint ID"}
    if endpoint_id != SLUG:
        return {"ok": False, "error": f"Endpoint ID mismatch error. Expected {SLUG}, got {endpoint_id}"}
    return {"ok": True}


def _message(status: int, text: str) -> web.Response:
    return _reply({"message": text}, status=status)


def _reply(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers=_VERSION_HEADERS)
