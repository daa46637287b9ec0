"""Reads an index answer item by item: one bad item never spoils the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.json_text import canonical_hash, find_unstorable
from services.endpoints.domain.offer import (
    CONTROL_CHARACTERS,
    MAX_JOB_SLUG_CHARACTERS,
    MAX_SLUG_CHARACTERS,
    MAX_SOURCE_KEY_CHARACTERS,
    DynamicTriggerOffer,
    JobOffer,
    SourceOffer,
    find_key_problem,
)
from services.endpoints.domain.versions import is_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from services.endpoints.domain.json_text import JsonObject, JsonValue

DEFAULT_MAX_ITEMS: Final = 20_000

_MAX_ISSUES_SHOWN: Final = 3
_MAX_KEY_SHOWN: Final = 80
_MAX_REASON_CHARACTERS: Final = 1_000
_FORMAT_ISSUE: Final = "There's an issue with the format of your Jobs: {issues}"


class IndexAnswerError(Exception):
    """An answer in which not even the lists can be found; the sentence is stored on the index."""


class Disposition(Enum):
    """What is to be done with one item of an answer."""

    ACCEPTED = "ACCEPTED"
    DISABLED = "DISABLED"
    REFUSED = "REFUSED"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class IndexItem:
    """One item of an answer.

    `ordinal` counts from 0 through all lists in the order of `data`. `payload` is what its registration carries: the
    item with defaults filled in and unknown keys dropped; it is empty unless the item is ACCEPTED. `content_hash` is
    the canonical hash of `payload`. `is_keyed` is False when the item's own key could not be read and `key` is its
    place.
    """

    ordinal: int
    kind: ItemKind
    key: str
    version: str | None
    disposition: Disposition
    reason: str | None
    payload: JsonObject
    content_hash: bytes
    is_keyed: bool = True


@dataclass(frozen=True, slots=True)
class IndexReading:
    """An answer that was read.

    `data` holds the lists as received, except that an item which cannot be stored is replaced by
    `{"unstorable": "<why>"}`. `found` counts valid, enabled, non-internal items by the protocol's names.
    """

    items: tuple[IndexItem, ...]
    data: JsonObject
    found: dict[str, int]

    @property
    def offered(self) -> list[tuple[ItemKind, str]]:
        """Return what the endpoint still offers: a refused item is offered, so what is stored of it stays as it was.

        The refused twin of an item that is switched off changes nothing: of equal keys the first counts.
        """
        switched_off = {(item.kind, item.key) for item in self.items if item.disposition is Disposition.DISABLED}
        return [
            (item.kind, item.key)
            for item in self.items
            if item.disposition is Disposition.ACCEPTED
            or (item.disposition is Disposition.REFUSED and item.is_keyed and (item.kind, item.key) not in switched_off)
        ]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the items of one list are read; without an adapter they are kept and not registered."""

    list_name: str
    kind: ItemKind
    label: str
    key_name: str = "id"
    adapter: TypeAdapter[BaseModel] | None = None
    is_required: bool = True
    max_key_characters: int = MAX_SLUG_CHARACTERS


_SHAPES: Final = (
    _Shape("jobs", ItemKind.JOB, "Job", adapter=TypeAdapter(JobOffer), max_key_characters=MAX_JOB_SLUG_CHARACTERS),
    _Shape(
        "sources",
        ItemKind.SOURCE,
        "Source",
        key_name="key",
        adapter=TypeAdapter(SourceOffer),
        max_key_characters=MAX_SOURCE_KEY_CHARACTERS,
    ),
    _Shape("dynamicTriggers", ItemKind.DYNAMIC_TRIGGER, "Dynamic trigger", adapter=TypeAdapter(DynamicTriggerOffer)),
    _Shape("dynamicSchedules", ItemKind.DYNAMIC_SCHEDULE, "Dynamic schedule", adapter=TypeAdapter(DynamicTriggerOffer)),
    _Shape("webhooks", ItemKind.WEBHOOK, "Webhook", key_name="key", is_required=False),
    _Shape("httpEndpoints", ItemKind.HTTP_ENDPOINT, "HTTP endpoint", is_required=False),
)
_EMPTY_HASH: Final = canonical_hash({})


def read_index_answer(value: JsonValue, *, max_items: int = DEFAULT_MAX_ITEMS) -> IndexReading:
    """Validate every item of an answer on its own and return what is to be done with each.

    `value` may hold what PostgreSQL refuses (`parse_json(…, must_be_storable=False)`): that item alone is REFUSED. Of
    items with the same key the first counts. A job with `enabled: false` is DISABLED whatever else it says.

    Raises:
        IndexAnswerError: the answer is no object, a required list is missing or no array, or there are more than
            `max_items` items in all.
    Source: protocol, sections 2.5, 9.3 and 10.2.
    """
    lists = _find_lists(value)
    count = sum(len(items) for items in lists.values())
    if count > max_items:
        raise IndexAnswerError(f"The endpoint offers {count:,} items; at most {max_items:,} are accepted.")
    read: list[IndexItem] = []
    data: JsonObject = {}
    for shape in _SHAPES:
        if shape.list_name not in lists:
            continue
        kept: list[JsonValue] = []
        seen: set[str] = set()
        for position, raw in enumerate(lists[shape.list_name]):
            problem = find_unstorable(raw)
            kept.append({"unstorable": problem} if problem else raw)
            read.append(_read_item(shape, raw, problem, position=position, ordinal=len(read), seen=seen))
        data[shape.list_name] = kept
    return IndexReading(tuple(read), data, _count(read))


def _find_lists(value: JsonValue) -> dict[str, list[JsonValue]]:
    if not isinstance(value, dict):
        raise IndexAnswerError(_FORMAT_ISSUE.format(issues=f"Expected object, received {_name_type(value)}"))
    lists: dict[str, list[JsonValue]] = {}
    issues: list[str] = []
    for shape in _SHAPES:
        items = value.get(shape.list_name)
        if isinstance(items, list):
            lists[shape.list_name] = items
        elif items is not None:
            issues.append(f'Expected array, received {_name_type(items)} at "{shape.list_name}"')
        elif shape.is_required:
            issues.append(f'Required at "{shape.list_name}"')
    if issues:
        raise IndexAnswerError(_FORMAT_ISSUE.format(issues="; ".join(issues)))
    return lists


def _read_item(
    shape: _Shape, raw: JsonValue, unstorable: str | None, *, position: int, ordinal: int, seen: set[str]
) -> IndexItem:
    place = f"{shape.list_name}[{position}]"
    if not isinstance(raw, dict):
        return _refused(shape, place, ordinal, f"{place}: it must be an object", is_keyed=False)
    key = raw.get(shape.key_name)
    problem = find_key_problem(key, max_characters=shape.max_key_characters)
    if problem or not isinstance(key, str):
        sentence = f"{place}: {shape.key_name} {problem if shape.key_name in raw else 'is required'}"
        return _refused(shape, place, ordinal, sentence, is_keyed=False)
    is_repeated = key in seen
    seen.add(key)
    version = _read_version(shape, raw)
    label = f"{shape.label} {json.dumps(key[:_MAX_KEY_SHOWN], ensure_ascii=False)}"
    if shape.adapter is None:
        reason = f"{label}: kept in the index's data and not registered"
        return IndexItem(ordinal, shape.kind, key, version, Disposition.UNSUPPORTED, reason, {}, _EMPTY_HASH)
    if shape.kind is ItemKind.JOB and raw.get("enabled") is False and not is_repeated:
        return IndexItem(ordinal, shape.kind, key, version, Disposition.DISABLED, None, {}, _EMPTY_HASH)
    obstacle = f"{shape.key_name} is listed more than once" if is_repeated else unstorable
    try:
        payload = _read_payload(shape.adapter, raw, obstacle)
    except _RefusedItemError as error:
        return _refused(shape, key, ordinal, f"{label}: {error}", version=version)
    return IndexItem(ordinal, shape.kind, key, version, Disposition.ACCEPTED, None, payload, canonical_hash(payload))


class _RefusedItemError(Exception):
    """What is wrong with an item whose key could be read."""


def _refused(
    shape: _Shape, key: str, ordinal: int, reason: str, *, version: str | None = None, is_keyed: bool = True
) -> IndexItem:
    reason = CONTROL_CHARACTERS.sub("\ufffd", reason)
    if len(reason) > _MAX_REASON_CHARACTERS:
        reason = f"{reason[: _MAX_REASON_CHARACTERS - 1]}…"
    return IndexItem(ordinal, shape.kind, key, version, Disposition.REFUSED, reason, {}, _EMPTY_HASH, is_keyed)


def _read_version(shape: _Shape, raw: JsonObject) -> str | None:
    version = raw.get("version")
    return version if shape.kind is ItemKind.JOB and isinstance(version, str) and is_version(version) else None


def _read_payload(adapter: TypeAdapter[BaseModel], raw: JsonObject, obstacle: str | None) -> JsonObject:
    if obstacle:
        raise _RefusedItemError(f"{obstacle[0].lower()}{obstacle[1:].rstrip('.')}")
    try:
        offer = adapter.validate_python(raw)
    except ValidationError as error:
        raise _RefusedItemError(_describe(error.errors(include_url=False, include_input=False))) from error
    payload: JsonObject = offer.model_dump(by_alias=True, exclude_none=True)
    if isinstance(offer, SourceOffer):
        payload.pop("events", None)
        payload["options"] = _as_options(offer)
    return payload


def _as_options(offer: SourceOffer) -> JsonObject:
    """Return a source's options; version 1 has only events, which are the option of that name."""
    options = dict(offer.options or {})
    if offer.events is not None:
        options.setdefault("event", offer.events)
    return {name: [*dict.fromkeys(values)] for name, values in options.items()}


def _describe(errors: Sequence[ErrorDetails]) -> str:
    issues = [f"{_name_path(error)} {_name_issue(error)}" for error in errors[:_MAX_ISSUES_SHOWN]]
    if len(errors) > _MAX_ISSUES_SHOWN:
        issues.append(f"and {len(errors) - _MAX_ISSUES_SHOWN} more")
    return "; ".join(issues)


def _name_path(error: ErrorDetails) -> str:
    """Write a location as code does: `trigger.rule.event[0]`, without the names pydantic adds for unions and keys."""
    steps = [*error["loc"], *error.get("ctx", {}).get("path", ())]
    if error["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        steps.append("type")
    path = ""
    previous: str | int | None = None
    for step in steps:
        if step == "[key]" or (previous, step) in _TAGS:
            continue
        shown = step if isinstance(step, int) or step.isprintable() else json.dumps(step)
        path += f"[{shown}]" if isinstance(shown, int) else f".{shown}" if path else shown
        previous = step
    return path[: _MAX_KEY_SHOWN * 4]


def _name_issue(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    template = _ISSUES.get(error["type"])
    return template.format(**context) if template else error["msg"]


def _name_type(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"


def _count(items: Sequence[IndexItem]) -> dict[str, int]:
    found = {shape.list_name: 0 for shape in _SHAPES if shape.adapter is not None}
    names = {shape.kind: shape.list_name for shape in _SHAPES}
    for item in items:
        if item.disposition is Disposition.ACCEPTED and not item.payload.get("internal"):
            found[names[item.kind]] += 1
    return found


_TAGS: Final = frozenset(
    {("trigger", tag) for tag in ("static", "scheduled", "dynamic", "invoke")}
    | {("schedule", tag) for tag in ("cron", "interval")}
)
_ISSUES: Final = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "union_tag_not_found": "is required",
    "union_tag_invalid": "must be one of {expected_tags}",
    "too_short": "must have at least {min_length} elements",
    "too_long": "must have at most {max_length} elements",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "refused": "{description}",
}
