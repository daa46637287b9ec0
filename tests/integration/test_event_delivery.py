"""Which dispatchers an event is given to, once, whatever happens around it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from services.endpoints.domain.catalog import DELIVER_EVENT, INVOKE_DISPATCHER
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.lanes import event_lane
from services.endpoints.domain.ledger_settings import Retention
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Priority
from services.endpoints.operations.deliver_event import DeliverEvent
from services.endpoints.operations.invoke_dispatcher import InvokeDispatcher
from services.endpoints.operations.prune import Prune
from services.endpoints.store.dispatch import PostgresDispatch
from tests.support.dispatching import Scene, new_scene
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ports.dispatch import StoredFilters
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.store.postgres import PostgresStore


@pytest.fixture
async def scene(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    return await new_scene(store, connection)


async def test_an_event_runs_the_jobs_that_listen_to_it(scene: Scene) -> None:
    await scene.register("welcome", "audit")
    await scene.register("invoice", event="order.paid")

    event = await scene.send(is_test=True)
    await scene.work_off()

    assert (await scene.event(event))["state"] == "DELIVERED"
    assert (await scene.event(event))["match_count"] == 2
    assert [(each["state"], each["run_count"], each["reason"]) for each in await scene.invocations(event)] == [
        ("COMPLETED", 1, None),
        ("COMPLETED", 1, None),
    ]
    assert await scene.runs() == [("audit", 1, "1.0.0"), ("welcome", 1, "1.0.0")]
    run = await scene.tenant.row(
        "SELECT state, preprocess, is_test, endpoint_id, external_account_id, queue_id FROM job_runs LIMIT 1"
    )
    assert run == {
        "state": "PENDING",
        "preprocess": False,
        "is_test": True,
        "endpoint_id": scene.endpoint_id,
        "external_account_id": None,
        "queue_id": None,
    }


async def test_an_event_that_nobody_wants_is_delivered_to_nobody(scene: Scene) -> None:
    event = await scene.send("nobody.listens")
    await scene.work_off()

    assert (await scene.event(event))["state"] == "DELIVERED"
    assert (await scene.event(event))["delivered_at"] is not None
    assert (await scene.event(event))["match_count"] == 0


async def test_invocations_share_the_lane_and_the_priority_of_their_event(scene: Scene) -> None:
    await scene.register("welcome", "audit")

    await scene.send(priority=Priority.HIGH, event_id="order-17")
    await scene.work_off()

    lane = event_lane(scene.tenant.environment_id, "order-17")
    invocations = await scene.queue_jobs(INVOKE_DISPATCHER.name)
    assert [(each["lane"], each["priority"], each["state"]) for each in invocations] == [(lane, 1, "COMPLETED")] * 2


@pytest.mark.parametrize(
    ("dispatcher", "event", "is_wanted"),
    [
        ({}, {}, True),
        ({"enabled": False}, {}, False),
        ({"operator_disabled": True}, {}, False),
        ({"manual": True}, {}, False),
        ({"source": "elsewhere"}, {}, False),
        ({"source": "elsewhere"}, {"source": "elsewhere"}, True),
        ({"payload_filter": {"plan": ["pro"]}}, {"payload": '{"plan": "pro"}'}, True),
        ({"payload_filter": {"plan": ["pro"]}}, {"payload": '{"plan": "free"}'}, False),
        ({"payload_filter": {"user": {"plan": ["pro"]}}}, {"payload": "{}"}, False),
        ({"payload_filter": {"user": {"plan": ["pro"]}}}, {"payload": '{"user": null}'}, False),
        ({"payload_filter": {"n": [9007199254740993]}}, {"payload": '{"n": 9007199254740993}'}, True),
        ({"payload_filter": {"n": [9007199254740993]}}, {"payload": '{"n": 9007199254740992}'}, False),
        ({"context_filter": {"region": ["eu"]}}, {"context": '{"region": "eu"}'}, True),
        ({"context_filter": {"region": ["eu"]}}, {"context": '{"region": "us"}'}, False),
        ({"payload_filter": {"body": {"a": [1]}}}, {"payload": "[REQUEST]", "payload_type": "REQUEST"}, True),
        ({"payload_filter": {"body": {"a": [2]}}}, {"payload": "[REQUEST]", "payload_type": "REQUEST"}, False),
        ({"payload_filter": {"method": ["POST"]}}, {"payload": "[BROKEN]", "payload_type": "REQUEST"}, False),
        ({}, {"payload": "[BROKEN]", "payload_type": "REQUEST"}, True),
    ],
)
async def test_a_dispatcher_wants_what_its_rule_says(
    scene: Scene, dispatcher: dict[str, Any], event: dict[str, Any], is_wanted: bool
) -> None:
    await scene.register("welcome", event="other")
    await scene.dispatcher(version_id=await scene.version_id("welcome"), **dispatcher)
    for name, raw_body in (("[REQUEST]", '{"a": 1}'), ("[BROKEN]", '{"a": ')):
        if event.get("payload") == name:
            headers = {"content-type": "application/json"}
            event = {**event, "payload": json.dumps({"method": "POST", "headers": headers, "rawBody": raw_body})}

    record_id = await scene.send(**event)
    await scene.work_off()

    assert (await scene.event(record_id))["match_count"] == int(is_wanted)
    assert len(await scene.runs()) == int(is_wanted)


async def test_a_dispatcher_of_an_account_wants_events_of_that_account_only(scene: Scene) -> None:
    await scene.register("welcome", event="other")
    version_id = await scene.version_id("welcome")
    ours, theirs = await scene.account("ours"), await scene.account("theirs")
    of_ours = await scene.dispatcher(version_id=version_id, account_id=ours)
    of_all = await scene.dispatcher(version_id=version_id)

    events = {name: await scene.send(account_id=account) for name, account in (("ours", ours), ("theirs", theirs))}
    events["nobody's"] = await scene.send()
    await scene.work_off()

    given = {
        name: {each["dispatcher_id"] for each in await scene.invocations(record_id)}
        for name, record_id in events.items()
    }
    assert given == {"ours": {of_ours, of_all}, "theirs": {of_all}, "nobody's": {of_all}}
    accounts = await scene.tenant.rows("SELECT external_account_id, count(*) FROM job_runs GROUP BY 1")
    assert {row["external_account_id"]: row["count"] for row in accounts} == {ours: 2, theirs: 1, None: 1}


@pytest.mark.parametrize("broken", ['{"a": ["x", 1]}', '{"a": [{"$nope": 1}]}', "[]", '"text"', "null"])
async def test_a_filter_that_is_none_is_reported_and_blocks_nobody(scene: Scene, broken: str) -> None:
    await scene.register("welcome", "audit")
    blocked = await scene.connection.fetchval(
        "UPDATE event_dispatchers SET payload_filter = $1 WHERE job_version_id = $2 RETURNING id",
        broken,
        await scene.version_id("audit"),
    )

    event = await scene.send(payload='{"a": "x"}')
    with capture_logs() as logs:
        await scene.work_off()

    assert (await scene.event(event))["match_count"] == 1
    assert await scene.runs() == [("welcome", 1, "1.0.0")]
    (reported,) = [entry for entry in logs if entry["event"] == "dispatcher_filter_unreadable"]
    assert reported["dispatcher_id"] == str(blocked)
    assert reported["log_level"] == "warning"
    assert b"kongflow_unreadable_filters_total 1.0" in scene.metrics.render()


async def test_content_that_cannot_be_read_fails_its_own_event_for_good(scene: Scene) -> None:
    await scene.register("welcome", payload={"a": ["x"]})
    too_deep = "[" * 65 + "]" * 65
    bad, good = await scene.send(payload=too_deep), await scene.send(payload='{"a": "x"}')

    with capture_logs():
        await scene.work_off()

    assert (await scene.event(bad))["state"] == "FAILED"
    assert (await scene.event(good))["state"] == "DELIVERED"
    errors = {each["state"]: json.loads(each["errors"]) for each in await scene.queue_jobs(DELIVER_EVENT.name)}
    assert [error["reason"] for error in errors["DISCARDED"]] == ["UNREADABLE_CONTENT"]


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "DELIVERED", None])
async def test_an_event_that_does_not_wait_is_not_delivered(scene: Scene, state: str | None) -> None:
    await scene.register("welcome")
    event = await scene.send()
    if state is None:
        await scene.connection.execute("DELETE FROM events")
    else:
        await scene.connection.execute(
            "UPDATE events SET state = $1::text, cancelled_at = CASE WHEN $1 = 'CANCELLED' THEN now() END,"
            " delivered_at = CASE WHEN $1 = 'DELIVERED' THEN now() END",
            state,
        )

    await scene.work_off()

    assert [each["state"] for each in await scene.queue_jobs(DELIVER_EVENT.name)] == ["COMPLETED"]
    assert await scene.queue_jobs(INVOKE_DISPATCHER.name) == []
    if state is not None:
        assert (await scene.event(event))["state"] == state


async def test_an_event_delivered_four_times_at_once_is_given_once(scene: Scene) -> None:
    await scene.register("welcome", "audit", "bill")
    events = [await scene.send() for _ in range(25)]
    queue_jobs = await scene.pulled(DELIVER_EVENT.name)
    assert len(queue_jobs) == 25

    async def deliver() -> None:
        async with scene.store.transaction(Pool.CALLERS) as tx:
            await scene.deliver.run(tx, queue_jobs)

    await asyncio.gather(*(deliver() for _ in range(4)))
    await scene.work_off()

    assert {(await scene.event(event))["match_count"] for event in events} == {3}
    assert len(await scene.queue_jobs(INVOKE_DISPATCHER.name)) == 75
    assert sorted(number for slug, number, _ in await scene.runs() if slug == "bill") == list(range(1, 26))
    assert len(await scene.runs()) == 75


async def test_an_event_that_is_being_cancelled_is_not_delivered(scene: Scene) -> None:
    await scene.register("welcome")
    event = await scene.send()
    queue_jobs = await scene.pulled(DELIVER_EVENT.name)

    async def deliver(tx: Transaction) -> None:
        await scene.deliver.run(tx, queue_jobs)

    async with scene.store.transaction() as cancelling:
        await cancelling.dispatch.cancel_events([event])
        delivering = asyncio.create_task(scene.store.transact(deliver, Pool.CALL_BACKS))
        await eventually(scene.somebody_waits_for_a_lock)
    await delivering

    assert (await scene.event(event))["state"] == "CANCELLED"
    assert await scene.invocations(event) == []
    assert await scene.queue_jobs(INVOKE_DISPATCHER.name) == []


async def test_a_delivery_that_rolls_back_leaves_nothing(scene: Scene) -> None:
    await scene.register("welcome")
    event = await scene.send()
    queue_jobs = await scene.pulled(DELIVER_EVENT.name)

    async def die(tx: Transaction) -> None:
        await scene.deliver.run(tx, queue_jobs)
        raise RuntimeError("the server dies")

    with pytest.raises(RuntimeError, match="the server dies"):
        await scene.store.transact(die)

    assert (await scene.event(event))["state"] == "PENDING"
    assert await scene.invocations(event) == []
    assert await scene.queue_jobs(INVOKE_DISPATCHER.name) == []


async def test_events_with_many_listeners_are_spread_over_transactions(scene: Scene) -> None:
    await scene.register(*(f"job-{number}" for number in range(10)))
    events = [await scene.send() for _ in range(8)]
    deliver = DeliverEvent(new_id=new_uuid7, observer=scene.metrics, max_invocations=25)
    queue_jobs = await scene.pulled(DELIVER_EVENT.name)

    async with scene.store.transaction() as tx:
        left = [each.queue_job for each in await deliver.run(tx, queue_jobs)]

    assert left == queue_jobs[2:]
    states = [(await scene.event(event))["state"] for event in events]
    assert states.count("DELIVERED") == 2
    async with scene.store.transaction() as tx:
        assert list(await deliver.run(tx, left[:1])) == []


async def test_filters_are_read_once_and_a_few_of_them_together(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.register("welcome", event="other")
    version_id, names = await scene.version_id("welcome"), [f"name-{number}" for number in range(30)]
    long = "x" * 10_000
    listening = [
        await scene.dispatcher(*names, version_id=version_id, payload_filter={"plan": [plan, plan + long]})
        for plan in ("pro", "free") * 4
    ]
    of_all = await scene.dispatcher("name-3", version_id=version_id)
    events = [await scene.send(name, payload='{"plan": "pro"}') for name in names]
    read: list[list[int]] = []
    read_filters = PostgresDispatch.read_filters

    async def counted(self: PostgresDispatch, ids: Collection[UUID]) -> dict[UUID, StoredFilters]:
        found = await read_filters(self, ids)
        read.append([len(filters.payload_filter_json) for filters in found.values()])
        return found

    monkeypatch.setattr(PostgresDispatch, "read_filters", counted)
    deliver = DeliverEvent(new_id=new_uuid7, observer=scene.metrics, max_filter_bytes=50_000)
    async with scene.store.transaction() as tx:
        assert list(await deliver.run(tx, await scene.pulled(DELIVER_EVENT.name))) == []

    assert sum(len(part) for part in read) == len(listening) + 1
    assert max(len(part) for part in read) > 1
    assert max(sum(part) for part in read) < 50_000
    for name, event in zip(names, events, strict=True):
        wanting = {*listening[::2], of_all} if name == "name-3" else {*listening[::2]}
        assert {each["dispatcher_id"] for each in await scene.invocations(event)} == wanting
        assert (await scene.event(event))["match_count"] == len(wanting)


async def test_what_a_handler_leaves_is_taken_up_again(scene: Scene) -> None:
    await scene.register(*(f"job-{number}" for number in range(10)))
    events = [await scene.send(event_id=f"event-{number}") for number in range(30)]
    scene.deliver._max_invocations = 25
    scene.invoke._max_runs = 3

    await scene.work_off()

    assert {(await scene.event(event))["state"] for event in events} == {"DELIVERED"}
    assert len(await scene.runs()) == 300
    waiting = "SELECT count(*) FROM queue_jobs WHERE finalized_at IS NULL"
    assert await scene.connection.fetchval(waiting) == 0


async def test_tenant_with_many_listeners_leaves_its_neighbour_nothing_to_wait_for(scene: Scene) -> None:
    await scene.register(*(f"job-{number}" for number in range(30)))
    neighbour = await new_scene(scene.store, scene.connection)
    await neighbour.register("welcome")
    for _ in range(3):
        await scene.send(priority=Priority.HIGH)
    event = await neighbour.send()
    deliver = DeliverEvent(new_id=new_uuid7, observer=scene.metrics, max_invocations=25)

    deliveries = await scene.pulled(DELIVER_EVENT.name)
    async with scene.store.transaction() as tx:
        assert len(await deliver.run(tx, deliveries)) == 3
    assert (await neighbour.event(event))["state"] == "DELIVERED"

    async with scene.store.transaction() as tx:
        await scene.deliver.run(tx, deliveries)
    invoke = InvokeDispatcher(new_id=new_uuid7, max_runs=2)
    async with scene.store.transaction() as tx:
        await invoke.run(tx, await scene.pulled(INVOKE_DISPATCHER.name))
    assert [each["state"] for each in await neighbour.invocations(event)] == ["COMPLETED"]


async def test_unreadable_args_fail_their_own_queue_job(scene: Scene) -> None:
    await scene.register("welcome")
    good = await scene.send()
    await scene.send()
    await scene.connection.execute(
        "UPDATE queue_jobs SET args = '{\"id\": 7}' WHERE id = (SELECT max(queue_job_id::text)::uuid FROM events)"
    )

    with capture_logs():
        await scene.work_off()

    assert (await scene.event(good))["state"] == "DELIVERED"
    states = sorted(each["state"] for each in await scene.queue_jobs(DELIVER_EVENT.name))
    assert states == ["COMPLETED", "DISCARDED"]


async def test_old_events_go_with_their_runs_and_those_that_wait_stay(scene: Scene) -> None:
    await scene.register("welcome")
    old, fresh = await scene.send(), await scene.send()
    await scene.work_off()
    waiting, undelivered = await scene.send(), await scene.send("user.created")
    async with scene.store.transaction() as tx:
        queue_jobs = await scene.pulled(DELIVER_EVENT.name)
        await scene.deliver.run(tx, [each for each in queue_jobs if each.args["id"] == str(waiting)])
    await scene.connection.execute(
        "UPDATE events SET updated_at = now() - interval '31 days' WHERE id = ANY($1::uuid[])",
        [old, waiting, undelivered],
    )

    async with scene.store.transaction() as tx:
        await Prune(retention=Retention(), new_id=new_uuid7).run(tx, [])

    left = {row["id"] for row in await scene.tenant.rows("SELECT id FROM events")}
    assert left == {fresh, waiting, undelivered}
    assert [number for _, number, _ in await scene.runs()] == [2]


async def test_an_old_event_with_many_runs_goes_in_bites(scene: Scene) -> None:
    await scene.register(*(f"job-{number}" for number in range(7)))
    await scene.send()
    await scene.work_off()
    await scene.connection.execute("UPDATE events SET updated_at = now() - interval '31 days'")
    counts = (
        "SELECT ARRAY[(SELECT count(*) FROM job_runs), (SELECT count(*) FROM event_invocations), count(*)] FROM events"
    )

    left = []
    for _ in range(2):
        async with scene.store.transaction() as tx:
            await tx.dispatch.delete_old_events(older_than=timedelta(days=30), limit=4)
        left.append(await scene.connection.fetchval(counts))

    assert left == [[3, 3, 1], [0, 0, 0]]


async def test_runs_of_an_endpoint_go_in_bites_with_those_of_versions_that_came_to_it(scene: Scene) -> None:
    await scene.register(*(f"job-{number}" for number in range(7)))
    await scene.send()
    await scene.work_off()
    other = await scene.tenant.endpoint("other")
    await scene.connection.execute(
        "UPDATE job_runs SET endpoint_id = $1 WHERE id IN (SELECT id FROM job_runs ORDER BY id LIMIT 3)",
        other,
    )
    await scene.connection.execute(
        "UPDATE job_versions SET endpoint_id = $1 WHERE id = (SELECT version_id FROM job_runs ORDER BY id LIMIT 1)",
        other,
    )

    left = []
    goes_on = True
    while goes_on:
        goes_on = await scene.store.transact(lambda tx: tx.dispatch.delete_runs(scene.endpoint_id, limit=3))
        left.append(await scene.connection.fetchval("SELECT count(*) FROM job_runs"))

    # Four are its own, and two were made for the other endpoint by versions that it has now: one stays.
    assert left == [4, 1, 1]
