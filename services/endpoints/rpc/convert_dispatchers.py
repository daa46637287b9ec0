"""Dispatchers as messages: what is stored is shown, and what a caller writes is checked field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kongflow.v1 import dispatcher_pb2

from services.endpoints.domain.dispatcher import (
    ANYTHING,
    DispatchableType,
    DispatcherChanges,
    NewDispatcher,
    filter_problem,
)
from services.endpoints.domain.errors import Reason
from services.endpoints.domain.event import DEFAULT_SOURCE
from services.endpoints.domain.filter_shape import find_dispatcher_filter_problem
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.json_text import JsonTextError, parse_json
from services.endpoints.domain.offer import MAX_EVENT_NAMES, find_key_problem
from services.endpoints.rpc import enums
from services.endpoints.rpc.convert import dated
from services.endpoints.rpc.validate import MAX_JSON_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.dispatcher import Dispatcher
    from services.endpoints.rpc.validate import Checks

MAX_NAME_CHARACTERS: Final = 256

_MAX_PATH_CHARACTERS: Final = 300

UPDATABLE: Final = frozenset(
    {"event_names", "source", "payload_filter_json", "context_filter_json", "enabled", "manual", "account_id"}
)
_IMMUTABLE: Final = frozenset({"id", "environment_id", "origin", "job_version_id", "dynamic_trigger_id"})
_FIELDS: Final = frozenset(dispatcher_pb2.Dispatcher.DESCRIPTOR.fields_by_name)


def dispatcher_message(dispatcher: Dispatcher) -> dispatcher_pb2.Dispatcher:
    """Return a dispatcher."""
    message = dated(
        dispatcher_pb2.Dispatcher(
            id=str(dispatcher.id),
            environment_id=str(dispatcher.environment_id),
            origin=enums.DISPATCHER_ORIGIN[dispatcher.origin],
            event_names=dispatcher.event_names,
            source=dispatcher.source,
            payload_filter_json=dispatcher.payload_filter_json,
            context_filter_json=dispatcher.context_filter_json,
            enabled=dispatcher.is_enabled,
            manual=dispatcher.is_manual,
            account_id=dispatcher.account or "",
            filter_problem=filter_problem(dispatcher) or "",
        ),
        create_time=dispatcher.created_at,
        update_time=dispatcher.updated_at,
    )
    if dispatcher.dispatchable_type is DispatchableType.JOB_VERSION:
        message.job_version_id = str(dispatcher.dispatchable_id)
    else:
        message.dynamic_trigger_id = str(dispatcher.dispatchable_id)
    return message


def read_dispatcher(checks: Checks, message: dispatcher_pb2.Dispatcher) -> NewDispatcher:
    """Read what a caller says about a new dispatcher; what the server makes is not looked at."""
    dispatchable_type, dispatchable_id = DispatchableType.JOB_VERSION, NIL_UUID
    match message.WhichOneof("dispatchable"):
        case "job_version_id":
            dispatchable_id = checks.uuid("dispatcher.job_version_id", message.job_version_id)
        case "dynamic_trigger_id":
            dispatchable_type = DispatchableType.DYNAMIC_TRIGGER
            dispatchable_id = checks.uuid("dispatcher.dynamic_trigger_id", message.dynamic_trigger_id)
        case _:
            checks.refuse("dispatcher.dispatchable", "must be given: job_version_id or dynamic_trigger_id")
    return NewDispatcher(
        event_names=_event_names(checks, message.event_names),
        dispatchable_type=dispatchable_type,
        dispatchable_id=dispatchable_id,
        source=_name(checks, "dispatcher.source", message.source) or DEFAULT_SOURCE,
        payload_filter_json=_filter(checks, "dispatcher.payload_filter_json", message.payload_filter_json),
        context_filter_json=_filter(checks, "dispatcher.context_filter_json", message.context_filter_json),
        is_enabled=message.enabled,
        is_manual=message.manual,
        account=_name(checks, "dispatcher.account_id", message.account_id) or None,
    )


def read_changes(checks: Checks, message: dispatcher_pb2.Dispatcher, mask: Sequence[str]) -> DispatcherChanges:
    """Read the fields that an update mask names.

    Source: AIP-134 for `*`; AIP-203 for output-only fields, which are ignored.
    """
    paths = set(mask)
    if not paths:
        checks.refuse("update_mask", "must name what to change")
    for path in sorted(paths - {"*"}):
        if path not in _FIELDS:
            checks.refuse("update_mask", f"must not name {path!r:.100}, which is no field of a dispatcher")
        elif path in _IMMUTABLE:
            checks.refuse("update_mask", f"must not name {path!r}, which never changes")
    changed = UPDATABLE if "*" in paths else paths & UPDATABLE
    return DispatcherChanges(
        event_names=_event_names(checks, message.event_names) if "event_names" in changed else None,
        source=(_name(checks, "dispatcher.source", message.source) or DEFAULT_SOURCE) if "source" in changed else None,
        payload_filter_json=_filter(checks, "dispatcher.payload_filter_json", message.payload_filter_json)
        if "payload_filter_json" in changed
        else None,
        context_filter_json=_filter(checks, "dispatcher.context_filter_json", message.context_filter_json)
        if "context_filter_json" in changed
        else None,
        is_enabled=message.enabled if "enabled" in changed else None,
        is_manual=message.manual if "manual" in changed else None,
        account=_name(checks, "dispatcher.account_id", message.account_id) if "account_id" in changed else None,
    )


def _event_names(checks: Checks, names: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(names) <= MAX_EVENT_NAMES:
        checks.refuse("dispatcher.event_names", f"must hold 1 to {MAX_EVENT_NAMES} names")
        return ()
    seen: set[str] = set()
    for place, name in enumerate(names):
        problem = find_key_problem(name, max_characters=MAX_NAME_CHARACTERS)
        if problem or name in seen:
            checks.refuse(f"dispatcher.event_names[{place}]", problem or "must not be there twice")
        seen.add(name)
    return tuple(names)


def _name(checks: Checks, field: str, text: str) -> str:
    """Read a name that may be empty."""
    if text and (problem := find_key_problem(text, max_characters=MAX_NAME_CHARACTERS)):
        checks.refuse(field, problem)
    return text


def _filter(checks: Checks, field: str, text: str) -> str:
    """Read a filter; empty means any. The text is returned as it came."""
    if not text:
        return ANYTHING
    if len(text.encode()) > MAX_JSON_BYTES:
        checks.refuse(field, f"must be at most {MAX_JSON_BYTES} bytes", reason=Reason.PAYLOAD_TOO_LARGE)
        return text
    try:
        problem = find_dispatcher_filter_problem(parse_json(text))
    except JsonTextError as error:
        checks.refuse(field, f"must be JSON: {error.reason}")
        return text
    if problem is not None:
        path, description = problem
        place = "".join(f"[{step!r}]" for step in path)
        shown = place if len(place) <= _MAX_PATH_CHARACTERS else f"{place[:_MAX_PATH_CHARACTERS]}…"
        checks.refuse(field, f"{shown} {description}".lstrip())
    return text
