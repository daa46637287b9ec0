"""Whether two events that have one event id are the same event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.endpoints.domain.json_text import canonical_hash, parse_json

if TYPE_CHECKING:
    from services.endpoints.domain.event import Event, NewEvent


def differing_fields(sent: NewEvent, first: Event | NewEvent) -> list[str]:
    """Return the fields of the contract in which what is sent differs from what was sent first.

    Payloads and contexts are compared as JSON values: spaces and the order of keys do not count, 1 and 1.0 are two
    values. Times count only when `sent` says when it happened; when it is delivered, and how soon, never counts.
    """
    same = {
        "name": sent.name == first.name,
        "source": sent.source == first.source,
        "payload_json": _is_same_json(sent.payload_json, first.payload_json),
        "context_json": _is_same_json(sent.context_json, first.context_json),
        "payload_type": sent.payload_type is first.payload_type,
        "account_id": sent.account == first.account,
        "is_test": sent.is_test == first.is_test,
        "timestamp": sent.event_time is None or sent.event_time == first.event_time,
    }
    return [field for field, is_same in same.items() if not is_same]


def _is_same_json(sent: str, first: str | None) -> bool:
    if first is None:
        return False
    return sent == first or canonical_hash(parse_json(sent)) == canonical_hash(parse_json(first))
