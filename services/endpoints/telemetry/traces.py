"""Traces in OpenTelemetry's words, sent over OTLP. The only module that needs its SDK; imported when traces are on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from services.endpoints.domain.ports.tracer import SpanKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

_KINDS: Final = {
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}


class _Span:
    """One span of the SDK."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent: str | None = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        )

    def note(self, name: str, value: str | int) -> None:
        """Add a fact."""
        self._span.set_attribute(name, value)

    def end(self, *, failure: str | None = None) -> None:
        """End it."""
        if failure is not None:
            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end()


class OpenTelemetryTracer:
    """Samples traces that begin here, follows what callers sampled, and hands spans to a thread that sends them."""

    is_on: Final = True

    def __init__(self, *, service: str, ratio: float, exporter: SpanExporter) -> None:
        """Record `ratio` of the traces that begin here, from 0 to 1; `exporter` sends them."""
        self._provider = TracerProvider(
            resource=Resource({"service.name": service}),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("kongflow")

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind,
        parent: str | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> _Span:
        """Begin a span."""
        return _Span(
            self._tracer.start_span(
                name,
                # An empty context: never what a library may have put into the ambient one.
                context=_context(parent),
                kind=_KINDS[kind],
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
        )

    def flush(self) -> None:
        """Send what has ended."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what has ended and record no more; may take seconds when nobody receives."""
        self._provider.shutdown()


def open_tracer(*, endpoint: str, ratio: float, service: str) -> OpenTelemetryTracer:
    """Return a tracer that sends to `endpoint`, an OTLP/HTTP collector's base url or its `/v1/traces`."""
    url = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    return OpenTelemetryTracer(service=service, ratio=ratio, exporter=OTLPSpanExporter(endpoint=url, timeout=5))


def _context(traceparent: str | None) -> Context:
    if traceparent is None:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    span_context = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())
