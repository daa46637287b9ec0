"""From the domain to messages: what came of events. Empty means none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1 import event_explanation_pb2, event_invocation_pb2, event_service_pb2

from services.endpoints.rpc import enums
from services.endpoints.rpc.convert import dated
from services.endpoints.rpc.convert_dispatchers import dispatcher_message
from services.endpoints.rpc.convert_events import event_message

if TYPE_CHECKING:
    from services.endpoints.domain.explanation import DispatcherExplanation
    from services.endpoints.domain.run import Invocation
    from services.endpoints.operations.explanations import EventExplanation


def explanation_message(
    explanation: EventExplanation, *, next_page_token: str
) -> event_service_pb2.ExplainEventResponse:
    """Return a page of an explanation."""
    return event_service_pb2.ExplainEventResponse(
        event=event_message(explanation.event) if explanation.event is not None else None,
        summary=explanation.summary,
        is_duplicate=explanation.is_duplicate,
        dispatchers=map(dispatcher_explanation_message, explanation.dispatchers.items),
        next_page_token=next_page_token,
    )


def dispatcher_explanation_message(explained: DispatcherExplanation) -> event_explanation_pb2.DispatcherExplanation:
    """Return what one dispatcher makes of an event."""
    message = event_explanation_pb2.DispatcherExplanation(
        dispatcher=dispatcher_message(explained.dispatcher), verdict=enums.VERDICT[explained.verdict]
    )
    if (failure := explained.failure) is not None:
        message.failed_clause.CopyFrom(
            event_explanation_pb2.FilterClause(path=failure.path, expected=failure.expected, found=failure.found)
        )
    if explained.invocation is not None:
        message.invocation.CopyFrom(invocation_message(explained.invocation))
    return message


def invocation_message(invocation: Invocation) -> event_invocation_pb2.EventInvocation:
    """Return what came of giving an event to a dispatcher."""
    return dated(
        event_invocation_pb2.EventInvocation(
            state=enums.INVOCATION_STATE[invocation.state],
            queue_job_id=str(invocation.queue_job_id),
            run_count=invocation.run_count,
            reason=invocation.reason or "",
        ),
        create_time=invocation.created_at,
        update_time=invocation.updated_at,
    )
