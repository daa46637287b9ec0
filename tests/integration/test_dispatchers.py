"""What callers do with dispatchers of their own, and with those that indexes wrote."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from kongflow.v1.dispatcher_pb2 import DISPATCHER_ORIGIN_API, DISPATCHER_ORIGIN_INDEX, Dispatcher

from services.endpoints.domain.identifiers import new_uuid7
from tests.support.dispatchers import DispatcherStage
from tests.support.eventually import eventually
from tests.support.offers import job, static_trigger
from tests.support.rpc import refused

if TYPE_CHECKING:
    import asyncpg

    from tests.support.stage import Stage

ACCOUNTS = "SELECT identifier, organization_id, environment_id FROM external_accounts ORDER BY identifier"
NAMES = "SELECT event_name, source FROM event_dispatcher_names WHERE dispatcher_id = $1 ORDER BY event_name"


@pytest.fixture
async def dispatching(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> DispatcherStage:
    return await DispatcherStage(stage, connection).prepare()


async def names(dispatching: DispatcherStage, dispatcher_id: str) -> list[tuple[str, str]]:
    rows = await dispatching.connection.fetch(NAMES, UUID(dispatcher_id))
    return [(row["event_name"], row["source"]) for row in rows]


async def test_a_new_dispatcher_is_what_was_asked_for(dispatching: DispatcherStage) -> None:
    ours = dispatching.stage.ours
    created = await dispatching.created(
        event_names=["order.paid", "order.sent"],
        source="shop",
        payload_filter_json='{"total": [{"$gte": 9007199254740993}], "rate": [1.0]}',
        context_filter_json='{"plan": ["pro"]}',
        manual=True,
        account_id="acme",
        job_version_id=None,
        dynamic_trigger_id=dispatching.dynamic_trigger_id,
        id="ignored",
        origin=DISPATCHER_ORIGIN_INDEX,
        filter_problem="ignored",
    )
    assert UUID(created.id).version == 7
    assert created.create_time == created.update_time
    assert json.loads(created.payload_filter_json) == {"total": [{"$gte": 9007199254740993}], "rate": [1.0]}
    assert "9007199254740993" in created.payload_filter_json
    assert "1.0" in created.payload_filter_json
    expected = Dispatcher(
        id=created.id,
        environment_id=ours.development.id,
        origin=DISPATCHER_ORIGIN_API,
        event_names=["order.paid", "order.sent"],
        source="shop",
        payload_filter_json=created.payload_filter_json,
        context_filter_json='{"plan": ["pro"]}',
        enabled=True,
        manual=True,
        account_id="acme",
        dynamic_trigger_id=dispatching.dynamic_trigger_id,
        create_time=created.create_time,
        update_time=created.update_time,
    )
    assert created == expected
    assert await dispatching.shown(created.id) == expected
    assert await names(dispatching, created.id) == [("order.paid", "shop"), ("order.sent", "shop")]
    assert [dict(row) for row in await dispatching.connection.fetch(ACCOUNTS)] == [
        {
            "identifier": "acme",
            "organization_id": UUID(ours.organization_id),
            "environment_id": UUID(ours.development.id),
        }
    ]


async def test_what_is_left_out_has_its_default(dispatching: DispatcherStage) -> None:
    created = await dispatching.created(enabled=None)
    assert (created.source, created.payload_filter_json, created.context_filter_json) == ("trigger.dev", "{}", "{}")
    assert (created.enabled, created.manual, created.account_id, created.filter_problem) == (False, False, "", "")
    assert created.job_version_id == dispatching.job_version_id


async def test_an_api_key_writes_in_its_own_environment(dispatching: DispatcherStage) -> None:
    created = (await dispatching.create(caller=dispatching.stage.developer, environment_id="")).dispatcher
    assert created.environment_id == dispatching.stage.ours.development.id


async def test_several_dispatchers_may_start_one_job_beside_its_own(dispatching: DispatcherStage) -> None:
    first, second = await dispatching.created(), await dispatching.created()
    assert await dispatching.listed() == [dispatching.index_dispatcher_id, first.id, second.id]


async def test_a_repeated_create_makes_one_dispatcher(dispatching: DispatcherStage) -> None:
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(dispatching.created(request_id=request_id, account_id="acme", event_names=["a", "b"]) for _ in range(8))
    )
    assert all(answer == answers[0] for answer in answers)
    assert await dispatching.listed(event_name="a") == [answers[0].id]


async def test_dispatchers_share_the_account_of_an_identifier(dispatching: DispatcherStage) -> None:
    await asyncio.gather(*(dispatching.created(account_id="acme") for _ in range(8)))
    assert len(await dispatching.connection.fetch(ACCOUNTS)) == 1


async def test_an_update_changes_what_its_mask_names(dispatching: DispatcherStage) -> None:
    before = await dispatching.created(source="shop", account_id="acme", payload_filter_json='{"a": [1]}')
    told = {
        "event_names": ["b", "c"],
        "source": "",
        "payload_filter_json": "",
        "context_filter_json": '{"b": [2]}',
        "manual": True,
        "account_id": "other",
    }
    for path, value in told.items():
        after = await dispatching.updated(before.id, path, **told)
        shown = {"source": "trigger.dev", "payload_filter_json": "{}"}.get(path, value)
        assert getattr(after, path) == shown, path
        before.ClearField(path)  # type: ignore[arg-type]
        before.MergeFrom(Dispatcher(**{path: shown}))  # type: ignore[arg-type]
        assert after.update_time.ToDatetime() > before.update_time.ToDatetime()
        before.update_time.CopyFrom(after.update_time)
        assert after == before, path
    assert await names(dispatching, before.id) == [("b", "trigger.dev"), ("c", "trigger.dev")]
    without = await dispatching.updated(before.id, "account_id", "enabled")
    assert (without.account_id, without.enabled, without.manual) == ("", False, True)


async def test_an_update_of_everything_sets_everything(dispatching: DispatcherStage) -> None:
    before = await dispatching.created(source="shop", account_id="acme", payload_filter_json='{"a": [1]}', manual=True)
    after = await dispatching.updated(before.id, "*", event_names=["x"])
    assert ([*after.event_names], after.source, after.payload_filter_json) == (["x"], "trigger.dev", "{}")
    assert (after.account_id, after.manual, after.enabled) == ("", False, False)
    assert after.job_version_id == before.job_version_id


async def test_an_update_that_changes_nothing_leaves_no_trace(dispatching: DispatcherStage) -> None:
    before = await dispatching.created(payload_filter_json='{"a": [1], "b": [2]}', account_id="acme")
    same = await dispatching.updated(
        before.id,
        "*",
        event_names=before.event_names,
        payload_filter_json='{"b":[2],"a":[1]}',
        enabled=True,
        account_id="acme",
    )
    assert same == before
    ignored = await dispatching.updated(before.id, "filter_problem", "create_time", "update_time", filter_problem="x")
    assert ignored == before


async def test_what_an_operator_disables_stays_so_whatever_indexes_find(dispatching: DispatcherStage) -> None:
    own = dispatching.index_dispatcher_id
    assert (await dispatching.shown(own)).enabled
    for _ in range(2):
        disabled = await dispatching.updated(own, "enabled", enabled=False)
        assert not disabled.enabled
    await dispatching.offer(2, "other", version="2.0.0")
    shown = await dispatching.shown(own)
    assert ([*shown.event_names], shown.enabled, shown.origin) == (["other"], False, DISPATCHER_ORIGIN_INDEX)
    assert shown.job_version_id != dispatching.job_version_id
    await dispatching.catalog.disable_absent(dispatching.app, 3)
    await dispatching.offer(4, "other", version="2.0.0")
    assert not (await dispatching.shown(own)).enabled
    assert (await dispatching.updated(own, "enabled", enabled=True)).enabled


async def test_an_operators_yes_does_not_bring_back_what_is_not_offered(dispatching: DispatcherStage) -> None:
    own = dispatching.index_dispatcher_id
    await dispatching.catalog.disable_absent(dispatching.app, 2)
    assert not (await dispatching.updated(own, "enabled", enabled=True)).enabled
    await dispatching.offer(3)
    assert (await dispatching.shown(own)).enabled


async def test_no_index_touches_a_callers_dispatcher(dispatching: DispatcherStage) -> None:
    created = await dispatching.created(event_names=["user.created"])
    stopped = await dispatching.created(enabled=False)
    of_trigger = await dispatching.created(job_version_id=None, dynamic_trigger_id=dispatching.dynamic_trigger_id)
    await dispatching.offer(2, "other", version="2.0.0")
    await dispatching.catalog.disable_absent(dispatching.app, 3)
    await dispatching.offer(4, "third")
    for before in (created, stopped, of_trigger):
        assert await dispatching.shown(before.id) == before
    assert await names(dispatching, created.id) == [("user.created", "trigger.dev")]


async def test_a_deleted_dispatcher_is_gone_with_its_names(dispatching: DispatcherStage) -> None:
    created, kept = await dispatching.created(), await dispatching.created()
    await dispatching.delete(created.id)
    assert await names(dispatching, created.id) == []
    assert await dispatching.listed(event_name="order.paid") == [kept.id]
    await dispatching.delete(created.id, allow_missing=True)


async def test_one_of_several_deletes_is_the_one(dispatching: DispatcherStage) -> None:
    created = await dispatching.created()
    answers = await asyncio.gather(*(dispatching.delete(created.id) for _ in range(4)), return_exceptions=True)
    codes = [answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert codes == [grpc.StatusCode.NOT_FOUND] * 3


async def test_dispatchers_go_with_what_they_start(dispatching: DispatcherStage) -> None:
    await dispatching.created()
    await dispatching.connection.execute("DELETE FROM endpoints")
    assert await dispatching.listed() == []


async def test_lists_are_filtered_and_oldest_first(dispatching: DispatcherStage) -> None:
    own = dispatching.index_dispatcher_id
    a = (await dispatching.created(event_names=["x", "user.created"])).id
    b = (await dispatching.created(event_names=["user.created"], source="shop")).id
    c = (await dispatching.created(event_names=["y"], source="shop")).id
    assert await dispatching.listed() == [own, a, b, c]
    assert await dispatching.listed(event_name="user.created") == [own, a, b]
    assert await dispatching.listed(event_name="user.created", source="shop") == [b]
    assert await dispatching.listed(event_name="user.created", origin=DISPATCHER_ORIGIN_API) == [a, b]
    assert await dispatching.listed(event_name="user.created", origin=DISPATCHER_ORIGIN_INDEX) == [own]
    assert await dispatching.listed(source="shop") == [b, c]
    assert await dispatching.listed(origin=DISPATCHER_ORIGIN_INDEX) == [own]
    assert await dispatching.listed(origin=DISPATCHER_ORIGIN_API, source="trigger.dev") == [a]
    assert await dispatching.listed(event_name="USER.CREATED") == []
    assert await dispatching.listed(event_name="id;drop table", source="1=1--") == []
    assert await dispatching.listed(environment_id=dispatching.stage.ours.production.id) == []
    assert await dispatching.listed(caller=dispatching.stage.developer, environment_id="") == [own, a, b, c]


@pytest.mark.parametrize("wanted", [{}, {"event_name": "user.created"}, {"source": "trigger.dev"}])
async def test_lists_come_in_pages(dispatching: DispatcherStage, wanted: dict[str, Any]) -> None:
    everything = [dispatching.index_dispatcher_id]
    for _ in range(4):
        await dispatching.created(source="shop", event_names=["other"])
        everything.append((await dispatching.created(event_names=["user.created"])).id)
    if not wanted:
        everything = await dispatching.listed()
        assert len(everything) == 9
    collected: list[str] = []
    token, pages = "", 0
    while token or not pages:
        answer = await dispatching.list_them(page_size=2, page_token=token, **wanted)
        collected += [dispatcher.id for dispatcher in answer.dispatchers]
        token, pages = answer.next_page_token, pages + 1
    assert collected == everything
    assert pages == (len(everything) + 1) // 2


async def test_a_stored_filter_that_cannot_be_read_is_reported(dispatching: DispatcherStage) -> None:
    good, bad = await dispatching.created(), await dispatching.created()
    await dispatching.connection.execute(
        "UPDATE event_dispatchers SET context_filter = $2 WHERE id = $1", UUID(bad.id), '{"a": [{"$regex": "x"}]}'
    )
    assert (await dispatching.shown(good.id)).filter_problem == ""
    shown = await dispatching.shown(bad.id)
    assert shown.filter_problem == "context_filter_json: The filter['a'][0]['$regex'] is no operator."
    assert shown.context_filter_json == '{"a": [{"$regex": "x"}]}'
    answer = await dispatching.list_them(event_name="order.paid")
    assert [bool(dispatcher.filter_problem) for dispatcher in answer.dispatchers] == [False, True]
    repaired = await dispatching.updated(bad.id, "context_filter_json", context_filter_json='{"a": ["x"]}')
    assert repaired.filter_problem == ""


async def test_an_indexs_dispatcher_is_shown_as_any_other(dispatching: DispatcherStage) -> None:
    rule = static_trigger(["a", "b"], source="shop", payload={"p": ["x"]}, context={"c": [{"$exists": True}]})
    await dispatching.catalog.register(dispatching.app, 2, jobs=[job(trigger=rule)])
    shown = await dispatching.shown(dispatching.index_dispatcher_id)
    assert shown == Dispatcher(
        id=dispatching.index_dispatcher_id,
        environment_id=dispatching.stage.ours.development.id,
        origin=DISPATCHER_ORIGIN_INDEX,
        event_names=["a", "b"],
        source="shop",
        payload_filter_json='{"p": ["x"]}',
        context_filter_json='{"c": [{"$exists": true}]}',
        enabled=True,
        job_version_id=dispatching.job_version_id,
        create_time=shown.create_time,
        update_time=shown.update_time,
    )


async def test_an_update_and_a_registration_do_not_lose_each_other(dispatching: DispatcherStage) -> None:
    own = dispatching.index_dispatcher_id
    for round_number in range(2, 8):
        is_enabled = round_number % 2 == 0
        await asyncio.gather(
            dispatching.offer(round_number, f"name-{round_number}"),
            dispatching.update(own, "enabled", enabled=is_enabled),
        )
        shown = await dispatching.shown(own)
        assert ([*shown.event_names], shown.enabled) == ([f"name-{round_number}"], is_enabled)
        assert await names(dispatching, own) == [(f"name-{round_number}", "trigger.dev")]


async def test_what_is_to_start_cannot_go_away_meanwhile(dispatching: DispatcherStage) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    of_trigger: dict[str, Any] = {"job_version_id": None, "dynamic_trigger_id": dispatching.dynamic_trigger_id}
    for table, told in {"job_versions": {}, "dynamic_triggers": of_trigger}.items():
        async with dispatching.connection.transaction():
            await dispatching.connection.execute(f"DELETE FROM {table}")
            creating = asyncio.ensure_future(refused(dispatching.create(**told)))
            await eventually(lambda: dispatching.connection.fetchval(waiting), within=timedelta(seconds=5))
        assert (await creating).reason == "NOT_FOUND"


async def test_ids_sort_by_age(dispatching: DispatcherStage) -> None:
    before = new_uuid7()
    created = await dispatching.created()
    assert before < UUID(created.id) < new_uuid7()
