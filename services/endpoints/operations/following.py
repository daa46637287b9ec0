"""What follows a queue job while it is carried out: its span, and what log lines say of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.tracer import SpanKind
from services.endpoints.domain.tracing import is_sampled, spanning, trace_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.endpoints.domain.ports.tracer import Span, Tracer
    from services.endpoints.domain.queue_job import QueueJob


@contextmanager
def traced(tracer: Tracer, queue_jobs: Sequence[QueueJob]) -> Iterator[list[QueueJob]]:
    """Give each queue job whose trace is recorded a span for the time of the block.

    Its `trace_context` is that span's in the block, so that what it asks for belongs to its own trace and to no other.
    """
    if not tracer.is_on:
        yield list(queue_jobs)
        return
    spans: list[Span] = []
    followed = []
    for queue_job in queue_jobs:
        if not is_sampled(queue_job.trace_context):
            followed.append(queue_job)
            continue
        spans.append(span := _begin(tracer, queue_job))
        followed.append(queue_job._replace(trace_context=span.traceparent))
    failure: str | None = None
    try:
        yield followed
    except BaseException as error:
        failure = type(error).__name__
        raise
    finally:
        for span in spans:
            span.end(failure=failure)


def recorded(tracer: Tracer, queue_jobs: Sequence[QueueJob]) -> tuple[str, ...]:
    """Return where in their traces those queue jobs stand that are recorded."""
    if not tracer.is_on:
        return ()
    contexts = (queue_job.trace_context for queue_job in queue_jobs)
    return tuple(context for context in contexts if context is not None and is_sampled(context))


@contextmanager
def following(tracer: Tracer, queue_job: QueueJob) -> Iterator[None]:
    """Have the log lines and the span of one queue job follow it through the block."""
    names = {"operation": queue_job.kind, "queue_job_id": str(queue_job.id)}
    if queue_job.environment_id != NIL_UUID:
        names["environment_id"] = str(queue_job.environment_id)
    if isinstance(endpoint_id := queue_job.args.get("id"), str):
        names["endpoint_id"] = endpoint_id
    if queue_job.trace_context is not None:
        names["trace_id"] = trace_id(queue_job.trace_context)
    with structlog.contextvars.bound_contextvars(**names):
        if not tracer.is_on or not is_sampled(queue_job.trace_context):
            yield
            return
        with spanning(
            tracer,
            queue_job.kind,
            kind=SpanKind.CONSUMER,
            parent=queue_job.trace_context,
            attributes=_attributes(queue_job),
        ):
            yield


def _begin(tracer: Tracer, queue_job: QueueJob) -> Span:
    return tracer.begin(
        queue_job.kind,
        kind=SpanKind.CONSUMER,
        parent=queue_job.trace_context,
        attributes=_attributes(queue_job),
    )


def _attributes(queue_job: QueueJob) -> dict[str, str | int]:
    """Return what a span tells of a queue job: ids and numbers."""
    return {
        "kongflow.queue_job_id": str(queue_job.id),
        "kongflow.environment_id": str(queue_job.environment_id),
        "kongflow.queue": queue_job.queue.value,
        "kongflow.attempt": queue_job.attempt,
    }
