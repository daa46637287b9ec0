"""What an invocation makes of what is stored when its turn comes."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from services.endpoints.domain.catalog import DELIVER_EVENT, INVOKE_DISPATCHER
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ports.dispatch import InvocationKey, InvocationOutcome, WantedRun
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.run import InvocationState
from tests.support.dispatching import Scene, new_scene
from tests.support.eventually import eventually
from tests.support.offers import dynamic, job, static_trigger

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.store.postgres import PostgresStore


class _ChangedMindError(Exception):
    """Rolls a transaction back."""


@pytest.fixture
async def scene(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    return await new_scene(store, connection)


async def delivered(scene: Scene) -> UUID:
    """Send an event and deliver it; its invocations wait."""
    event = await scene.send()
    async with scene.store.transaction() as tx:
        await scene.deliver.run(tx, await scene.pulled(DELIVER_EVENT.name))
    return event


async def test_the_latest_version_runs_by_numbers_not_by_text(scene: Scene) -> None:
    await scene.register("welcome", version="9.0.0")
    dispatcher = await scene.dispatcher("other", version_id=await scene.version_id("welcome", "9.0.0"))
    await scene.register("welcome", version="10.0.0")

    event = await scene.send("other")
    await scene.send()
    await scene.work_off()

    assert (await scene.invocation(event))["dispatcher_id"] == dispatcher
    assert await scene.runs() == [("welcome", 1, "10.0.0"), ("welcome", 2, "10.0.0")]


async def test_a_job_disabled_after_the_event_matched_is_skipped_and_said_so(scene: Scene) -> None:
    await scene.register("welcome", "audit")
    event = await delivered(scene)
    await scene.connection.execute(
        "UPDATE job_versions SET state = 'DISABLED' WHERE id = $1", await scene.version_id("audit")
    )

    await scene.work_off()

    outcomes = {(each["state"], each["run_count"], each["reason"]) for each in await scene.invocations(event)}
    assert outcomes == {
        ("COMPLETED", 1, None),
        ("SKIPPED", 0, "The job 'audit' is disabled in its latest version 1.0.0."),
    }
    assert await scene.runs() == [("welcome", 1, "1.0.0")]
    assert {each["state"] for each in await scene.queue_jobs(INVOKE_DISPATCHER.name)} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM event_dispatchers", "The dispatcher is gone."),
        ("UPDATE event_dispatchers SET enabled = false", "The dispatcher is disabled."),
        ("UPDATE event_dispatchers SET operator_disabled = true", "The dispatcher is disabled."),
        ("DELETE FROM job_aliases", "The job 'welcome' has no latest version in this environment."),
    ],
)
async def test_what_changed_after_the_event_matched_is_said(scene: Scene, change: str, reason: str) -> None:
    await scene.register("welcome")
    event = await delivered(scene)
    await scene.connection.execute(change)

    await scene.work_off()

    invocation = await scene.invocation(event)
    assert (invocation["state"], invocation["run_count"], invocation["reason"]) == ("SKIPPED", 0, reason)
    assert await scene.runs() == []


async def test_an_invocation_of_an_event_that_is_gone_does_nothing(scene: Scene) -> None:
    await scene.register("welcome")
    await delivered(scene)
    await scene.connection.execute("DELETE FROM events")

    await scene.work_off()

    assert [each["state"] for each in await scene.queue_jobs(INVOKE_DISPATCHER.name)] == ["COMPLETED"]
    assert await scene.runs() == []


async def test_a_dynamic_trigger_runs_each_of_its_jobs_and_names_those_it_cannot(scene: Scene) -> None:
    await scene.register("first", "second", "third", event="other")
    jobs = [(slug, "1.0.0") for slug in ("first", "missing", "second", "third")]
    await scene.tenant.register(scene.endpoint_id, sequence=9, dynamicTriggers=[dynamic("on-demand", jobs)])
    trigger_id = await scene.connection.fetchval("SELECT id FROM dynamic_triggers")
    await scene.dispatcher(trigger_id=trigger_id)
    await scene.connection.execute(
        "UPDATE job_versions SET state = 'DISABLED' WHERE id = $1", await scene.version_id("third")
    )

    event = await scene.send()
    await scene.work_off()

    assert await scene.runs() == [("first", 1, "1.0.0"), ("second", 1, "1.0.0")]
    invocation = await scene.invocation(event)
    assert (invocation["state"], invocation["run_count"]) == ("COMPLETED", 2)
    assert invocation["reason"] == (
        "The job 'missing' is not offered by the endpoint. The job 'third' is disabled in its latest version 1.0.0."
    )


@pytest.mark.parametrize(
    ("jobs", "enabled", "reason"),
    [
        ([], True, "The dynamic trigger 'on-demand' has no jobs."),
        ([("missing", "1.0.0")], True, "The job 'missing' is not offered by the endpoint."),
        ([("welcome", "1.0.0")], False, "The dynamic trigger 'on-demand' is disabled."),
    ],
)
async def test_a_dynamic_trigger_without_a_job_to_run_is_skipped(
    scene: Scene, jobs: list[tuple[str, str]], enabled: bool, reason: str
) -> None:
    await scene.register("welcome", event="other")
    await scene.tenant.register(scene.endpoint_id, sequence=9, dynamicTriggers=[dynamic("on-demand", jobs)])
    trigger_id = await scene.connection.fetchval("SELECT id FROM dynamic_triggers")
    await scene.dispatcher(trigger_id=trigger_id)
    await scene.connection.execute("UPDATE dynamic_triggers SET enabled = $1", enabled)

    event = await scene.send()
    await scene.work_off()

    invocation = await scene.invocation(event)
    assert (invocation["state"], invocation["reason"]) == ("SKIPPED", reason)


async def test_one_failing_invocation_does_not_hold_up_its_neighbours(scene: Scene) -> None:
    await scene.register("welcome", "audit", "bill")
    event = await delivered(scene)
    await scene.connection.execute("UPDATE queue_jobs SET max_attempts = 1")
    await scene.connection.execute(
        f"""
        CREATE FUNCTION refuse_run() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.version_id = '{await scene.version_id("audit")}' THEN
                RAISE 'This one cannot be stored.';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse_run BEFORE INSERT ON job_runs FOR EACH ROW EXECUTE FUNCTION refuse_run();
        """
    )

    with capture_logs():
        await scene.work_off()

    assert await scene.runs() == [("bill", 1, "1.0.0"), ("welcome", 1, "1.0.0")]
    invocations = sorted((each["state"], each["reason"] or "") for each in await scene.invocations(event))
    assert [state for state, _ in invocations] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert invocations[-1][1].startswith("The handler failed with")


async def test_an_invocation_carried_out_four_times_at_once_makes_its_runs_once(scene: Scene) -> None:
    await scene.register("welcome", "audit")
    for _ in range(20):
        await delivered(scene)
    queue_jobs = await scene.pulled(INVOKE_DISPATCHER.name)
    assert len(queue_jobs) == 40

    async def invoke() -> None:
        async with scene.store.transaction() as tx:
            await scene.invoke.run(tx, queue_jobs)

    await asyncio.gather(*(invoke() for _ in range(4)))

    assert await scene.runs() == [(slug, number, "1.0.0") for slug in ("audit", "welcome") for number in range(1, 21)]
    counts = await scene.tenant.rows("SELECT DISTINCT state, run_count FROM event_invocations")
    assert counts == [{"state": "COMPLETED", "run_count": 1}]


async def test_an_invocation_that_is_being_ended_makes_no_runs(scene: Scene) -> None:
    await scene.register("welcome")
    event = await delivered(scene)
    key = InvocationKey(event, (await scene.invocation(event))["dispatcher_id"])
    queue_jobs = await scene.pulled(INVOKE_DISPATCHER.name)

    async def invoke(tx: Transaction) -> None:
        await scene.invoke.run(tx, queue_jobs)

    async with scene.store.transaction() as ending:
        await ending.dispatch.settle_invocations([InvocationOutcome(key, InvocationState.FAILED, reason="It broke.")])
        invoking = asyncio.create_task(scene.store.transact(invoke, Pool.CALL_BACKS))
        await eventually(scene.somebody_waits_for_a_lock)
    await invoking

    assert (await scene.invocation(event))["state"] == "FAILED"
    assert await scene.runs() == []


async def test_numbers_have_no_gaps_whatever_rolls_back_beside_them(scene: Scene) -> None:
    slugs = ("audit", "bill", "welcome")
    await scene.register(*slugs)
    versions = {
        row["slug"]: (row["job_id"], row["id"])
        for row in await scene.tenant.rows(
            "SELECT j.slug, v.job_id, v.id FROM job_versions v JOIN jobs j ON j.id = v.job_id"
        )
    }
    events = [await scene.send() for _ in range(16)]
    chance = random.Random(7)  # noqa: S311 - no secret

    async def make(tx: Transaction, event: UUID, *, fails: bool) -> None:
        order = chance.sample(slugs, len(slugs))
        wanted = [WantedRun(new_uuid7(), InvocationKey(event, event), *versions[slug]) for slug in order]
        await tx.dispatch.make_runs(wanted)
        if fails:
            raise RuntimeError("the server dies")

    async def work(mine: list[UUID]) -> None:
        for event in mine:
            for fails in (True, False, True):
                with suppress(RuntimeError):
                    await scene.store.transact(partial(make, event=event, fails=fails))

    await asyncio.gather(*(work(events[place::8]) for place in range(8)))

    assert await scene.runs() == [(slug, number, "1.0.0") for slug in slugs for number in range(1, 17)]
    counters = await scene.tenant.rows("SELECT last_number FROM job_counters")
    assert counters == [{"last_number": 16}] * 3


async def test_a_dynamic_trigger_starts_only_what_its_endpoint_offers(scene: Scene) -> None:
    """A job that another endpoint has taken over since is still offered; one that only another has never was."""
    await scene.register("taken", "own")
    other = await scene.tenant.endpoint("other")
    await scene.tenant.register(other, jobs=[job("taken", trigger=static_trigger("user.created")), job("foreign")])
    jobs = [(slug, "1.0.0") for slug in ("foreign", "own", "taken")]
    await scene.tenant.register(scene.endpoint_id, sequence=9, dynamicTriggers=[dynamic("on-demand", jobs)])
    await scene.dispatcher("asked", trigger_id=await scene.connection.fetchval("SELECT id FROM dynamic_triggers"))

    event = await scene.send("asked")
    await scene.work_off()

    assert [slug for slug, _, _ in await scene.runs()] == ["own", "taken"]
    assert (await scene.invocation(event))["reason"] == ("The job 'foreign' is not offered by the endpoint.")


@pytest.mark.parametrize(("is_deleted", "state"), [(True, "SKIPPED"), (False, "COMPLETED")])
async def test_an_endpoint_that_is_being_deleted_keeps_nobody_waiting(
    scene: Scene, is_deleted: bool, state: str
) -> None:
    """Its deletion locks it before its jobs, which runs refer to: who waited for it would hold what it waits for."""
    await scene.register("welcome")
    neighbour = await scene.tenant.endpoint("neighbour")
    await scene.tenant.register(neighbour, jobs=[job("audit", trigger=static_trigger("user.created"))])
    endpoint_id = scene.endpoint_id

    async def delete(tx: Transaction) -> None:
        await tx.catalog.disable_endpoint(endpoint_id)
        event = await scene.send()
        await asyncio.wait_for(scene.work_off(), 10)
        assert await scene.runs() == [("audit", 1, "1.0.0")]
        assert sorted(each["state"] for each in await scene.invocations(event)) == ["COMPLETED", "PENDING"]
        waiting = [each for each in await scene.queue_jobs(INVOKE_DISPATCHER.name) if each["state"] == "SCHEDULED"]
        assert ["ENDPOINT_BEING_DELETED" in each["errors"] for each in waiting] == [True]
        await tx.endpoints.delete(endpoint_id)
        if not is_deleted:
            raise _ChangedMindError

    with suppress(_ChangedMindError):
        async with scene.store.transaction() as tx:
            await delete(tx)
    await scene.connection.execute("UPDATE queue_jobs SET run_at = now() WHERE state = 'SCHEDULED'")
    await scene.work_off()
    assert await scene.runs() == [("audit", 1, "1.0.0")] + ([] if is_deleted else [("welcome", 1, "1.0.0")])
    states = await scene.tenant.rows("SELECT state FROM event_invocations ORDER BY updated_at DESC LIMIT 1")
    assert [each["state"] for each in states] == [state]


async def test_the_deletion_of_an_endpoint_waits_for_the_runs_that_are_being_made(scene: Scene) -> None:
    await scene.register("welcome")
    await delivered(scene)

    async def delete(tx: Transaction) -> None:
        await tx.catalog.disable_endpoint(scene.endpoint_id)
        await tx.endpoints.delete(scene.endpoint_id)

    async with scene.store.transaction() as tx:
        await scene.invoke.run(tx, await scene.pulled(INVOKE_DISPATCHER.name))
        deletion = asyncio.create_task(scene.store.transact(delete))
        await eventually(scene.somebody_waits_for_a_lock)
    await asyncio.wait_for(deletion, 10)
    assert await scene.runs() == []
