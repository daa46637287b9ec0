"""The events that the demo sends, and what it looks at until they are done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cli.failures import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.connection import Connection

_DONE_WITHIN: Final = timedelta(seconds=15)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """An event to send."""

    name: str
    payload_json: str


def send_events(connection: Connection, events: tuple[DemoEvent, ...]) -> list[Any]:
    """Send events and return them as they were stored.

    Raises:
        CommandError: the server refused or cannot be reached.
    """
    from kongflow.v1 import event_service_pb2  # noqa: PLC0415 - loaded by now

    request = event_service_pb2.SendEventsRequest(
        environment_id=connection.target.environment_id,
        events=[event_service_pb2.NewEvent(name=event.name, payload_json=event.payload_json) for event in events],
    )
    sent = connection.call("EventService.SendEvents", request).events
    return [
        connection.call("EventService.GetEvent", event_service_pb2.GetEventRequest(id=event.id)).event for event in sent
    ]


def explained_when_done(
    connection: Connection,
    event: Any,  # noqa: ANN401 - Event
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Any:  # noqa: ANN401 - ExplainEventResponse
    """Return the explanation of an event once it is delivered and nothing of it waits; `pause` gets seconds.

    Raises:
        CommandError: it was not done within 15 s, or the server refused or cannot be reached.
    """
    from kongflow.v1 import event_invocation_pb2, event_pb2, event_service_pb2  # noqa: PLC0415 - loaded by now

    deadline = time.monotonic() + _DONE_WITHIN.total_seconds()
    while True:
        request = event_service_pb2.ExplainEventRequest(id=event.id)
        explanation = connection.list_all("EventService.ExplainEvent", request, field="dispatchers")
        waits = any(
            one.HasField("invocation") and one.invocation.state == event_invocation_pb2.EVENT_INVOCATION_STATE_PENDING
            for one in explanation.dispatchers
        )
        if explanation.event.state != event_pb2.EVENT_STATE_PENDING and not waits:
            return explanation
        if time.monotonic() > deadline:
            raise CommandError(f"The event {event.name} was not done within {_DONE_WITHIN.total_seconds():.0f} s.")
        pause(_LOOK_AGAIN_AFTER.total_seconds())


def reasons(explanation: Any) -> Iterator[str]:  # noqa: ANN401 - ExplainEventResponse
    """Yield, for each dispatcher whose filter did not match, the clause that failed as a sentence's end."""
    for one in explanation.dispatchers:
        if one.HasField("failed_clause"):
            clause = one.failed_clause
            yield f"{clause.path} must be {clause.expected} and is {clause.found}"
