"""HTTP beside gRPC: health, deployment hooks, and metrics on a port of their own."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import structlog
from aiohttp import hdrs, web

from services.endpoints.domain.errors import (
    DatabaseUnavailableError,
    KongflowError,
    NotFoundError,
    Reason,
    ServerOverloadedError,
)
from services.endpoints.domain.identifiers import is_hook_identifier, is_slug, is_uuid
from services.endpoints.http.bodies import BODY_WITHIN, CODINGS, body_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_HOOK_BYTES: Final = 512 * 1024
_END_WITHIN: Final = timedelta(seconds=2)
_HOOK: Final = "/api/v1/endpoints/{environment_id}/{slug}/index/{hook}"
_NOT_FOUND: Final = "There is no such indexing hook."
_TOO_LARGE: Final = "The body is larger than 512 KiB."
_OF_THE_TENANT: Final = frozenset({Reason.RATE_LIMITED, Reason.QUOTA_EXCEEDED})
# A server without room says RATE_LIMITED, too, but nobody asked too much of it.
_OF_THE_SERVER: Final = (DatabaseUnavailableError, ServerOverloadedError)

_log = structlog.get_logger(__name__)


class Deployed(Protocol):
    """What a deployment hook asks for."""

    async def __call__(
        self, environment_id: UUID, slug: str, hook_identifier: str, read_body: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Ask for an index, or raise NotFoundError before the body is read."""
        ...


def hooks_and_health(
    *,
    deployed: Deployed,
    not_ready: Callable[[], Awaitable[str | None]],
    admit: Callable[[], None],
    body_within: timedelta = BODY_WITHIN,
) -> web.Application:
    """Return the application of deployment hooks and health.

    `admit` raises a KongflowError while the server has no room for a hook; the body of one has to come `body_within`
    that time.
    `/healthz` says that the process lives; `/readyz` answers 503 with the reason that `not_ready` gives.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        reason = await not_ready()
        return web.json_response({"status": reason or "ok"}, status=503 if reason else 200)

    async def hook(request: web.Request) -> web.Response:
        named, slug, identifier = (request.match_info[part] for part in ("environment_id", "slug", "hook"))
        if not (is_uuid(named) and is_slug(slug) and is_hook_identifier(identifier)):
            return _error(404, _NOT_FOUND)

        async def read_body() -> bytes:
            return await body_of(request, within=body_within) if request.method == "POST" else b""

        try:
            admit()
            await deployed(UUID(named), slug, identifier, read_body)
        except NotFoundError:
            return _error(404, _NOT_FOUND)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, _TOO_LARGE)
        except (web.HTTPRequestTimeout, web.HTTPUnsupportedMediaType) as error:
            return _unread(error)
        except KongflowError as error:
            _log.warning("hook_refused", reason=error.reason.value)
            return _refusal(error)
        return web.json_response({"ok": True})

    application = web.Application(client_max_size=_MAX_HOOK_BYTES)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get(_HOOK, hook, allow_head=False)
    application.router.add_post(_HOOK, hook)
    return application


def metrics_page(render: Callable[[], Awaitable[bytes]]) -> web.Application:
    """Return the application of `/metrics`."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=await render(), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    return application


class HttpServer:
    """Serves one application on one address."""

    def __init__(self, application: web.Application, *, host: str, port: int) -> None:
        """Prepare; port 0 lets the system choose."""
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=_END_WITHIN.total_seconds(),
            # It would answer what it cannot decode itself, by 400, whoever asks and whatever for.
            auto_decompress=False,
        )
        self._host = host
        self._port = port

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            OSError: the address cannot be listened on.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop listening and end what is served; what takes longer than 2 s is cut off."""
        await self._runner.cleanup()


def _refusal(error: KongflowError) -> web.Response:
    """Return what a hook is told that may come again later."""
    asked_too_much = error.reason in _OF_THE_TENANT and not isinstance(error, _OF_THE_SERVER)
    response = _error(429 if asked_too_much else 503, error.message)
    if error.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after.total_seconds()))
    return response


def _unread(error: web.HTTPException) -> web.Response:
    """Return what a hook is told whose body cannot be read, or not in time."""
    response = _error(error.status, f"{error.reason}.")
    if isinstance(error, web.HTTPUnsupportedMediaType):
        response.headers[hdrs.ACCEPT_ENCODING] = CODINGS
    return response


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
