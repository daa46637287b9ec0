"""The worker's part of traces, sent over OTLP. The only module that needs its SDK; imported when traces are on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace.export import SpanExporter

_SEND_WITHIN_SECONDS: Final = 5
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class CallTraces:
    """Records a call in every trace that it ran something of, beside the spans of what it ran.

    Which traces these are is known when the server has answered, so that calls of which nothing is recorded cost
    nothing; the spans bear the time at which the call began.
    """

    def __init__(self, *, exporter: SpanExporter) -> None:
        """Hand spans to a thread that sends them by `exporter`."""
        self._provider = TracerProvider(
            resource=Resource({"service.name": "kongflow-worker"}),
            sampler=ParentBased(ALWAYS_OFF),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("kongflow")

    def note_call(self, queue: str, *, lanes: int, began_ns: int, traceparents: Sequence[str]) -> None:
        """Record a call that ends now; what is no `traceparent` is passed over.

        Source: W3C Trace Context, version 00.
        """
        for parent in map(_TRACEPARENT.fullmatch, traceparents):
            if parent is not None:
                span = self._tracer.start_span(
                    "worker RunQueueJobs",
                    context=_below(*parent.groups()),
                    kind=SpanKind.CLIENT,
                    attributes={"kongflow.queue": queue, "kongflow.lanes": lanes},
                    start_time=began_ns,
                )
                span.end()

    def close(self) -> None:
        """Send what has ended and record no more; may take seconds when nobody receives."""
        self._provider.shutdown()


def open_traces(*, endpoint: str) -> CallTraces:
    """Return what sends to `endpoint`, an OTLP/HTTP collector's base url or its `/v1/traces`."""
    url = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    return CallTraces(exporter=OTLPSpanExporter(endpoint=url, timeout=_SEND_WITHIN_SECONDS))


def _below(trace_id: str, span_id: str, flags: str) -> Context:
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())
