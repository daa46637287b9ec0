"""The console as an application: its addresses, who may see them, and how a browser has to treat them."""

from __future__ import annotations

import math
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import hdrs, web

from services.endpoints.domain.errors import (
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    PermissionDeniedError,
    Reason,
    ServerOverloadedError,
    UnauthenticatedError,
)
from services.endpoints.domain.tenancy import Scope
from services.endpoints.http.bodies import BODY_WITHIN, codings_of, in_time
from services.endpoints.http.console.catalog_pages import CatalogPages
from services.endpoints.http.console.endpoint_pages import EndpointPages
from services.endpoints.http.console.event_pages import EventPages
from services.endpoints.http.console.queue_pages import QueuePages
from services.endpoints.http.console.rendering import Renderer
from services.endpoints.http.console.visits import Shown, Visit, has_scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from datetime import timedelta

    from aiohttp.typedefs import Handler

    from services.endpoints.http.console.history import QueueHistory
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.sessions import Session, Sessions

    Page = Callable[[Visit], Awaitable[Shown]]
    Action = Callable[[Visit], Awaitable[str]]

ROOT: Final = "/console"
COOKIE: Final = "kongflow_console"

_SIGN_IN: Final = f"{ROOT}/sign-in"
_HOME: Final = f"{ROOT}/environments"
_STATIC: Final = Path(__file__).with_name("static")
_STATIC_TYPES: Final = {
    "console.css": "text/css",
    "icon.svg": "image/svg+xml",
    "htmx-2.0.11.min.js": "text/javascript",
    "htmx-2.0.11.LICENSE.txt": "text/plain",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_STATUSES: Final = {
    Reason.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    Reason.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Reason.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Reason.WRONG_STATE: HTTPStatus.CONFLICT,
    Reason.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Reason.CONFLICT: HTTPStatus.CONFLICT,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.DATABASE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.DRAINING: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_UNEXPECTED: Final = "Something went wrong here; the log of the service says what, under the reference {reference}."
_ADVICE: Final = {
    HTTPStatus.BAD_REQUEST: "Correct the address or the form, and send it again.",
    HTTPStatus.FORBIDDEN: "Sign out, and sign in with a credential that may do this; whoever runs KongFlow makes them.",
    HTTPStatus.NOT_FOUND: (
        "It was deleted, or your credential does not see it. Begin with the environments, which lead to all it sees."
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: "Go back and use the button of the page.",
    HTTPStatus.REQUEST_TIMEOUT: "Go back and send the form again.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send less: no form of the console needs as much.",
    HTTPStatus.CONFLICT: "Somebody or something was faster: load the page again and see what it says now.",
    HTTPStatus.TOO_MANY_REQUESTS: "Close pages of the console that renew themselves, wait a little and load it again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Load the page again. If that does not help, tell whoever runs it the reference.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Load the page again in a few seconds. What waits goes on by itself.",
    HTTPStatus.GATEWAY_TIMEOUT: "Load the page again, with a narrower filter if it has one.",
}
"""What to do about a failure, said below what it is."""

_STALE_FORM: Final = "This form was made for another session, so nothing was done."
_STALE_FORM_ADVICE: Final = "Go back, load the page again, sign in if it asks you to, and repeat."
_FORM: Final = "application/x-www-form-urlencoded"
_NO_FORM: Final = FieldViolation("", "what was sent is no form of the console")
_BAD_CREDENTIAL: Final = "This is no valid API key or token."

_log = structlog.get_logger(__name__)


def console(
    *,
    services: ConsoleServices,
    sessions: Sessions,
    history: QueueHistory,
    admit: Callable[[], None],
    body_within: timedelta = BODY_WITHIN,
) -> web.Application:
    """Return the application of the console, to be put at `/console`.

    `admit` raises a KongflowError while the server has no room for a page; a form has to come `body_within` that time.
    """
    return _Console(
        services=services, sessions=sessions, history=history, admit=admit, body_within=body_within
    ).application()


class _Console:
    """Answers the console's addresses."""

    def __init__(
        self,
        *,
        services: ConsoleServices,
        sessions: Sessions,
        history: QueueHistory,
        admit: Callable[[], None],
        body_within: timedelta,
    ) -> None:
        self._admit = admit
        self._body_within = body_within
        self._services = services
        self._sessions = sessions
        self._renderer = Renderer()
        self._endpoint_pages = EndpointPages(services=services)
        self._catalog_pages = CatalogPages(services=services)
        self._event_pages = EventPages(services=services)
        self._queue_pages = QueuePages(services=services, history=history)
        self._files = {name: (_STATIC / name).read_bytes() for name in _STATIC_TYPES}

    def application(self) -> web.Application:
        """Return the application with every address."""
        application = web.Application(middlewares=[self._guarded])
        router = application.router
        pages: dict[str, Page] = {
            "/environments": self._endpoint_pages.environments,
            "/environments/{id}": self._endpoint_pages.endpoints,
            "/environments/{id}/jobs": self._catalog_pages.jobs,
            "/environments/{id}/sources": self._catalog_pages.sources,
            "/environments/{id}/dynamic-triggers": self._catalog_pages.dynamic_triggers,
            "/environments/{id}/schedules": self._catalog_pages.schedules,
            "/environments/{id}/events": self._event_pages.events,
            "/environments/{id}/runs": self._event_pages.runs,
            "/endpoints/{id}": self._endpoint_pages.endpoint,
            "/indexes/{id}": self._endpoint_pages.index,
            "/events/{id}": self._event_pages.event,
            "/queues": self._queue_pages.queues,
            "/queue-jobs": self._queue_pages.queue_jobs,
            "/queue-jobs/{id}": self._queue_pages.queue_job,
            "/dead-letters": self._queue_pages.dead_letters,
            "/dead-letters/retry": self._queue_pages.ask_to_retry,
        }
        actions: dict[str, Action] = {
            "/endpoints/{id}/resume": self._endpoint_pages.resume,
            "/queue-jobs/{id}/retry": self._queue_pages.retry,
            "/queue-jobs/{id}/cancel": self._queue_pages.cancel,
            "/dead-letters/retry": self._queue_pages.retry_all,
            "/queues/pause": self._queue_pages.pause,
            "/queues/resume": self._queue_pages.resume,
        }
        for path, page in pages.items():
            router.add_get(path, self._answering(page))
        for path, action in actions.items():
            router.add_post(path, self._acting(action))
        router.add_get("", self._go_home)
        router.add_get("/", self._go_home)
        router.add_get("/static/{name}", self._static)
        router.add_get("/sign-in", self._ask_to_sign_in)
        router.add_post("/sign-in", self._sign_in)
        router.add_post("/sign-out", self._sign_out)
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer every failure with a page, and tell the browser to trust nothing but this server."""
        try:
            self._admit()
            response = await handler(request)
        except UnauthenticatedError:
            response = self._sent_to_sign_in(request)
        except KongflowError as error:
            status = _status_of(error)
            advice = _STALE_FORM_ADVICE if error.message == _STALE_FORM else None
            response = self._failure(request, status, error.message, advice)
            if error.retry_after is not None:
                response.headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after.total_seconds()))
        except web.HTTPException as error:
            response = error
            if error.status >= HTTPStatus.BAD_REQUEST:
                response = self._failure(request, HTTPStatus(error.status), f"{error.reason}.")
        except Exception:  # noqa: BLE001 - what went wrong is in the log; a page shows nothing of it
            reference = secrets.token_hex(8)
            _log.exception("console_page_failed", path=request.path, reference=reference)
            words = _UNEXPECTED.format(reference=reference)
            response = self._failure(request, HTTPStatus.INTERNAL_SERVER_ERROR, words)
        response.headers.update(_HEADERS)
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        return response

    def _answering(self, page: Page) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            async with self._visiting(request) as visit:
                shown = await page(visit)
                values = {"here": str(request.rel_url), "may_operate": visit.may_operate, **shown.values}
                return self._html(request, shown.template, values, session=visit.session)

        return answer

    def _acting(self, action: Action) -> Handler:
        """Return the handler of a form that an operator sends; what was done is shown where `action` says."""

        async def act(request: web.Request) -> web.StreamResponse:
            async with self._visiting(request) as visit:
                await self._checked_form(request)
                visit.require_operator()
                form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
                return _redirect(ROOT + await action(replace(visit, form=form)))

        return act

    @asynccontextmanager
    async def _visiting(self, request: web.Request) -> AsyncIterator[Visit]:
        """Give who asks, recognised anew, and count the block as a call of its tenant.

        Raises:
            UnauthenticatedError: nobody is signed in, or the credential is good no longer.
            KongflowError: the tenant asks too often, or too much at once.
            PermissionDeniedError: the credential does not allow reading.
        """
        session = self._session(request)
        if session is None or session.credential is None:
            raise UnauthenticatedError
        principal = await self._services.authentication.authenticate(session.credential)
        with self._services.limits.calling(principal):
            if not has_scope(principal, Scope.READ):
                raise PermissionDeniedError("The console needs the scope read.")
            yield Visit(request, principal, session, self._services.page_tokens)

    async def _go_home(self, _request: web.Request) -> web.StreamResponse:
        return _redirect(_HOME)

    async def _static(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        headers = {hdrs.CACHE_CONTROL: "public, max-age=300"}
        return web.Response(body=self._files[name], content_type=_STATIC_TYPES[name], charset="utf-8", headers=headers)

    async def _ask_to_sign_in(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is not None and session.credential is not None:
            return _redirect(_HOME)
        return self._sign_in_page(request, session or self._sessions.begin(None), HTTPStatus.OK)

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        before = await self._checked_form(request)
        form = await request.post()
        credential = str(form.get("credential", "")).strip()
        try:
            principal = await self._services.authentication.authenticate(credential)
        except UnauthenticatedError:
            session = self._sessions.begin(None)
            return self._sign_in_page(request, session, HTTPStatus.UNAUTHORIZED, _BAD_CREDENTIAL)
        with self._services.limits.calling(principal):
            if not has_scope(principal, Scope.READ):
                return self._sign_in_page(request, before, HTTPStatus.FORBIDDEN, "The console needs the scope read.")
        response = _redirect(_HOME)
        self._remember(request, response, self._sessions.begin(credential))
        return response

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        await self._checked_form(request)
        response = _redirect(_SIGN_IN)
        response.del_cookie(COOKIE, path=ROOT)
        return response

    async def _checked_form(self, request: web.Request) -> Session:
        """Return the session of a form that this server made for it.

        Raises:
            InvalidRequestError: what was sent is no form.
            web.HTTPRequestTimeout: it was not sent in time.
            PermissionDeniedError: another site may have sent the form, or the session ended meanwhile.
        """
        if request.content_type != _FORM or codings_of(request):
            raise InvalidRequestError([_NO_FORM])
        try:
            form = await in_time(request.post(), within=self._body_within)
        except (ValueError, LookupError, web.RequestPayloadError) as error:
            raise InvalidRequestError([_NO_FORM]) from error
        session = self._session(request)
        if session is None or not session.is_of(str(form.get("csrf", ""))):
            raise PermissionDeniedError(_STALE_FORM)
        return session

    def _session(self, request: web.Request) -> Session | None:
        return self._sessions.unseal(request.cookies.get(COOKIE, ""))

    def _remember(self, request: web.Request, response: web.Response, session: Session) -> None:
        is_encrypted = request.secure or request.headers.get(hdrs.X_FORWARDED_PROTO, "").lower() == "https"
        response.set_cookie(
            COOKIE,
            self._sessions.seal(session),
            path=ROOT,
            httponly=True,
            samesite="Strict",
            secure=is_encrypted,
        )

    def _sent_to_sign_in(self, request: web.Request) -> web.Response:
        """Return the way to the sign-in page: a part of a page that renews itself must take the whole page there."""
        if "HX-Request" in request.headers:
            return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": _SIGN_IN})
        response = _redirect(_SIGN_IN)
        response.del_cookie(COOKIE, path=ROOT)
        return response

    def _sign_in_page(
        self, request: web.Request, session: Session, status: HTTPStatus, message: str | None = None
    ) -> web.Response:
        response = self._html(request, "sign_in.html", {"message": message}, session=session, status=status)
        self._remember(request, response, session)
        return response

    def _failure(
        self, request: web.Request, status: HTTPStatus, message: str, advice: str | None = None
    ) -> web.Response:
        session = self._session(request)
        values = {"phrase": status.phrase, "message": message, "advice": advice or _ADVICE.get(status, "")}
        return self._html(request, "failure.html", values, session=session, status=status)

    def _html(
        self,
        request: web.Request,
        template: str,
        values: Mapping[str, object],
        *,
        session: Session | None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> web.Response:
        signed_in = session is not None and session.credential is not None
        shared = {"csrf": session.csrf if session else "", "signed_in": signed_in, "path": request.path}
        text = self._renderer.render(template, {**shared, **values})
        return web.Response(text=text, content_type="text/html", status=status)


def _status_of(error: KongflowError) -> HTTPStatus:
    if isinstance(error, ServerOverloadedError):
        # It says RATE_LIMITED, too, but nobody asked too much of the server.
        return HTTPStatus.SERVICE_UNAVAILABLE
    return _STATUSES.get(error.reason, HTTPStatus.INTERNAL_SERVER_ERROR)


def _redirect(address: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: address})
