"""What ties a call to everything that comes of it: the request id and the trace."""

from __future__ import annotations

import re
import secrets
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from services.endpoints.domain.ports.tracer import SpanKind
from services.endpoints.domain.tracing import read_traceparent, spanning, trace_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.endpoints.domain.ports.tracer import Tracer

    Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID: Final = "x-request-id"
_USABLE: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_NOTED: Final = ("slug", "environment_id", "endpoint_id")

_request_id: ContextVar[str | None] = ContextVar("kongflow_request_id", default=None)


def correlation_metadata() -> tuple[tuple[str, str], ...]:
    """Return what every answer's trailing metadata tells of the running call."""
    request_id = _request_id.get()
    return () if request_id is None else ((REQUEST_ID, request_id),)


def note_request(request: Any) -> None:  # noqa: ANN401 - any request message
    """Have the lines of the running call name what its request names, where that looks like a name or an id."""
    fields = type(request).DESCRIPTOR.fields_by_name
    noted = {name: getattr(request, name) for name in _NOTED if name in fields}
    if usable := {name: value for name, value in noted.items() if isinstance(value, str) and _USABLE.fullmatch(value)}:
        structlog.contextvars.bind_contextvars(**usable)


class CorrelationInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call its request id and its span, outside everything else that happens around it.

    A caller's `x-request-id` of up to 128 characters and its `traceparent` are taken over; what is not usable is
    replaced, never refused.
    """

    def __init__(self, *, tracer: Tracer, new_request_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._tracer = tracer
        self._new_request_id = new_request_id
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the library's own handlers are untyped
        """Return the method's handler, correlated; None for a method that is not there.

        Being the outermost, it keeps what all interceptors made of a method: the library asks again with every call.
        """
        method = handler_call_details.method
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = self._correlating(method, handler)
        return self._handlers[method]

    def _correlating(self, method: str, handler: Any) -> Any:  # noqa: ANN401 - the library's own handlers are untyped
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, handler.stream_stream), handler.request_deserializer, handler.response_serializer
            )
        # The library's health service writes its stream to the context; it is left as it is.
        return handler if handler.unary_stream is None or not _yields(method) else self._unary_stream(method, handler)

    def _unary_stream(self, method: str, handler: Any) -> Any:  # noqa: ANN401 - the library's own handlers are untyped
        return grpc.unary_stream_rpc_method_handler(
            self._stream(method, handler.unary_stream), handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, method: str, behaviour: Any) -> Callable[[Any, Context], Awaitable[Any]]:  # noqa: ANN401 - untyped
        async def serve(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            async with self._correlated(method, context):
                return await behaviour(request, context)

        return serve

    def _stream(self, method: str, behaviour: Any) -> Callable[[Any, Context], AsyncIterator[Any]]:  # noqa: ANN401 - untyped
        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            async with self._correlated(method, context):
                async for response in behaviour(request, context):
                    yield response

        return serve

    @asynccontextmanager
    async def _correlated(self, method: str, context: Context) -> AsyncIterator[None]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        given = metadata.get(REQUEST_ID, "")
        request_id = given if _USABLE.fullmatch(given) else self._new_request_id()
        _request_id.set(request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id, operation=method.rpartition("/")[2])
        context.set_trailing_metadata(correlation_metadata())
        if not self._tracer.is_on:
            yield
            return
        parent = read_traceparent(metadata.get("traceparent"))
        with spanning(
            self._tracer,
            method.removeprefix("/"),
            kind=SpanKind.SERVER,
            parent=parent,
            attributes={"rpc.system": "grpc"},
        ) as span:
            if span.traceparent is not None:
                structlog.contextvars.bind_contextvars(trace_id=trace_id(span.traceparent))
            yield


def _yields(method: str) -> bool:
    return not method.startswith("/grpc.health.")
