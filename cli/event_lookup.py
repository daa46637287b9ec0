"""Events as people name them: by the id that the server made, or by the sender's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.failures import CommandError
from cli.identifiers import is_uuid

if TYPE_CHECKING:
    from cli.connection import Connection


def call_for_event(connection: Connection, method: str, request: Any, event: str) -> Any:  # noqa: ANN401 - by method
    """Call a method whose request looks up one event, by id and else by event id in the target's environment.

    Raises:
        CommandError: there is none, or the server refused or cannot be reached.
    """
    not_found: CommandError | None = None
    if is_uuid(event):
        try:
            request.id = event
            return connection.call(method, request)
        except CommandError as error:
            if error.reason != "NOT_FOUND":
                raise
            not_found = error
    request.event_id = event
    request.environment_id = connection.target.environment_id
    try:
        return connection.call(method, request)
    except CommandError as error:
        raise not_found or error from None
