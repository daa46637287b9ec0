"""When two events of one event id are the same event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.endpoints.domain.event import NewEvent, PayloadType
from services.endpoints.domain.event_content import differing_fields
from services.endpoints.domain.queue_job import Priority

TIME = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = NewEvent("name", payload_json='{"a":[1,{"b":null}],"c":2}', context_json='{"x":1}', event_time=TIME)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"payload_json": ' {"c":2, "a" : [1,{"b":null}]} '},
        {"event_time": None},
        {"deliver_at": TIME, "priority": Priority.HIGH},
        {"deliver_in": timedelta(hours=1)},
    ],
)
def test_same_content_however_it_is_written_and_whenever_it_is_delivered(changes: dict[str, Any]) -> None:
    assert differing_fields(replace(FIRST, **changes), FIRST) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "other"}, "name"),
        ({"source": "other"}, "source"),
        ({"payload_json": '{"a":[1,{"b":null}],"c":2.0}'}, "payload_json"),
        ({"payload_json": '{"a":[true,{"b":null}],"c":2}'}, "payload_json"),
        ({"payload_json": '{"a":[1,{"b":null}]}'}, "payload_json"),
        ({"context_json": "{}"}, "context_json"),
        ({"payload_type": PayloadType.REQUEST}, "payload_type"),
        ({"account": "somebody"}, "account_id"),
        ({"is_test": True}, "is_test"),
        ({"event_time": TIME + timedelta(microseconds=1)}, "timestamp"),
    ],
)
def test_other_content_is_named_by_its_field(changes: dict[str, Any], field: str) -> None:
    assert differing_fields(replace(FIRST, **changes), FIRST) == [field]
