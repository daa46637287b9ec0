"""A collector of traces, as OTLP over HTTP has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector:
    """Keeps every span that is sent to it, and every byte."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.received = b""
        self.url = ""
        self._services: dict[bytes, str] = {}
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def of_trace(self, trace_id: str) -> dict[str, Span]:
        """Return the spans of one trace by name."""
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace_id}

    def named(self, name: str) -> list[Span]:
        """Return the spans of one name in every trace."""
        return [span for span in self.spans if span.name == name]

    def service_of(self, span: Span) -> str:
        """Return the service that sent a span."""
        return self._services[span.span_id]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
                self._services.update(dict.fromkeys((span.span_id for span in scope.spans), _service(resource)))
        return web.Response(body=b"", content_type="application/x-protobuf")


def _service(resource: ResourceSpans) -> str:
    values = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    return values["service.name"]
