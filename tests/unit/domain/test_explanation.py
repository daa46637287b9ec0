"""Verdicts of dispatchers, and sentences about events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from services.endpoints.domain.dispatcher import DispatchableType, Dispatcher, DispatcherOrigin
from services.endpoints.domain.event import Event, EventState, PayloadType
from services.endpoints.domain.explanation import (
    InvocationCounts,
    JudgedEvent,
    Verdict,
    judge,
    summarize_draft,
    summarize_event,
)
from services.endpoints.domain.queue_job import Priority

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
ID = UUID(int=1)
DISPATCHER = Dispatcher(
    id=ID,
    environment_id=ID,
    origin=DispatcherOrigin.API,
    event_names=("order.paid",),
    source="shop",
    payload_filter_json='{"total": [{"$gt": 5}]}',
    context_filter_json="{}",
    is_enabled=True,
    is_manual=False,
    account=None,
    dispatchable_type=DispatchableType.JOB_VERSION,
    dispatchable_id=ID,
    created_at=NOW,
    updated_at=NOW,
)
JUDGED = JudgedEvent(name="order.paid", source="shop", account=None, subject={"payload": {"total": 9}, "context": {}})
EVENT = Event(
    id=ID,
    event_id="e",
    environment_id=ID,
    name="order.paid",
    source="shop",
    payload_json=None,
    context_json=None,
    payload_type=PayloadType.JSON,
    account=None,
    event_time=NOW,
    state=EventState.DELIVERED,
    deliver_at=NOW,
    priority=Priority.NORMAL,
    match_count=0,
    queue_job_id=ID,
    replay_of=None,
    is_test=False,
    created_at=NOW,
    updated_at=NOW,
    delivered_at=NOW,
    cancelled_at=None,
)
NOBODY = "It was delivered, and nothing ran: nobody listens to 'order.paid' from the source 'shop'."
# From the first verdict that counts to the last: each row adds its own reason to those below it.
WORST_FIRST: list[tuple[Verdict, dict[str, Any]]] = [
    (Verdict.MANUAL, {"is_manual": True}),
    (Verdict.DISABLED, {"is_enabled": False}),
    (Verdict.OTHER_SOURCE, {"source": "elsewhere"}),
    (Verdict.OTHER_ACCOUNT, {"account": "acme"}),
    (Verdict.UNREADABLE_FILTER, {"payload_filter_json": '{"a": 1}'}),
]


@pytest.mark.parametrize("place", range(len(WORST_FIRST)))
def test_of_several_reasons_the_first_counts(place: int) -> None:
    changes = {name: value for _, change in WORST_FIRST[place:] for name, value in change.items()}
    assert judge(replace(DISPATCHER, **changes), replace(JUDGED, subject=None)) == (WORST_FIRST[place][0], None)


def test_filter_is_asked_last_and_names_the_clause_that_failed() -> None:
    assert judge(DISPATCHER, JUDGED) == (Verdict.MATCHED, None)
    verdict, failure = judge(DISPATCHER, replace(JUDGED, subject={"payload": {"total": 5}, "context": {}}))
    assert verdict is Verdict.FILTERED
    assert failure is not None
    assert (failure.path, failure.expected, failure.found) == ("payload.total", "$gt 5", "5")
    assert judge(DISPATCHER, replace(JUDGED, subject=None)) == (Verdict.UNREADABLE_PAYLOAD, None)
    assert judge(replace(DISPATCHER, payload_filter_json="{}"), replace(JUDGED, subject=None))[0] is Verdict.MATCHED


def test_dispatcher_of_an_account_wants_the_events_of_that_account_only() -> None:
    of_acme = replace(DISPATCHER, account="acme")
    for account, verdict in (
        ("acme", Verdict.MATCHED),
        ("other", Verdict.OTHER_ACCOUNT),
        (None, Verdict.OTHER_ACCOUNT),
    ):
        assert judge(of_acme, replace(JUDGED, account=account))[0] is verdict
    assert judge(DISPATCHER, replace(JUDGED, account="acme"))[0] is Verdict.MATCHED


@pytest.mark.parametrize(
    ("changes", "counts", "verdicts", "sentence"),
    [
        (
            {"state": EventState.PENDING, "deliver_at": NOW + timedelta(hours=1)},
            {},
            [],
            "It waits until 2026-05-17 13:00:00 UTC, when it will be delivered.",
        ),
        ({"state": EventState.PENDING}, {}, [], "It is due and waits for its turn."),
        (
            {"state": EventState.CANCELLED, "cancelled_at": NOW},
            {},
            [],
            "It was cancelled at 2026-05-17 12:00:00 UTC, before it was delivered.",
        ),
        (
            {"state": EventState.FAILED},
            {},
            [],
            f"Every attempt to deliver it failed: its queue job {ID} says why and can be retried.",
        ),
        (
            {"match_count": 4},
            {"pending": 1, "completed": 1, "skipped": 1, "failed": 1, "runs": 3},
            [],
            "It was given to 4 dispatchers, which made 3 runs; 1 waiting, 1 skipped, 1 failed.",
        ),
        (
            {},
            {},
            [],
            NOBODY,
        ),
        (
            {},
            {},
            [Verdict.OTHER_SOURCE] * 2,
            NOBODY.replace("'shop'.", "'shop', and 2 from another."),
        ),
        (
            {},
            {},
            [Verdict.FILTERED],
            "It was delivered, and nothing ran: the one dispatcher that listens to 'order.paid' does not want it.",
        ),
        (
            {},
            {},
            [Verdict.FILTERED, Verdict.MANUAL],
            "It was delivered, and nothing ran: none of the 2 dispatchers that listen to 'order.paid' wants it.",
        ),
    ],
)
def test_event_says_in_one_sentence_what_came_of_it(
    changes: dict[str, Any], counts: dict[str, int], verdicts: Sequence[Verdict], sentence: str
) -> None:
    event = replace(EVENT, **changes)
    assert (
        summarize_event(event, InvocationCounts(**counts), verdicts, is_everyone=True, is_due=event.deliver_at <= NOW)
        == sentence
    )


def test_one_page_of_several_speaks_for_itself_only() -> None:
    assert (
        summarize_event(EVENT, InvocationCounts(), [Verdict.FILTERED], is_everyone=False, is_due=True)
        == "It was delivered, and nothing ran: of those that listen to 'order.paid' none wanted it."
    )
    assert (
        summarize_draft(JUDGED, [Verdict.FILTERED] * 2, is_everyone=False)
        == "None of the 2 dispatchers of this page would get it."
    )
    assert (
        summarize_draft(JUDGED, [Verdict.FILTERED, Verdict.MATCHED], is_everyone=False)
        == "It would be given to 1 of 2 dispatchers of this page."
    )
