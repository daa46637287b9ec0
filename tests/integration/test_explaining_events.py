"""ExplainEvent: for every dispatcher that listens to an event, whether it wants it and why not, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
import pytest
from kongflow.v1 import event_explanation_pb2, event_invocation_pb2, event_service_pb2

from services.endpoints.domain.queue_job import Queue
from tests.support.dispatchers import DispatcherStage
from tests.support.events import new_event, send
from tests.support.rpc import refused

if TYPE_CHECKING:
    import asyncpg

    from tests.support.stage import Stage

    Connection = asyncpg.Connection[asyncpg.Record]

PAID = "order.paid"
VERDICT = event_explanation_pb2.DispatcherVerdict


@pytest.fixture
async def dispatching(stage: Stage, connection: Connection) -> DispatcherStage:
    return await DispatcherStage(stage, connection).prepare()


async def explain(dispatching: DispatcherStage, **fields: Any) -> Any:
    return await dispatching.stage.developer.events.ExplainEvent(event_service_pb2.ExplainEventRequest(**fields))


def verdicts(answer: Any) -> dict[str, str]:
    return {
        one.dispatcher.id: VERDICT.Name(one.verdict).removeprefix("DISPATCHER_VERDICT_") for one in answer.dispatchers
    }


async def work_off(stage: Stage) -> None:
    """Ring and answer until nothing is due in the queue of events."""
    operations = stage.service.operations
    publisher: Any = operations.relay._publisher
    while True:
        await operations.relay.run_once()
        messages = publisher.messages.pop(Queue.EVENTS.value, [])
        if not messages:
            return
        for lanes in messages:
            await operations.runner.run_queue_jobs(Queue.EVENTS, lanes)


async def test_every_dispatcher_that_listens_has_a_verdict_in_the_order_of_their_ids(
    dispatching: DispatcherStage, connection: Connection
) -> None:
    plan = '{"user": {"plan": ["pro", "team"]}}'
    expected = {
        (await dispatching.created(payload_filter_json=plan)).id: "FILTERED",
        (await dispatching.created(payload_filter_json='{"total": [{"$gt": 5}]}')).id: "MATCHED",
        (await dispatching.created(context_filter_json='{"region": ["eu"]}')).id: "FILTERED",
        (await dispatching.created(manual=True, enabled=False)).id: "MANUAL",
        (await dispatching.created(enabled=False, source="shop")).id: "DISABLED",
        (await dispatching.created(source="shop", account_id="other")).id: "OTHER_SOURCE",
        (await dispatching.created(account_id="other")).id: "OTHER_ACCOUNT",
        (await dispatching.created(account_id="acme")).id: "MATCHED",
    }
    broken = await dispatching.created()
    await connection.execute(
        "UPDATE event_dispatchers SET payload_filter = '{\"a\": 5}' WHERE id = $1", UUID(broken.id)
    )
    expected[broken.id] = "UNREADABLE_FILTER"
    await dispatching.created(event_names=["order.sent"])
    draft = new_event(PAID, payload_json='{"user": {"plan": "free"}, "total": 6}', account_id="acme")

    answer = await explain(dispatching, draft=draft)

    assert verdicts(answer) == expected
    assert [one.dispatcher.id for one in answer.dispatchers] == sorted(expected)
    clauses = [one.failed_clause for one in answer.dispatchers if one.HasField("failed_clause")]
    assert [(clause.path, clause.expected, clause.found) for clause in clauses] == [
        ("payload.user.plan", 'one of "pro", "team"', '"free"'),
        ("context.region", '"eu"', "nothing"),
    ]
    assert answer.summary == f"It would be given to 2 of 9 dispatchers listening to '{PAID}'."
    assert not answer.HasField("event")
    assert not answer.is_duplicate
    assert not any(one.HasField("invocation") for one in answer.dispatchers)


async def test_body_that_is_no_json_is_an_unreadable_payload_for_those_who_read_it(
    dispatching: DispatcherStage,
) -> None:
    reads = await dispatching.created(payload_filter_json='{"body": {"a": [1]}}')
    takes_all = await dispatching.created()
    request = (
        '{"url": "http://x/", "method": "POST", "headers": {"content-type": "application/json"}, "rawBody": "no json"}'
    )
    draft = new_event(PAID, payload_json=request, payload_type="PAYLOAD_TYPE_REQUEST")
    answer = await explain(dispatching, draft=draft)
    assert verdicts(answer) == {reads.id: "UNREADABLE_PAYLOAD", takes_all.id: "MATCHED"}


async def test_delivered_event_tells_what_came_of_each_that_got_it(dispatching: DispatcherStage) -> None:
    wants = await dispatching.created()
    filtered = await dispatching.created(payload_filter_json='{"total": [{"$gt": 5}]}')
    empty_trigger = await dispatching.created(job_version_id=None, dynamic_trigger_id=dispatching.dynamic_trigger_id)
    event = (await send(dispatching.stage.developer, name=PAID, payload_json='{"total": 1}')).event
    await work_off(dispatching.stage)

    answer = await explain(dispatching, id=event.id)

    assert verdicts(answer) == {wants.id: "MATCHED", filtered.id: "FILTERED", empty_trigger.id: "MATCHED"}
    by_id = {one.dispatcher.id: one for one in answer.dispatchers}
    ran = by_id[wants.id].invocation
    assert (ran.state, ran.run_count, ran.reason) == (
        event_invocation_pb2.EVENT_INVOCATION_STATE_COMPLETED,
        1,
        "",
    )
    skipped = by_id[empty_trigger.id].invocation
    assert skipped.state == event_invocation_pb2.EVENT_INVOCATION_STATE_SKIPPED
    assert "has no jobs" in skipped.reason
    assert not by_id[filtered.id].HasField("invocation")
    assert answer.event.match_count == 2
    assert answer.summary == "It was given to 2 dispatchers, which made 1 run; 1 skipped."


async def test_event_is_found_by_its_event_id_and_says_for_how_long_it_waits(dispatching: DispatcherStage) -> None:
    developer = dispatching.stage.developer
    event = (await send(developer, name=PAID, event_id="mine", deliver_delay={"seconds": 3600})).event
    answer = await explain(dispatching, event_id="mine")
    assert answer.event == event
    until = event.deliver_time.ToDatetime()
    assert answer.summary == f"It waits until {until:%Y-%m-%d %H:%M:%S} UTC, when it will be delivered."
    cancelled = (await developer.events.CancelEvent(event_service_pb2.CancelEventRequest(id=event.id))).event
    assert (await explain(dispatching, id=event.id)).summary.startswith(
        f"It was cancelled at {cancelled.cancel_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
    )


async def test_event_that_nobody_wanted_says_whether_anybody_listens(dispatching: DispatcherStage) -> None:
    unheard = (await send(dispatching.stage.developer, name="order.lost")).event
    await dispatching.created(source="shop")
    elsewhere = (await send(dispatching.stage.developer, name=PAID)).event
    await work_off(dispatching.stage)
    start = "It was delivered, and nothing ran: nobody listens to"
    assert (await explain(dispatching, id=unheard.id)).summary == f"{start} 'order.lost' from the source 'trigger.dev'."
    assert (
        await explain(dispatching, id=elsewhere.id)
    ).summary == f"{start} 'order.paid' from the source 'trigger.dev', and 1 from another."


async def test_draft_whose_event_id_is_taken_says_so_and_shows_the_stored_event(dispatching: DispatcherStage) -> None:
    event = (await send(dispatching.stage.developer, name=PAID, event_id="mine", payload_json='{"a": 1}')).event
    same = await explain(dispatching, draft=new_event(PAID, event_id="mine", payload_json='{"a":1}'))
    other = await explain(dispatching, draft=new_event(PAID, event_id="mine", payload_json='{"a":2}'))
    for answer in (same, other):
        assert answer.is_duplicate
        assert answer.event == event
    assert same.summary == "Its event id is taken: sending it returns the first event, which is PENDING."
    assert "other content (payload_json): sending it is refused" in other.summary


async def test_dispatchers_come_in_pages_and_a_token_is_good_for_its_event_only(dispatching: DispatcherStage) -> None:
    ids = [(await dispatching.created()).id for _ in range(3)]
    draft = new_event(PAID)
    first = await explain(dispatching, draft=draft, page_size=2)
    rest = await explain(dispatching, draft=draft, page_size=2, page_token=first.next_page_token)
    assert [one.dispatcher.id for one in (*first.dispatchers, *rest.dispatchers)] == sorted(ids)
    assert first.summary == "It would be given to 2 of 2 dispatchers of this page."
    assert rest.next_page_token == ""
    refusal = await refused(explain(dispatching, draft=new_event("x"), page_token=first.next_page_token))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


async def test_what_cannot_be_explained_is_refused(dispatching: DispatcherStage) -> None:
    stage = dispatching.stage
    event = (await send(stage.developer, name=PAID)).event
    stranger = stage.service.caller(stage.theirs.service_token)
    theirs = await refused(stranger.events.ExplainEvent(event_service_pb2.ExplainEventRequest(id=event.id)))
    assert theirs.reason == "NOT_FOUND"
    for fields, refused_field in (
        ({}, "id"),
        ({"id": "x"}, "id"),
        ({"draft": new_event("")}, "draft.name"),
        ({"draft": new_event(PAID, payload_json="{")}, "draft.payload_json"),
        ({"id": event.id, "page_size": -1}, "page_size"),
    ):
        refusal = await refused(explain(dispatching, **fields))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [refused_field]), fields
    assert (await refused(explain(dispatching, event_id="nowhere"))).reason == "NOT_FOUND"


async def test_explaining_stores_nothing(dispatching: DispatcherStage, connection: Connection) -> None:
    before = await connection.fetchval("SELECT count(*) FROM queue_jobs")
    await explain(dispatching, draft=new_event(PAID, event_id="never", account_id="new"))
    assert await connection.fetchval("SELECT count(*) FROM queue_jobs") == before
    for table in ("events", "external_accounts", "event_invocations"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
