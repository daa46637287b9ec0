"""What an endpoint that fails costs, and how it recovers: real calls, with the clock turned in the database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from kongflow.v1 import (
    endpoint_index_pb2,
    endpoint_pb2,
    endpoint_service_pb2,
    event_pb2,
    event_service_pb2,
    queue_job_pb2,
    run_pb2,
    run_service_pb2,
)

from services.endpoints.domain.attempt import SnoozedError
from services.endpoints.domain.endpoint_health import API_KEY_HINT, HealthPolicy
from services.endpoints.operations.endpoint_health import LEFT_ALONE, EndpointHealth
from tests.support.clinic import Clinic, clinic_of
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, refuse_key, status
from tests.support.offers import answer, job
from tests.support.operator import Operator
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.stage import Stage

_LEFT_ALONE_MEANWHILE = """
UPDATE queue_jobs SET errors = errors || jsonb_build_object('reason', $1::text)
WHERE state = 'SCHEDULED' AND queue = 'execution'
"""
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
async def clinic(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[Clinic]:
    async with clinic_of(Operator(stage, connection)) as opened:
        yield opened


async def waiting(clinic: Clinic) -> list[str]:
    """Return why each waiting queue job of the endpoint's calls waits."""
    rows = await clinic.operator.connection.fetch(
        "SELECT errors -> -1 ->> 'reason' AS reason FROM queue_jobs WHERE state = 'SCHEDULED' AND queue = 'execution'"
    )
    return [row["reason"] for row in rows]


async def test_an_hour_of_failure_costs_few_calls_and_one_probe_heals(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = status(503)
    for minute in range(60):
        if minute % 5 == 0:
            await clinic.ask(reason=f"minute {minute}")
        await clinic.pass_time(MINUTE)
    # Three to open the breaker, then probes after 30 s, 1, 2, 4 and 8 min and every 15 min, each up to half as long.
    assert 8 <= clinic.calls <= 16
    assert await clinic.state() == "FAILING"

    clinic.endpoint.behaviour = None
    before = clinic.calls
    await clinic.pass_time_until_probe()
    assert await clinic.state() == "HEALTHY"
    # The index that waited takes the place of the probe, or follows it at once.
    heard = [entry.action for entry in clinic.endpoint.journal[before:]]
    assert sorted(heard) in (["INDEX_ENDPOINT"], ["INDEX_ENDPOINT", "PING"], ["PING"])
    assert (await clinic.health())["next_probe_at"] is None


async def test_three_failures_in_a_row_open_the_breaker_and_the_rest_wait_for_the_probe(clinic: Clinic) -> None:
    await clinic.fall_ill()
    assert clinic.calls == 3
    health = await clinic.health()
    assert (health["state"], health["consecutive_failures"]) == ("FAILING", 3)
    assert health["state_reason"].endswith("Status code: 503")
    assert timedelta(seconds=14) < health["next_probe_in"] <= timedelta(seconds=30)

    await clinic.pass_time(10 * SECOND)
    assert clinic.calls == 3
    assert await waiting(clinic) == [LEFT_ALONE]
    attempts = await clinic.operator.connection.fetchval(
        "SELECT attempt FROM queue_jobs WHERE state = 'SCHEDULED' AND queue = 'execution'"
    )
    assert attempts == 3


async def test_of_all_that_wait_for_a_probe_one_is_made(clinic: Clinic) -> None:
    await clinic.fall_ill()
    for source in (1, 2, 3):
        await clinic.ask(source=source)
    await clinic.operator.work_off()
    assert clinic.calls == 3
    await clinic.pass_time_until_probe()
    assert clinic.calls == 4
    assert (await clinic.health())["consecutive_failures"] == 4


async def test_what_waited_runs_as_soon_as_one_probe_succeeds(clinic: Clinic) -> None:
    await clinic.fall_ill()
    await clinic.ask(source=1)
    await clinic.operator.work_off()
    assert LEFT_ALONE in await waiting(clinic)
    clinic.endpoint.behaviour = None
    await clinic.pass_time_until_probe()
    assert LEFT_ALONE not in await waiting(clinic)
    assert await clinic.state() == "HEALTHY"
    assert len(clinic.endpoint.calls("INDEX_ENDPOINT")) == 5


async def test_gone_suspends_at_once_and_an_hourly_ping_brings_it_back(clinic: Clinic) -> None:
    await clinic.fall_ill(status(410))
    health = await clinic.health()
    assert (health["state"], clinic.calls) == ("SUSPENDED", 1)
    assert "410" in health["state_reason"]
    refusal = await refused(clinic.ask())
    assert refusal.reason == "ENDPOINT_SUSPENDED"

    await clinic.pass_time(50 * MINUTE)
    assert clinic.calls == 1
    await clinic.pass_time_until_probe()
    assert (await clinic.state(), clinic.calls) == ("SUSPENDED", 2)
    clinic.endpoint.behaviour = None
    await clinic.pass_time_until_probe()
    assert (await clinic.state(), clinic.calls) == ("HEALTHY", 3)
    assert clinic.endpoint.journal[-1].action == "PING"


async def test_a_busy_endpoint_is_given_the_time_it_asks_for_and_stays_healthy(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = status(429, headers={"Retry-After": "120"})
    for _ in range(4):
        await clinic.ask(force=True)
        await clinic.operator.work_off()
    assert (await clinic.state(), (await clinic.health())["consecutive_failures"]) == ("HEALTHY", 0)
    called = clinic.calls
    await clinic.pass_time(60 * SECOND)
    assert clinic.calls == called
    clinic.endpoint.behaviour = None
    await clinic.pass_time(70 * SECOND)
    assert clinic.calls == called + 1


@pytest.mark.parametrize("code", [429, 503])
async def test_what_an_endpoint_asks_for_holds_for_every_queue_job_of_it(clinic: Clinic, code: int) -> None:
    clinic.endpoint.behaviour = status(code, headers={"Retry-After": "120"})
    await clinic.ask(source=1)
    await clinic.operator.work_off()
    assert clinic.calls == 1
    shown = await clinic.shown()
    assert 115 < shown.quiet_until_time.seconds - shown.state_change_time.seconds < 130
    await clinic.ask(source=2)
    await clinic.operator.work_off()
    assert LEFT_ALONE in await waiting(clinic)
    await clinic.pass_time(110 * SECOND)
    assert (clinic.calls, await clinic.state()) == (1, "HEALTHY")
    clinic.endpoint.behaviour = None
    await clinic.pass_time(15 * SECOND)
    assert (clinic.calls, LEFT_ALONE in await waiting(clinic)) == (3, False)
    assert not (await clinic.shown()).HasField("quiet_until_time")


async def test_an_endpoint_is_not_left_alone_for_longer_than_an_hour_because_it_asks(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = status(429, headers={"Retry-After": "999999999"})
    await clinic.ask(source=1)
    await clinic.operator.work_off()
    clinic.endpoint.behaviour = None
    await clinic.ask(source=2)
    await clinic.operator.work_off()
    assert clinic.calls == 1
    await clinic.pass_time(HOUR + SECOND)
    assert clinic.calls == 3


async def test_a_ping_that_succeeds_ends_the_time_that_an_endpoint_asked_for(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = status(429, headers={"Retry-After": "600"})
    await clinic.ask(source=1)
    await clinic.ask(source=2)
    await clinic.operator.work_off()
    assert LEFT_ALONE in await waiting(clinic)
    clinic.endpoint.behaviour = None
    request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=clinic.id)
    assert (await clinic.operator.caller.endpoints.PingEndpoint(request)).ok
    await clinic.operator.work_off()
    assert LEFT_ALONE not in await waiting(clinic)
    assert [entry.action for entry in clinic.endpoint.journal] == ["INDEX_ENDPOINT", "PING", "INDEX_ENDPOINT"]


async def give_new_url(clinic: Clinic, verb: str) -> None:
    """Have the endpoint answer as it should at another url, and store that one."""
    clinic.endpoint.behaviour = None
    clinic.endpoint.journal.clear()
    url, environment_id = f"{clinic.endpoint.url}?v=2", clinic.operator.stage.ours.production.id
    endpoints = clinic.operator.caller.endpoints
    if verb == "update":
        moved = endpoint_pb2.Endpoint(id=clinic.id, url=url)
        await endpoints.UpdateEndpoint(endpoint_service_pb2.UpdateEndpointRequest(endpoint=moved))
    elif verb == "create":
        await endpoints.CreateEndpoint(
            endpoint_service_pb2.CreateEndpointRequest(environment_id=environment_id, slug="fake-endpoint", url=url)
        )
    else:
        await endpoints.UpsertEndpoint(
            endpoint_service_pb2.UpsertEndpointRequest(environment_id=environment_id, slug="fake-endpoint", url=url)
        )


@pytest.mark.parametrize("verb", ["create", "update"])
async def test_a_new_url_is_indexed_at_once_whatever_the_old_one_asked_for(clinic: Clinic, verb: str) -> None:
    await clinic.pass_time(20 * MINUTE)
    clinic.endpoint.behaviour = status(503, headers={"Retry-After": "3600"})
    await clinic.ask(source=endpoint_index_pb2.ENDPOINT_INDEX_SOURCE_INTERNAL)
    await clinic.operator.work_off()
    assert await waiting(clinic) == ["FAILED_INDEX"]
    await give_new_url(clinic, verb)
    await clinic.operator.work_off()
    assert [entry.action for entry in clinic.endpoint.journal] == ["PING", "INDEX_ENDPOINT"]
    assert await waiting(clinic) == []


async def test_registering_again_tells_when_an_index_runs_that_is_left_alone_no_more(clinic: Clinic) -> None:
    await clinic.fall_ill()
    await clinic.pass_time(16 * MINUTE)
    await clinic.ask(source=endpoint_index_pb2.ENDPOINT_INDEX_SOURCE_INTERNAL)
    await clinic.operator.work_off()
    assert LEFT_ALONE in await waiting(clinic)
    clinic.endpoint.behaviour = None
    created = await clinic.operator.create(clinic.endpoint, production=True)
    index = await clinic.operator.index(created.index_id)
    (queue_job,) = [each for each in await clinic.operator.jobs() if each.id == index.queue_job_id]
    assert created.run_time == queue_job.run_time


async def test_registering_the_same_url_again_leaves_a_failed_index_its_time(clinic: Clinic) -> None:
    await clinic.pass_time(20 * MINUTE)
    clinic.endpoint.behaviour = status(503, headers={"Retry-After": "3600"})
    await clinic.ask(source=endpoint_index_pb2.ENDPOINT_INDEX_SOURCE_INTERNAL)
    await clinic.operator.work_off()
    clinic.endpoint.behaviour = None
    await clinic.operator.create(clinic.endpoint, production=True)
    await clinic.operator.work_off()
    assert await waiting(clinic) == ["FAILED_INDEX"]


# What was left alone, and whatever the verb itself asks for.
@pytest.mark.parametrize(("verb", "indexes"), [("create", 2), ("update", 2), ("upsert", 1)])
async def test_a_new_url_is_not_left_alone_because_the_old_one_asked_for_it(
    clinic: Clinic, verb: str, indexes: int
) -> None:
    clinic.endpoint.behaviour = status(429, headers={"Retry-After": "3600"})
    await clinic.ask(source=1)
    await clinic.ask(source=2)
    await clinic.operator.work_off()
    assert LEFT_ALONE in await waiting(clinic)
    await give_new_url(clinic, verb)
    await clinic.operator.work_off()
    assert LEFT_ALONE not in await waiting(clinic)
    assert len(clinic.endpoint.calls("INDEX_ENDPOINT")) == indexes


async def test_a_refused_key_says_where_to_look(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = refuse_key
    while await clinic.state() == "HEALTHY":
        await clinic.ask(force=True)
        await clinic.operator.work_off()
    assert (await clinic.health())["state_reason"].endswith(API_KEY_HINT)


async def test_a_flapping_endpoint_is_healthy_after_each_answer(clinic: Clinic) -> None:
    for _ in range(2):
        await clinic.fall_ill()
        clinic.endpoint.behaviour = None
        await clinic.pass_time_until_probe()
        assert (await clinic.state(), (await clinic.health())["consecutive_failures"]) == ("HEALTHY", 0)


async def test_force_calls_once_past_the_breaker_and_then_waits_like_the_others(clinic: Clinic) -> None:
    await clinic.fall_ill()
    await clinic.ask(force=True, source=1)
    await clinic.operator.work_off()
    assert clinic.calls == 4
    await clinic.pass_time(10 * SECOND)
    assert clinic.calls == 4


async def test_force_hastens_an_index_that_waits_already_even_past_suspended(clinic: Clinic) -> None:
    await clinic.fall_ill()
    await clinic.operator.connection.execute("UPDATE endpoints SET state = 'SUSPENDED' WHERE id = $1", clinic.id)
    assert (await refused(clinic.ask())).reason == "ENDPOINT_SUSPENDED"
    assert (await clinic.ask(force=True)).deduplicated
    await clinic.operator.work_off()
    assert (await clinic.state(), clinic.calls) == ("SUSPENDED", 4)
    await clinic.pass_time(10 * SECOND)
    assert clinic.calls == 4
    clinic.endpoint.behaviour = None
    assert (await clinic.ask(force=True)).deduplicated
    await clinic.operator.work_off()
    assert (await clinic.state(), clinic.calls) == ("HEALTHY", 5)


async def test_an_operators_retry_calls_once_past_the_breaker_and_past_what_was_asked_for(clinic: Clinic) -> None:
    clinic.endpoint.behaviour = status(429, headers={"Retry-After": "600"})
    await clinic.ask(force=True)
    await clinic.operator.work_off()
    (job_of_index,) = await clinic.operator.jobs(state=queue_job_pb2.QUEUE_JOB_STATE_SCHEDULED)
    for calls in (2, 3):
        await clinic.operator.retry(job_of_index.id)
        await clinic.operator.work_off()
        assert clinic.calls == calls
    await clinic.operator.connection.execute("UPDATE endpoints SET state = 'SUSPENDED', next_probe_at = now() + '1 h'")
    clinic.endpoint.behaviour = None
    await clinic.operator.retry(job_of_index.id)
    await clinic.operator.work_off()
    assert (await clinic.state(), clinic.calls) == ("HEALTHY", 4)


async def test_recovery_makes_an_index_of_a_production_endpoint_due(clinic: Clinic) -> None:
    await clinic.fall_ill(status(410))
    clinic.endpoint.behaviour = None
    clinic.endpoint.journal.clear()
    await clinic.pass_time_until_probe()
    assert [entry.action for entry in clinic.endpoint.journal] == ["PING"]
    await clinic.pass_time(timedelta())
    assert [entry.action for entry in clinic.endpoint.journal] == ["PING", "INDEX_ENDPOINT"]
    await clinic.pass_time(20 * HOUR)
    assert len(clinic.endpoint.journal) == 2


async def test_events_are_delivered_while_an_endpoint_is_suspended_and_their_runs_wait(clinic: Clinic) -> None:
    clinic.endpoint.index = answer(jobs=[job("welcome")])
    await clinic.ask(force=True)
    await clinic.operator.work_off()
    await clinic.fall_ill(status(410))
    called = clinic.calls
    events, runs = clinic.operator.caller.events, clinic.operator.caller.runs
    request = event_service_pb2.SendEventRequest(
        environment_id=str(clinic.operator.stage.ours.production.id),
        event=event_service_pb2.NewEvent(name="user.created", event_id="one"),
    )
    sent = (await events.SendEvent(request)).event
    await clinic.operator.work_off()
    delivered = (await events.GetEvent(event_service_pb2.GetEventRequest(id=sent.id))).event
    assert delivered.state == event_pb2.EVENT_STATE_DELIVERED
    (run,) = (await runs.ListRuns(run_service_pb2.ListRunsRequest(environment_id=request.environment_id))).runs
    assert (run.job_slug, run.state) == ("welcome", run_pb2.RUN_STATE_PENDING)
    assert (await clinic.state(), clinic.calls) == ("SUSPENDED", called)


async def test_whoever_is_told_to_wait_is_woken_by_a_recovery_at_the_same_moment(
    clinic: Clinic, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await clinic.fall_ill()
    store = clinic.operator.stage.service.store
    health = EndpointHealth(policy=HealthPolicy(), jitter=lambda: 0.5)

    async def is_waited_for() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async with asyncio.TaskGroup() as tasks, store.transaction() as snoozing:
        endpoint = await snoozing.endpoints.get(UUID(clinic.id))
        assert endpoint is not None
        with pytest.raises(SnoozedError):
            await health.admit(snoozing, endpoint)
        healing = tasks.create_task(store.transact(lambda tx: health.note_answer(tx, endpoint)))
        await eventually(is_waited_for)
        assert not healing.done()
        await connection.execute(_LEFT_ALONE_MEANWHILE, LEFT_ALONE)
    assert (await clinic.state(), await waiting(clinic)) == ("HEALTHY", [])


async def test_neighbours_are_called_while_an_endpoint_is_left_alone(
    clinic: Clinic, stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await clinic.fall_ill()
    for source in (1, 2, 3):
        await clinic.ask(source=source)
    async with clinic_of(Operator(stage, connection), production=False) as neighbour:
        await neighbour.ask(force=True)
        await neighbour.operator.work_off()
        assert neighbour.calls == 1
    assert clinic.calls == 3
    assert await connection.fetchval("SELECT count(*) FROM queue_lanes") == 0


async def test_a_probe_is_asked_for_once_however_often_somebody_looks(clinic: Clinic) -> None:
    await clinic.fall_ill(status(410))
    await clinic.operator.connection.execute("UPDATE endpoints SET next_probe_at = now() WHERE state = 'SUSPENDED'")
    upkeep = clinic.operator.stage.service.operations.endpoint_upkeep
    assert [await upkeep.ask_for_probes() for _ in range(3)] == [1, 0, 0]
    await clinic.operator.work_off()
    assert (await clinic.health())["probe_queue_job_id"] is None
    assert await upkeep.ask_for_probes() == 0


async def test_a_production_endpoint_is_indexed_anew_every_day(clinic: Clinic) -> None:
    await clinic.pass_time(timedelta(hours=21))
    assert clinic.calls == 0
    await clinic.pass_time(timedelta(hours=6))
    assert [entry.action for entry in clinic.endpoint.journal] == ["INDEX_ENDPOINT"]
    await clinic.pass_time(timedelta(hours=20))
    assert clinic.calls == 1


async def test_an_index_that_two_servers_find_due_is_asked_for_once(clinic: Clinic) -> None:
    connection, upkeep = clinic.operator.connection, clinic.operator.stage.service.operations.endpoint_upkeep
    store = clinic.operator.stage.service.store
    await clinic.pass_time(20 * MINUTE)
    await connection.execute("UPDATE endpoints SET next_index_at = now() WHERE next_index_at IS NOT NULL")
    async with store.reading() as tx:
        (due,) = await tx.endpoints.due_indexes(limit=2)
    assert await upkeep.ask_for_indexes() == 1
    await clinic.operator.work_off()
    assert not await store.transact(lambda tx: upkeep._ask_for_due(tx, due))
    assert (clinic.calls, await waiting(clinic)) == (1, [])


async def test_one_endpoint_that_somebody_holds_keeps_no_other_from_its_index(clinic: Clinic) -> None:
    stage, store = clinic.operator.stage, clinic.operator.stage.service.store
    await stage.store_endpoint(environment_id=stage.ours.production.id, slug="other")
    await clinic.operator.connection.execute("UPDATE endpoints SET next_index_at = now() - interval '1 second'")
    async with store.transaction() as tx:
        await tx.ledger.serialize(f"endpoint:{stage.ours.production.id}:fake-endpoint")
        assert await stage.service.operations.endpoint_upkeep.ask_for_indexes() == 1


async def test_a_new_url_of_a_failing_endpoint_is_probed_at_once(clinic: Clinic) -> None:
    await clinic.fall_ill(status(410))
    clinic.endpoint.behaviour = None
    clinic.endpoint.journal.clear()
    request = endpoint_service_pb2.UpsertEndpointRequest(
        environment_id=str(clinic.operator.stage.ours.production.id),
        slug="fake-endpoint",
        url=f"{clinic.endpoint.url}?v=2",
    )
    await clinic.operator.caller.endpoints.UpsertEndpoint(request)
    await clinic.pass_time(timedelta())
    assert (await clinic.state(), [entry.action for entry in clinic.endpoint.journal]) == ("HEALTHY", ["PING"])


async def test_a_development_endpoint_is_left_as_it_is(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with clinic_of(Operator(stage, connection), production=False) as clinic:
        await clinic.pass_time(timedelta(days=3))
        assert clinic.calls == 0


async def test_an_index_that_is_cancelled_says_nothing_of_its_endpoint(clinic: Clinic) -> None:
    async def cancelled_meanwhile(_request: object, _endpoint: FakeEndpoint) -> None:
        await clinic.operator.connection.execute(
            "UPDATE queue_jobs SET cancel_requested_at = now() WHERE state = 'RUNNING'"
        )

    async def fail(request: object, endpoint: FakeEndpoint) -> object:
        await cancelled_meanwhile(request, endpoint)
        return await status(503)(request, endpoint)  # type: ignore[arg-type]

    clinic.endpoint.behaviour = fail  # type: ignore[assignment]
    await clinic.ask(force=True)
    await clinic.operator.work_off()
    assert clinic.calls == 1
    assert (await clinic.health())["consecutive_failures"] == 0


async def test_an_operator_resumes_an_endpoint_and_what_waited_runs(clinic: Clinic) -> None:
    await clinic.fall_ill()
    await clinic.ask(source=1)
    await clinic.operator.work_off()
    endpoints = clinic.operator.caller.endpoints
    request = endpoint_service_pb2.ResumeEndpointRequest(endpoint_id=clinic.id)
    called = clinic.calls
    clinic.endpoint.behaviour = None
    resumed = (await endpoints.ResumeEndpoint(request)).endpoint
    assert (resumed.state, resumed.consecutive_failures, resumed.state_reason) == (
        endpoint_pb2.ENDPOINT_STATE_HEALTHY,
        0,
        "",
    )
    assert not resumed.HasField("next_probe_time")
    assert (await endpoints.ResumeEndpoint(request)).endpoint == resumed
    await clinic.operator.work_off()
    assert clinic.calls == called + 1

    refusal = await refused(clinic.operator.stage.reader.endpoints.ResumeEndpoint(request))
    assert refusal.reason == "PERMISSION_DENIED"


async def test_the_contract_shows_health_and_lists_by_it(clinic: Clinic) -> None:
    await clinic.fall_ill()
    stage = clinic.operator.stage
    await stage.store_endpoint(environment_id=stage.ours.production.id, slug="well")

    async def slugs(state: endpoint_pb2.EndpointState.ValueType) -> list[str]:
        request = endpoint_service_pb2.ListEndpointsRequest(environment_id=stage.ours.production.id, state=state)
        return [endpoint.slug for endpoint in (await stage.writer.endpoints.ListEndpoints(request)).endpoints]

    assert await slugs(endpoint_pb2.ENDPOINT_STATE_FAILING) == ["fake-endpoint"]
    assert await slugs(endpoint_pb2.ENDPOINT_STATE_HEALTHY) == ["well"]
    assert await slugs(endpoint_pb2.ENDPOINT_STATE_UNSPECIFIED) == ["fake-endpoint", "well"]
    request = endpoint_service_pb2.GetEndpointRequest(endpoint_id=clinic.id)
    shown = (await stage.writer.endpoints.GetEndpoint(request)).endpoint
    assert (shown.consecutive_failures, shown.state) == (3, endpoint_pb2.ENDPOINT_STATE_FAILING)
    assert shown.state_reason.endswith("Status code: 503")
    assert shown.state_change_time.ToDatetime() < shown.next_probe_time.ToDatetime()


async def test_a_ping_that_somebody_asks_for_heals_and_never_moves_a_probe(clinic: Clinic) -> None:
    ping = clinic.operator.caller.endpoints.PingEndpoint
    request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=clinic.id)
    while await clinic.state() == "HEALTHY":
        clinic.endpoint.behaviour = refuse_key
        assert not (await ping(request)).ok
    assert clinic.calls == 3
    before = await clinic.health()
    assert not (await ping(request)).ok
    after = await clinic.health()
    assert (after["next_probe_at"], after["consecutive_failures"]) == (before["next_probe_at"], 3)
    clinic.endpoint.behaviour = None
    assert (await ping(request)).ok
    assert await clinic.state() == "HEALTHY"


async def test_registering_an_endpoint_again_heals_it(clinic: Clinic) -> None:
    await clinic.fall_ill(status(410))
    clinic.endpoint.behaviour = None
    created = await clinic.operator.create(clinic.endpoint, production=True)
    assert created.endpoint.state == endpoint_pb2.ENDPOINT_STATE_HEALTHY
    assert await clinic.state() == "HEALTHY"
