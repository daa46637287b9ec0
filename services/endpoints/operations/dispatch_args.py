"""What the queue jobs of events name: the event to deliver, or the dispatcher to invoke with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from services.endpoints.domain.attempt import AttemptFailedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.ports.dispatch import InvocationKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_Named = TypeVar("_Named")

UNREADABLE: Final = "The args of the queue job cannot be read, so it would fail again."


def invocation_args(key: InvocationKey) -> dict[str, Any]:
    """Return the args of an `events.invokeDispatcher`."""
    return {"id": str(key.dispatcher_id), "eventRecordId": str(key.event_record_id)}


def delivered_event(args: Mapping[str, Any]) -> UUID | None:
    """Return the event of a `deliverEvent`; None when its args do not say."""
    try:
        return UUID(args["id"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def invoked(args: Mapping[str, Any]) -> InvocationKey | None:
    """Return the invocation of an `events.invokeDispatcher`; None when its args do not say."""
    try:
        return InvocationKey(UUID(args["eventRecordId"]), UUID(args["id"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def required(named: _Named | None) -> _Named:
    """Return what args name.

    Raises:
        AttemptFailedError: they do not say, and never will.
    """
    if named is None:
        raise AttemptFailedError(UNREADABLE, reason=AttemptReason.UNREADABLE_ARGS, is_retryable=False)
    return named
