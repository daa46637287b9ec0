"""RunService, and an event's whole way to its runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from kongflow.v1 import event_service_pb2, run_pb2
from kongflow.v1 import run_service_pb2 as messages

from services.endpoints.domain.identifiers import new_uuid7
from tests.support.catalog import Tenant
from tests.support.dispatching import Scene
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job
from tests.support.rpc import refused
from tests.support.stage import differing

if TYPE_CHECKING:
    import asyncpg

    from tests.support.pair import Pair
    from tests.support.stage import Row, Stage


@pytest.fixture
async def scene(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    """Jobs and events in our development environment, written beside the contract."""
    ours = stage.ours
    tenant = Tenant(connection, UUID(ours.organization_id), UUID(ours.project_id), UUID(ours.development.id))
    scene = Scene(stage.service.store, connection, tenant, await tenant.endpoint())
    await scene.register("welcome", "audit")
    await scene.register("bill", event="order.paid")
    return scene


async def listed(stage: Stage, **wanted: Any) -> list[tuple[str, int]]:
    response = await stage.developer.runs.ListRuns(messages.ListRunsRequest(**wanted))
    return [(run.job_slug, run.number) for run in response.runs]


async def test_a_run_is_shown_with_its_job_its_event_and_its_account(stage: Stage, scene: Scene) -> None:
    account = await scene.account("user-7")
    event = await scene.send("order.paid", event_id="order-7", account_id=account, is_test=True)
    await scene.work_off()
    ((run),) = (await stage.reader.runs.ListRuns(_of(stage))).runs

    shown = (await stage.reader.runs.GetRun(messages.GetRunRequest(run_id=run.id))).run

    assert shown == run
    row = await scene.tenant.row("SELECT id, version_id, dispatcher_id, endpoint_id, created_at FROM job_runs")
    assert shown.create_time.ToDatetime(tzinfo=UTC) == row["created_at"]
    shown.ClearField("create_time")
    shown.ClearField("update_time")
    assert shown == run_pb2.Run(
        id=str(row["id"]),
        number=1,
        environment_id=stage.ours.development.id,
        state=run_pb2.RUN_STATE_PENDING,
        job_slug="bill",
        job_version_id=str(row["version_id"]),
        version="1.0.0",
        event_record_id=str(event),
        event_id="order-7",
        dispatcher_id=str(row["dispatcher_id"]),
        endpoint_id=str(scene.endpoint_id),
        account_id="user-7",
        is_test=True,
    )


async def test_runs_are_listed_newest_first_by_every_filter(stage: Stage, scene: Scene) -> None:
    users = [await scene.send() for _ in range(2)]
    await scene.work_off()
    await scene.connection.execute("UPDATE job_runs SET created_at = '2024-05-01'")
    order = await scene.send("order.paid")
    await scene.work_off()
    ids = [row["id"] for row in await scene.tenant.rows("SELECT id FROM job_runs ORDER BY id DESC")]

    everything = (await stage.developer.runs.ListRuns(messages.ListRunsRequest())).runs
    assert [UUID(run.id) for run in everything] == ids
    assert len(ids) == 5
    assert sorted(await listed(stage, job_slug="welcome")) == [("welcome", 1), ("welcome", 2)]
    assert await listed(stage, job_slug="welcome", event_record_id=str(order)) == []
    assert await listed(stage, event_record_id=str(order)) == [("bill", 1)]
    assert sorted(slug for slug, _ in await listed(stage, event_record_id=str(users[0]))) == ["audit", "welcome"]
    assert len(await listed(stage, event_record_id=str(users[0]), job_slug="audit")) == 1
    assert len(await listed(stage, state=run_pb2.RUN_STATE_PENDING)) == 5
    day = datetime(2024, 5, 1, tzinfo=UTC)
    assert await listed(stage, created_from=day + timedelta(days=1)) == [("bill", 1)]
    assert len(await listed(stage, created_before=day + timedelta(days=1))) == 4
    assert await listed(stage, created_from=day, created_before=day + timedelta(seconds=1), job_slug="bill") == []
    assert await listed(stage, job_slug="unheard-of") == []
    assert await listed(stage, event_record_id=str(uuid4())) == []


@pytest.mark.parametrize("wanted", [{}, {"job_slug": "welcome"}, {"event_record_id": "the event"}])
async def test_pages_of_runs_hold_each_run_once(stage: Stage, scene: Scene, wanted: dict[str, Any]) -> None:
    for number in range(7):
        await scene.register(f"more-{number}")
    event = await scene.send()
    for _ in range(6):
        await scene.send()
    await scene.work_off()
    fields = {**wanted, "event_record_id": str(event)} if "event_record_id" in wanted else wanted
    whole = (await stage.developer.runs.ListRuns(messages.ListRunsRequest(page_size=1000, **fields))).runs

    seen, token = [], ""
    while True:
        request = messages.ListRunsRequest(page_size=3, page_token=token, **fields)
        page = await stage.developer.runs.ListRuns(request)
        seen += page.runs
        token = page.next_page_token
        if not token:
            break

    assert seen == list(whole)
    assert [run.id for run in seen] == sorted((run.id for run in seen), reverse=True)
    assert len(seen) == {0: 63, 1: 7, 2: 9}[0 if not wanted else 1 if "job_slug" in wanted else 2]


async def test_who_sees_which_runs(stage: Stage, scene: Scene) -> None:
    await scene.send()
    await scene.work_off()
    run_id = (await stage.developer.runs.ListRuns(messages.ListRunsRequest())).runs[0].id
    of_run = messages.GetRunRequest(run_id=run_id)
    theirs = stage.service.caller(stage.theirs.service_token)
    production = stage.service.caller(stage.ours.production_key)

    for caller in (stage.admin, stage.writer, stage.reader, stage.developer):
        assert (await caller.runs.GetRun(of_run)).run.id == run_id
        assert len((await caller.runs.ListRuns(_of(stage))).runs) == 2
    assert (await production.runs.ListRuns(messages.ListRunsRequest())).runs == []
    not_found, denied = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
    rows: dict[str, Row] = {
        "their run": (theirs.runs.GetRun(of_run), not_found, "NOT_FOUND", []),
        "their list": (theirs.runs.ListRuns(_of(stage)), not_found, "NOT_FOUND", []),
        "another environment's run": (production.runs.GetRun(of_run), denied, "PERMISSION_DENIED", []),
        "another environment's list": (production.runs.ListRuns(_of(stage)), denied, "PERMISSION_DENIED", []),
        "a worker's run": (stage.worker.runs.GetRun(of_run), denied, "PERMISSION_DENIED", []),
        "no such run": (
            stage.reader.runs.GetRun(messages.GetRunRequest(run_id=str(new_uuid7()))),
            not_found,
            "NOT_FOUND",
            [],
        ),
    }
    assert await differing(rows) == {}


async def test_what_is_no_request_names_its_fields(stage: Stage) -> None:
    day: Any = datetime(2024, 5, 1, tzinfo=UTC)
    runs = stage.developer.runs
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    requests = {
        "event_record_id": messages.ListRunsRequest(event_record_id="7"),
        "environment_id": messages.ListRunsRequest(environment_id="dev"),
        "job_slug": messages.ListRunsRequest(job_slug="a\x00"),
        "state": messages.ListRunsRequest(state=77),  # type: ignore[arg-type]
        "created_before": messages.ListRunsRequest(created_from=day, created_before=day),
        "page_size": messages.ListRunsRequest(page_size=-1),
        "page_token": messages.ListRunsRequest(page_token="made up"),
    }
    rows: dict[str, Row] = {
        field: (runs.ListRuns(request), invalid, "INVALID_REQUEST", [field]) for field, request in requests.items()
    }
    rows["run_id"] = (runs.GetRun(messages.GetRunRequest()), invalid, "INVALID_REQUEST", ["run_id"])
    assert await differing(rows) == {}
    nowhere = await refused(stage.writer.runs.ListRuns(messages.ListRunsRequest()))
    assert nowhere.fields == ["environment_id"]


async def test_an_event_that_is_sent_becomes_a_run_of_the_job_that_listens(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    jobs = [event_job("welcome"), event_job("invoice", event="order.paid")]
    async with FakeEndpoint(api_key=tenant.api_key, index={**EMPTY_INDEX, "jobs": jobs}) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
    request = event_service_pb2.SendEventRequest()
    request.event.name = "thing.happened"
    request.event.event_id = "thing-1"

    sent = (await client.call(client.events.SendEvent, request)).event

    async def ran() -> list[run_pb2.Run]:
        wanted = messages.ListRunsRequest(event_record_id=sent.id)
        return list((await client.call(client.runs.ListRuns, wanted)).runs)

    (run,) = await eventually(ran)
    assert (run.job_slug, run.number, run.event_id) == ("welcome", 1, "thing-1")
    again = (await client.call(client.events.SendEvent, request)).event
    assert again.id == sent.id


def _of(stage: Stage) -> messages.ListRunsRequest:
    return messages.ListRunsRequest(environment_id=stage.ours.development.id)
