"""ListEvents: filters, pages, and who sees what."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import event_pb2
from kongflow.v1.event_service_pb2 import CancelEventRequest, ListEventsRequest

from tests.support.events import get, new_event, send, send_many
from tests.support.rpc import refused

if TYPE_CHECKING:
    from tests.support.rpc import Caller
    from tests.support.stage import Stage


async def listed(caller: Caller, **fields: Any) -> list[str]:
    answer = await caller.events.ListEvents(ListEventsRequest(**fields))
    return [event.event_id for event in answer.events]


async def test_filters_take_what_matches_all_of_them_newest_first(stage: Stage) -> None:
    events = [
        new_event("a", event_id="1"),
        new_event("a", event_id="2", source="shop", account_id="x"),
        new_event("b", event_id="3", source="shop", account_id="y"),
        new_event("a", event_id="4", source="shop", account_id="x", payload_json="[1]"),
    ]
    sent = (await send_many(stage.developer, events)).events
    await send(stage.service.caller(stage.ours.production_key), event_id="elsewhere", account_id="x")
    await stage.developer.events.CancelEvent(CancelEventRequest(id=sent[3].id))
    second = (await get(stage.developer, sent[1].id)).create_time.ToDatetime()
    third = (await get(stage.developer, sent[2].id)).create_time.ToDatetime()

    assert await listed(stage.developer) == ["4", "3", "2", "1"]
    assert await listed(stage.developer, name="a", source="shop") == ["4", "2"]
    assert await listed(stage.developer, state=event_pb2.EVENT_STATE_CANCELLED) == ["4"]
    assert await listed(stage.developer, account_id="x", state=event_pb2.EVENT_STATE_PENDING) == ["2"]
    assert await listed(stage.developer, account_id="nobody") == []
    assert await listed(stage.developer, name="'; drop table events;--") == []
    assert await listed(stage.developer, created_from=second, created_before=third) == ["2"]
    assert await listed(stage.developer, created_before=second - timedelta(days=2)) == []
    answer = await stage.developer.events.ListEvents(ListEventsRequest())
    assert {(event.payload_json, event.context_json) for event in answer.events} == {("", "")}
    assert [event.account_id for event in answer.events] == ["x", "y", "x", ""]


async def test_pages_hold_every_event_once_and_belong_to_their_filter(stage: Stage) -> None:
    await send_many(stage.developer, [new_event("a", event_id=f"{number:02}") for number in range(25)])
    seen: list[str] = []
    token = ""
    while True:
        page = await stage.developer.events.ListEvents(ListEventsRequest(name="a", page_size=10, page_token=token))
        seen += [event.event_id for event in page.events]
        token = page.next_page_token or token
        if not page.next_page_token:
            break

    assert seen == [f"{number:02}" for number in reversed(range(25))]
    wrong = await refused(stage.developer.events.ListEvents(ListEventsRequest(name="b", page_token=token)))
    assert wrong.fields == ["page_token"]


async def test_strangers_and_senseless_filters_are_refused(stage: Stage) -> None:
    there = stage.ours.development.id
    stranger = stage.service.caller(stage.theirs.development_key)
    refusal = await refused(stranger.events.ListEvents(ListEventsRequest(environment_id=there)))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert await listed(stage.reader, environment_id=there) == []
    assert (await refused(stage.reader.events.ListEvents(ListEventsRequest()))).fields == ["environment_id"]
    senseless = ListEventsRequest(
        environment_id="x",
        state=99,  # type: ignore[arg-type]
        created_from=Timestamp(seconds=10),
        created_before=Timestamp(seconds=5),
        page_size=-1,
    )
    refusal = await refused(stage.developer.events.ListEvents(senseless))
    assert (refusal.code, refusal.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["environment_id", "created_before", "state", "page_size"],
    )
