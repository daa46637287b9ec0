from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.endpoints.domain.dispatcher import (
    DispatchableType,
    Dispatcher,
    DispatcherChanges,
    DispatcherOrigin,
    change_refusal,
    delete_refusal,
    filter_problem,
)
from services.endpoints.domain.errors import Reason

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
WRITTEN_BY_CALLER = Dispatcher(
    id=UUID(int=1),
    environment_id=UUID(int=2),
    origin=DispatcherOrigin.API,
    event_names=("order.paid",),
    source="trigger.dev",
    payload_filter_json="{}",
    context_filter_json="{}",
    is_enabled=True,
    is_manual=False,
    account=None,
    dispatchable_type=DispatchableType.JOB_VERSION,
    dispatchable_id=UUID(int=3),
    created_at=EPOCH,
    updated_at=EPOCH,
)
WRITTEN_BY_INDEX = replace(WRITTEN_BY_CALLER, origin=DispatcherOrigin.INDEX)
# One change of each field, among them those to a value that is false.
EACH = {
    "event_names": ("a",),
    "source": "shop",
    "payload_filter_json": "{}",
    "context_filter_json": '{"a": [1]}',
    "is_enabled": False,
    "is_manual": False,
    "account": "",
}


def test_each_field_counts_as_a_change() -> None:
    assert EACH.keys() == {field.name for field in fields(DispatcherChanges)}
    assert DispatcherChanges().is_empty
    for name, value in EACH.items():
        assert not DispatcherChanges(**{name: value}).is_empty, name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EACH)
def test_an_index_decides_all_but_whether_its_dispatcher_is_enabled(name: str) -> None:
    changes = DispatcherChanges(**{name: EACH[name]})  # type: ignore[arg-type]
    assert change_refusal(WRITTEN_BY_CALLER, changes) is None
    refusal = change_refusal(WRITTEN_BY_INDEX, changes)
    assert (refusal is None) is (name == "is_enabled")
    both = change_refusal(WRITTEN_BY_INDEX, replace(changes, is_enabled=True))
    assert (both is None) is (name == "is_enabled")
    if refusal is not None:
        assert refusal.reason is Reason.WRONG_STATE
        assert refusal.metadata["resource"] == "dispatcher"


def test_only_a_callers_dispatcher_can_be_deleted() -> None:
    assert delete_refusal(WRITTEN_BY_CALLER) is None
    refusal = delete_refusal(WRITTEN_BY_INDEX)
    assert refusal is not None
    assert refusal.reason is Reason.WRONG_STATE


@pytest.mark.parametrize(
    ("payload", "context", "problem"),
    [
        ("{}", "{}", None),
        ('{"a": [{"$gt": 1, "$lt": 2}]}', '{"a": []}', None),
        ('{"a": "x"}', "{}", "payload_filter_json: The filter['a'] must be an object or an array."),
        ("{}", "[]", "context_filter_json: The filter must be an object."),
        ("null", "null", "payload_filter_json: The filter must be an object."),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(payload: str, context: str, problem: str | None) -> None:
    stored = replace(WRITTEN_BY_INDEX, payload_filter_json=payload, context_filter_json=context)
    assert filter_problem(stored) == problem
