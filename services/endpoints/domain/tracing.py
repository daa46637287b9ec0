"""Traces: what follows one request through the services, and what is used when nobody follows."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from services.endpoints.domain.ports.tracer import Span, SpanKind, Tracer

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED: Final = 1

_current: ContextVar[str | None] = ContextVar("kongflow_traceparent", default=None)


def current_traceparent() -> str | None:
    """Return the span that everything done here belongs to, as `traceparent` says it; None when nothing is traced."""
    return _current.get()


def set_traceparent(traceparent: str | None) -> None:
    """Say which span everything belongs to that the running task does from now on."""
    _current.set(traceparent)


def read_traceparent(text: str | None) -> str | None:
    """Return a caller's `traceparent`, or None when it is none.

    Source: W3C Trace Context, version 00.
    """
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def is_sampled(traceparent: str | None) -> bool:
    """Tell whether the trace is recorded."""
    return traceparent is not None and bool(int(traceparent[-2:], 16) & _SAMPLED)


def trace_id(traceparent: str) -> str:
    """Return the trace that a span belongs to, in 32 hexadecimal digits."""
    return traceparent.split("-")[1]


@contextmanager
def spanning(
    tracer: Tracer,
    name: str,
    *,
    kind: SpanKind,
    parent: str | None = None,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[Span]:
    """Have everything in the block belong to a new span, which ends with it; an exception leaves its type's name."""
    before = _current.get()
    span = tracer.begin(name, kind=kind, parent=parent, attributes=attributes)
    _current.set(span.traceparent)
    failure: str | None = None
    try:
        yield span
    except BaseException as error:
        failure = type(error).__name__
        raise
    finally:
        # A stream may be closed from another context than it began in, where no token would be valid.
        _current.set(before)
        span.end(failure=failure)


class _NoSpan:
    """A span that nobody records."""

    traceparent: Final = None

    def note(self, name: str, value: str | int) -> None:
        """Record nothing."""

    def end(self, *, failure: str | None = None) -> None:
        """Record nothing."""


NO_SPAN: Final = _NoSpan()


class NoTracer:
    """Records nothing."""

    is_on: Final = False

    def begin(
        self,
        name: str,  # noqa: ARG002 - the port's
        *,
        kind: SpanKind,  # noqa: ARG002 - the port's
        parent: str | None = None,  # noqa: ARG002 - the port's
        attributes: Mapping[str, str | int] | None = None,  # noqa: ARG002 - the port's
    ) -> Span:
        """Return a span that records nothing."""
        return NO_SPAN


NO_TRACER: Final = NoTracer()
