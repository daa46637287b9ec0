"""Reads what a sender says about an event, violation by violation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from services.endpoints.domain.errors import Reason
from services.endpoints.domain.event import DEFAULT_SOURCE, NewEvent, PayloadType
from services.endpoints.domain.json_text import JsonTextError, parse_json
from services.endpoints.domain.queue_job import Priority
from services.endpoints.rpc import enums
from services.endpoints.rpc.validate import CONTROL_CHARACTER, MAX_JSON_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from kongflow.v1 import event_service_pb2 as messages

    from services.endpoints.domain.json_text import JsonValue
    from services.endpoints.rpc.validate import Checks

MAX_TIME_AHEAD: Final = timedelta(days=366)
MAX_TEXT_CHARACTERS: Final = 256
MAX_KEYS: Final = 10_000
MAX_KEY_CHARACTERS: Final = 1_024

_EMPTY: Final = "{}"
_PRIORITIES: Final = enums.members(enums.PRIORITY)
_PAYLOAD_TYPES: Final = enums.members(enums.PAYLOAD_TYPE)
_REQUEST_TEXTS: Final = ("url", "method", "rawBody")


def read_new_event(checks: Checks, field: str, event: messages.NewEvent, *, now: datetime) -> NewEvent:
    """Read an event that is to be sent; violations, under the path `field`, go to `checks`.

    `now` decides only what lies too far ahead.
    """
    deliver = event.WhichOneof("deliver")
    payload_type = checks.enum(f"{field}.payload_type", event.payload_type, _PAYLOAD_TYPES) or PayloadType.JSON
    deliver_at = None
    if deliver == "deliver_time":
        deliver_at = checks.time(f"{field}.deliver_time", event.deliver_time, latest=now + MAX_TIME_AHEAD)
    return NewEvent(
        name=_text(checks, f"{field}.name", event.name),
        payload_json=_payload(checks, f"{field}.payload_json", _given(event, "payload_json"), payload_type),
        context_json=_context(checks, f"{field}.context_json", _given(event, "context_json")),
        event_id=_text(checks, f"{field}.event_id", event.event_id) if event.event_id else None,
        source=_text(checks, f"{field}.source", event.source) if event.source else DEFAULT_SOURCE,
        event_time=checks.time(f"{field}.timestamp", event.timestamp) if event.HasField("timestamp") else None,
        deliver_at=deliver_at,
        deliver_in=checks.duration(f"{field}.deliver_delay", event.deliver_delay, most=MAX_TIME_AHEAD)
        if deliver == "deliver_delay"
        else None,
        priority=checks.enum(f"{field}.priority", event.priority, _PRIORITIES) or Priority.NORMAL,
        account=_text(checks, f"{field}.account_id", event.account_id) if event.account_id else None,
        payload_type=payload_type,
        is_test=event.is_test,
    )


def read_event_id(checks: Checks, field: str, text: str) -> str:
    """Read a required event id."""
    return _text(checks, field, text)


def _text(checks: Checks, field: str, text: str) -> str:
    if not text or len(text) > MAX_TEXT_CHARACTERS or CONTROL_CHARACTER.search(text):
        checks.refuse(field, f"must be 1 to {MAX_TEXT_CHARACTERS} characters without control characters")
    return text


def _given(event: messages.NewEvent, field: Literal["payload_json", "context_json"]) -> str:
    text: str = getattr(event, field) if event.HasField(field) else _EMPTY
    return text


def _payload(checks: Checks, field: str, text: str, payload_type: PayloadType) -> str:
    parsed = _json(checks, field, text)
    if parsed is not None and payload_type is PayloadType.REQUEST and not _is_request(parsed[0]):
        checks.refuse(
            field,
            "must be an object with the texts `url`, `method` and `rawBody` and the object `headers`, "
            "because the payload is a request",
        )
    return text


def _context(checks: Checks, field: str, text: str) -> str:
    parsed = _json(checks, field, text)
    if parsed is not None and not isinstance(parsed[0], dict):
        checks.refuse(field, "must be a JSON object")
    return text


def _json(checks: Checks, field: str, text: str) -> tuple[JsonValue] | None:
    """Return the value, in a tuple because it may be null; None when it was refused."""
    if (len(text) if text.isascii() else len(text.encode())) > MAX_JSON_BYTES:
        checks.refuse(field, f"must be at most {MAX_JSON_BYTES} bytes", reason=Reason.PAYLOAD_TOO_LARGE)
        return None
    try:
        value = parse_json(text)
    except JsonTextError as error:
        checks.refuse(field, f"must be JSON: {error.reason}")
        return None
    if problem := _refused_keys(text, value):
        checks.refuse(field, problem)
        return None
    return (value,)


def _refused_keys(text: str, value: JsonValue) -> str | None:
    # Each key takes a colon, and none is longer than its text: most documents need no second look.
    if len(text) <= MAX_KEY_CHARACTERS and text.count(":") <= MAX_KEYS:
        return None
    keys = 0
    level: list[JsonValue] = [value]
    while level:
        below: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                keys += len(item)
                if any(len(key) > MAX_KEY_CHARACTERS for key in item):
                    return f"must not have a key of more than {MAX_KEY_CHARACTERS} characters"
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    return f"must not have more than {MAX_KEYS} keys" if keys > MAX_KEYS else None


def _is_request(value: JsonValue) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), str) for key in _REQUEST_TEXTS)
        and isinstance(value.get("headers"), dict)
    )
