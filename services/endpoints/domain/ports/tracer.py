"""Who records what a request went through."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpanKind(Enum):
    """What a span is for its trace: a call answered, a call made, or work taken from a queue."""

    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


class Span(Protocol):
    """One step of a trace; it never fails and never waits."""

    @property
    def traceparent(self) -> str | None:
        """The span as the next step is told of it; None when nothing is recorded."""
        ...

    def note(self, name: str, value: str | int) -> None:
        """Add a fact: a name, a number or an id; never a text that a customer chose."""
        ...

    def end(self, *, failure: str | None = None) -> None:
        """End the span; `failure` is the name of what went wrong."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    @property
    def is_on(self) -> bool:
        """Tell whether anything is recorded."""
        ...

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind,
        parent: str | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> Span:
        """Begin a span below `parent`, a `traceparent`; None begins a trace of its own."""
        ...
