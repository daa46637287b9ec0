"""From the domain to messages: events. Empty means none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1 import event_pb2

from services.endpoints.rpc import enums
from services.endpoints.rpc.convert import dated, optional_id

if TYPE_CHECKING:
    from services.endpoints.domain.event import Event


def event_message(event: Event) -> event_pb2.Event:
    """Return an event, with its payload and context when those were read."""
    return dated(
        event_pb2.Event(
            id=str(event.id),
            event_id=event.event_id,
            environment_id=str(event.environment_id),
            name=event.name,
            source=event.source,
            payload_json=event.payload_json or "",
            context_json=event.context_json or "",
            payload_type=enums.PAYLOAD_TYPE[event.payload_type],
            account_id=event.account or "",
            state=enums.EVENT_STATE[event.state],
            priority=enums.PRIORITY[event.priority],
            match_count=event.match_count,
            queue_job_id=str(event.queue_job_id),
            replay_of=optional_id(event.replay_of),
            is_test=event.is_test,
        ),
        timestamp=event.event_time,
        deliver_time=event.deliver_at,
        create_time=event.created_at,
        update_time=event.updated_at,
        delivery_time=event.delivered_at,
        cancel_time=event.cancelled_at,
    )
