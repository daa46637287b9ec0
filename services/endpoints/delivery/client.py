"""The endpoint protocol's calls over HTTP."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self, TypeVar

from services.endpoints.delivery.answer_parser import AnswerParser, TooManyValuesError
from services.endpoints.delivery.sender import UNAUTHORIZED, CallSender
from services.endpoints.delivery.transport import HttpTransport
from services.endpoints.domain.endpoint_calls import (
    INVALID_API_KEY_TEXT,
    UNPARSABLE_TEXT,
    Action,
    CallFailure,
    EndpointCallError,
    IndexAnswer,
    PingResult,
    RawAnswer,
    Reading,
    clean_remote_text,
    no_response_text,
    schema_text,
    status_text,
)
from services.endpoints.domain.endpoint_wire import (
    AnswerShapeError,
    ErrorWithStack,
    HttpSourceResponse,
    PingAnswer,
    ReceivedModel,
    RegisterTriggerBody,
    parse_answer,
)
from services.endpoints.domain.json_text import JsonTextError, dump_json, parse_json
from services.endpoints.domain.tracing import NO_TRACER

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from services.endpoints.delivery.guard import EgressGuard
    from services.endpoints.domain.endpoint_calls import EndpointAddress
    from services.endpoints.domain.endpoint_wire import HttpSourceDelivery, PreprocessRunBody, RunJobBody
    from services.endpoints.domain.json_text import JsonValue
    from services.endpoints.domain.ports.observer import EndpointCallObserver
    from services.endpoints.domain.ports.tracer import Tracer

USER_AGENT: Final = "Kongflow/1.0"
DEFAULT_TIMEOUT: Final = timedelta(seconds=30)
DEFAULT_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
DEFAULT_MAX_CONNECTIONS: Final = 1024
MAX_RETRY_AFTER: Final = timedelta(hours=1)

_MAX_VERSION_CHARACTERS: Final = 64
_SUCCESSFUL: Final = range(200, 300)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"

Model = TypeVar("Model", bound=ReceivedModel)


class AiohttpEndpointClient:
    """Speaks the endpoint protocol through aiohttp; open it with `async with` inside the event loop that uses it."""

    def __init__(
        self,
        *,
        guard: EgressGuard,
        timeout: timedelta = DEFAULT_TIMEOUT,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        user_agent: str = USER_AGENT,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        tracer: Tracer = NO_TRACER,
        observer: EndpointCallObserver | None = None,
    ) -> None:
        """Call through `guard`, which the caller owns and closes.

        `ssl_context` None trusts the system's authorities; `clock` is used for `Retry-After` dates and for the time of
        a signature.
        """
        self._timeout = timeout
        self._clock = clock
        self._observer = observer
        self._parser = AnswerParser(max_answer_bytes=max_answer_bytes)
        self._transport = HttpTransport(
            guard=guard, max_answer_bytes=max_answer_bytes, max_connections=max_connections, ssl_context=ssl_context
        )
        self._sender = CallSender(transport=self._transport, user_agent=user_agent, clock=clock, tracer=tracer)

    async def __aenter__(self) -> Self:
        """Open the connections' session."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session; calls that still run fail."""
        await self._transport.__aexit__(kind, failure, traceback)

    async def ping(self, address: EndpointAddress, *, timeout: timedelta | None = None) -> PingResult:
        """Ask whether the endpoint is there, takes the key and has the slug; a failure is a result."""
        return await self._ask(Action.PING, address, {"x-trigger-endpoint-id": address.slug}, timeout)

    async def validate(
        self,
        address: EndpointAddress,
        *,
        timeout: timedelta | None = None,
    ) -> PingResult:
        """Ask which slug lives at the url; a failure is a result."""
        return await self._ask(Action.VALIDATE, address, {}, timeout)

    async def index_endpoint(
        self,
        address: EndpointAddress,
        *,
        read: Callable[[JsonValue], Reading],
        timeout: timedelta | None = None,
    ) -> IndexAnswer[Reading]:
        """Ask what the endpoint offers and `read` it; of large answers one at a time, in a thread.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx or not JSON; errors of `read` pass.
        """
        if self._observer is None:
            return await self._index(address, read, timeout)
        started, failure = asyncio.get_running_loop().time(), None
        try:
            return await self._index(address, read, timeout)
        except Exception as error:
            failure = error
            raise
        finally:
            took = timedelta(seconds=asyncio.get_running_loop().time() - started)
            self._observer.observe_index(_outcome(failure), took)

    async def _index(
        self, address: EndpointAddress, read: Callable[[JsonValue], Reading], timeout: timedelta | None
    ) -> IndexAnswer[Reading]:
        answer = await self._send(Action.INDEX_ENDPOINT, address, timeout=timeout)
        self._require_success(address, answer)
        body = await self._parsed(address, answer, read, must_be_storable=False)
        return IndexAnswer(
            body=body,
            size_bytes=len(answer.body),
            duration=answer.duration,
            trigger_version=_version(answer.headers, "trigger-version"),
            sdk_version=_version(answer.headers, "trigger-sdk-version"),
        )

    async def initialize_trigger(
        self,
        address: EndpointAddress,
        *,
        trigger_slug: str,
        params: JsonValue,
        timeout: timedelta | None = None,
    ) -> RegisterTriggerBody:
        """Ask what a dynamic trigger with these `params` listens to.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx, not JSON or not of that shape.
        """
        body = dump_json({"id": trigger_slug, "params": params}).encode()
        answer = await self._send(
            Action.INITIALIZE_TRIGGER, address, headers={"Content-Type": _JSON}, body=body, timeout=timeout
        )
        remote = None if answer.status in _SUCCESSFUL else _remote_error(answer)
        if remote is not None:
            raise EndpointCallError(
                f"EndpointApiError: {clean_remote_text(remote.message, secrets=address.secrets)}",
                failure=CallFailure.STATUS,
                http_status=answer.status,
                retry_after=self._retry_after(answer),
                remote_stack=clean_remote_text(remote.stack, secrets=address.secrets) if remote.stack else None,
            )
        self._require_success(address, answer, trusts_unauthorized_text=False)
        return await self._shaped(address, answer, RegisterTriggerBody)

    async def preprocess_run(
        self,
        address: EndpointAddress,
        body: PreprocessRunBody,
        *,
        timeout: timedelta | None = None,
    ) -> RawAnswer:
        """Ask for the properties of a run.

        Raises:
            EndpointCallError: there was no answer.
        """
        return await self._send_run(Action.PREPROCESS_RUN, address, body, timeout)

    async def execute_job(
        self,
        address: EndpointAddress,
        body: RunJobBody,
        *,
        timeout: timedelta | None = None,
    ) -> RawAnswer:
        """Carry a run on.

        Raises:
            EndpointCallError: there was no answer.
        """
        return await self._send_run(Action.EXECUTE_JOB, address, body, timeout)

    async def deliver_http_source_request(
        self,
        address: EndpointAddress,
        delivery: HttpSourceDelivery,
        *,
        timeout: timedelta | None = None,
    ) -> HttpSourceResponse:
        """Replay a stored webhook request to the endpoint that knows its source.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx, not JSON or not of that shape.
        """
        answer = await self._send(
            Action.DELIVER_HTTP_SOURCE_REQUEST,
            address,
            headers={"Content-Type": _OCTETS, **_source_headers(delivery)},
            body=delivery.body,
            timeout=timeout,
        )
        self._require_success(address, answer, trusts_unauthorized_text=False)
        return await self._shaped(address, answer, HttpSourceResponse)

    async def _ask(
        self,
        action: Action,
        address: EndpointAddress,
        headers: Mapping[str, str],
        timeout: timedelta | None,
    ) -> PingResult:
        started = asyncio.get_running_loop().time()
        # A page instead of JSON means the wrong url here; for an index it may be a deployment's, which passes.
        answer: RawAnswer | None = None
        endpoint_id: str | None = None
        failure: EndpointCallError | None = None
        try:
            answer = await self._send(action, address, headers=headers, timeout=timeout)
            self._require_success(address, answer)
            endpoint_id = await self._acknowledged(action, address, answer)
        except EndpointCallError as error:
            failure = error
        received = answer.headers if answer else {}
        result = PingResult(
            ok=failure is None,
            error=failure.message if failure else None,
            http_status=answer.status if answer else None,
            duration=timedelta(seconds=asyncio.get_running_loop().time() - started),
            trigger_version=_version(received, "trigger-version"),
            sdk_version=_version(received, "trigger-sdk-version"),
            endpoint_id=endpoint_id,
            failure=failure.failure if failure else None,
            detail=failure.detail if failure else None,
            retryable=failure is not None and failure.retryable and failure.failure is not CallFailure.NOT_JSON,
            retry_after=failure.retry_after if failure else None,
        )
        if self._observer is not None and action is Action.PING:
            self._observer.observe_ping(_outcome(failure), result.duration)
        return result

    async def _send_run(
        self,
        action: Action,
        address: EndpointAddress,
        body: PreprocessRunBody | RunJobBody,
        timeout: timedelta | None,
    ) -> RawAnswer:
        return await self._send(
            action,
            address,
            headers={"Content-Type": _JSON},
            body=dump_json(body.to_wire()).encode(),
            timeout=timeout,
            keeps_every_body=True,
        )

    async def _send(
        self,
        action: Action,
        address: EndpointAddress,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: timedelta | None,
        keeps_every_body: bool = False,
    ) -> RawAnswer:
        return await self._sender.send(
            action,
            address,
            headers=headers or {},
            body=body,
            timeout=timeout or self._timeout,
            keeps_every_body=keeps_every_body,
        )

    def _require_success(
        self, address: EndpointAddress, answer: RawAnswer, *, trusts_unauthorized_text: bool = True
    ) -> None:
        if answer.status in _SUCCESSFUL:
            return
        if answer.status == UNAUTHORIZED and trusts_unauthorized_text:
            remote = _remote_error(answer)
            text = clean_remote_text(remote.message, secrets=address.secrets) if remote else ""
            raise EndpointCallError(
                text or INVALID_API_KEY_TEXT, failure=CallFailure.UNAUTHORIZED, http_status=answer.status
            )
        raise EndpointCallError(
            status_text(address.url, answer.status),
            failure=CallFailure.STATUS,
            http_status=answer.status,
            retry_after=self._retry_after(answer),
        )

    async def _acknowledged(self, action: Action, address: EndpointAddress, answer: RawAnswer) -> str | None:
        # Its texts are cleaned before they are kept, so nothing in them has to be storable as it came.
        acknowledgement = await self._shaped(address, answer, PingAnswer, must_be_storable=False)
        if acknowledgement.ok:
            if action is not Action.VALIDATE:
                return None
            if not isinstance(acknowledgement.endpoint_id, str):
                raise _lacks(address, answer, "endpointId", acknowledgement.endpoint_id)
            return acknowledgement.endpoint_id
        reported = acknowledgement.message if acknowledgement.error is None else acknowledgement.error
        if not isinstance(reported, str):
            raise _lacks(address, answer, "error", reported)
        raise EndpointCallError(
            clean_remote_text(reported, secrets=address.secrets),
            failure=CallFailure.REPORTED,
            http_status=answer.status,
        )

    async def _shaped(
        self, address: EndpointAddress, answer: RawAnswer, model: type[Model], *, must_be_storable: bool = True
    ) -> Model:
        try:
            return await self._parsed(
                address, answer, lambda body: parse_answer(model, body), must_be_storable=must_be_storable
            )
        except AnswerShapeError as failure:
            raise _wrong_shape(address, answer, str(failure)) from failure

    async def _parsed(
        self,
        address: EndpointAddress,
        answer: RawAnswer,
        read: Callable[[JsonValue], Reading],
        *,
        must_be_storable: bool = True,
    ) -> Reading:
        try:
            return await self._parser.parse(answer.body, read, must_be_storable=must_be_storable)
        except TooManyValuesError as failure:
            raise EndpointCallError(
                no_response_text(address.url),
                failure=CallFailure.TOO_LARGE,
                detail=str(failure),
                http_status=answer.status,
            ) from failure
        except JsonTextError as failure:
            raise EndpointCallError(
                UNPARSABLE_TEXT, failure=CallFailure.NOT_JSON, detail=failure.reason, http_status=answer.status
            ) from failure

    def _retry_after(self, answer: RawAnswer) -> timedelta | None:
        text = answer.headers.get("retry-after")
        return None if text is None else parse_retry_after(text, now=self._clock())


def parse_retry_after(text: str, *, now: datetime) -> timedelta | None:
    """Return how long an endpoint asks to be left alone: 0 to `MAX_RETRY_AFTER`, None when the header is garbage.

    Source: RFC 9110 section 10.2.3: seconds, or an HTTP date.
    """
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit():
        return timedelta(seconds=min(int(stripped[:9]), MAX_RETRY_AFTER.total_seconds()))
    try:
        moment = parsedate_to_datetime(stripped)
    except (ValueError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return min(max(moment - now, timedelta()), MAX_RETRY_AFTER)


def _outcome(failure: Exception | None) -> str:
    if failure is None:
        return "ok"
    return failure.failure.value if isinstance(failure, EndpointCallError) else "unreadable"


def _wrong_shape(address: EndpointAddress, answer: RawAnswer, complaint: str) -> EndpointCallError:
    return EndpointCallError(
        schema_text(address.url, clean_remote_text(complaint, secrets=address.secrets)),
        failure=CallFailure.BAD_SCHEMA,
        http_status=answer.status,
    )


def _lacks(address: EndpointAddress, answer: RawAnswer, field: str, found: JsonValue) -> EndpointCallError:
    issue = "Field required" if found is None else "Input should be a valid string"
    return _wrong_shape(address, answer, f'{issue} at "{field}"')


def _remote_error(answer: RawAnswer) -> ErrorWithStack | None:
    try:
        text = answer.body.removeprefix(_BYTE_ORDER_MARK)
        return parse_answer(ErrorWithStack, parse_json(text, must_be_storable=False))
    except (JsonTextError, AnswerShapeError):
        return None


def _version(headers: Mapping[str, str], name: str) -> str | None:
    return clean_remote_text(headers.get(name, ""))[:_MAX_VERSION_CHARACTERS] or None


def _source_headers(delivery: HttpSourceDelivery) -> dict[str, str]:
    headers = {
        "x-ts-key": delivery.key,
        "x-ts-secret": delivery.secret,
        "x-ts-params": _header_json({} if delivery.params is None else delivery.params),
        "x-ts-data": _header_json({} if delivery.data is None else delivery.data),
        "x-ts-http-url": delivery.http_url,
        "x-ts-http-method": delivery.http_method,
        "x-ts-http-headers": _header_json(dict(delivery.http_headers)),
    }
    if delivery.dynamic_id is not None:
        headers["x-ts-dynamic-id"] = delivery.dynamic_id
    if delivery.auth is not None:
        headers["x-ts-auth"] = _header_json(delivery.auth.to_wire())
    if delivery.metadata is not None:
        headers["x-ts-metadata"] = _header_json(delivery.metadata)
    return headers


def _header_json(value: object) -> str:
    # Escaped to ASCII: a header has no agreed encoding beyond it.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
