"""What several endpoints of an environment offer: who registers it last has it, and gives it back when dropping it."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc.aio
import pytest
from kongflow.v1 import catalog_service_pb2, endpoint_service_pb2

from services.endpoints.domain.endpoint_health import HealthPolicy
from services.endpoints.store.migrations import runner
from tests.support.catalog import Tenant, connected_tenant, second_connection
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, on, status
from tests.support.offers import job, source, static_trigger
from tests.support.operator import Operator
from tests.support.pair import state_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.stage import Stage

SHARED: dict[str, Any] = {"jobs": [job()], "sources": [source()]}
_OWNERS = """
SELECT j.slug || ' ' || v.version AS item, e.slug
FROM job_versions v JOIN jobs j ON j.id = v.job_id JOIN endpoints e ON e.id = v.endpoint_id
WHERE v.state = 'ACTIVE'
UNION ALL
SELECT s.key, e.slug FROM trigger_sources s JOIN endpoints e ON e.id = s.endpoint_id WHERE s.enabled
"""
_IS_BEING_DELETED = "SELECT FROM endpoints WHERE slug = 'blue' FOR UPDATE"


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


async def owners(tenant: Tenant) -> dict[str, str]:
    """Return who has each enabled job version and source."""
    return {row["item"]: row["slug"] for row in await tenant.rows(_OWNERS)}


async def displaced(tenant: Tenant) -> int:
    """Return how many items endpoints are displaced from."""
    count: int = await tenant.connection.fetchval("SELECT count(*) FROM displaced_items")
    return count


async def asked(tenant: Tenant) -> list[str]:
    """Return the endpoints of which an index is due at once."""
    due = "SELECT slug FROM endpoints WHERE owed_index_at <= now() ORDER BY slug"
    return [row["slug"] for row in await tenant.rows(due)]


async def delete(tenant: Tenant, endpoint_id: UUID) -> None:
    async with tenant.connection.transaction():
        await tenant.catalog.disable_endpoint(endpoint_id)
        await tenant.connection.execute("DELETE FROM endpoints WHERE id = $1", endpoint_id)


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_what_is_dropped_goes_back_to_the_endpoint_that_had_it(tenant: Tenant, is_deleted: bool) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    await tenant.register(blue, 3, **SHARED)
    await tenant.register(green, 7, **SHARED)
    assert (await owners(tenant), await displaced(tenant)) == ({"hello 1.0.0": "green", "acme.room-http": "green"}, 2)
    if is_deleted:
        await delete(tenant, green)
    else:
        assert [key for _, key in await tenant.disable_absent(green, 8)] == ["hello", "acme.room-http"]
    assert await owners(tenant) == {"hello 1.0.0": "blue", "acme.room-http": "blue"}
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"], latest["enabled"]) == ("1.0.0", "1.0.0", True)
    assert (await displaced(tenant), await asked(tenant)) == (0, [])
    assert await tenant.renumber(blue, 4, **SHARED) == {"hello", "acme.room-http"}


async def test_the_one_that_gets_it_back_is_healthy_or_else_had_it_last(tenant: Tenant) -> None:
    first, second, third, last = [await tenant.endpoint(slug) for slug in ("first", "second", "third", "last")]
    for endpoint in (first, second, third, last):
        await tenant.register(endpoint, **SHARED)
    await tenant.connection.execute(
        "UPDATE endpoints SET state = 'FAILING', next_probe_at = now() WHERE slug = 'third'"
    )
    for endpoint, heir in ((last, "second"), (second, "first"), (first, "third")):
        await tenant.disable_absent(endpoint, 2)
        assert set((await owners(tenant)).values()) == {heir}
    await tenant.disable_absent(third, 2)
    assert (await owners(tenant), await displaced(tenant)) == ({}, 0)


async def test_who_stopped_offering_it_gets_nothing_back(tenant: Tenant) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    await tenant.register(blue, **SHARED)
    await tenant.register(green, **SHARED)
    assert await tenant.disable_absent(blue, 2, jobs=SHARED["jobs"]) == []
    await tenant.disable_absent(green, 2)
    assert await owners(tenant) == {"hello 1.0.0": "blue"}


async def test_who_is_being_deleted_gets_nothing_back(
    tenant: Tenant, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    await tenant.register(blue, **SHARED)
    await tenant.register(green, **SHARED)
    async with connection.transaction():
        await connection.execute(_IS_BEING_DELETED)
        await tenant.disable_absent(green, 2)
    assert (await owners(tenant), await asked(tenant)) == ({}, [])


async def test_who_is_being_deleted_is_displaced_from_nothing(
    tenant: Tenant, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    await tenant.register(blue, **SHARED)
    async with connection.transaction():
        await connection.execute(_IS_BEING_DELETED)
        await tenant.register(green, **SHARED)
    assert (set((await owners(tenant)).values()), await displaced(tenant)) == ({"green"}, 0)


async def test_another_version_gives_the_one_before_back(tenant: Tenant) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    await tenant.register(blue, jobs=[job(version="2.0.0")])
    await tenant.register(green, jobs=[job(version="2.0.0")])
    await tenant.register(green, 2, jobs=[job(version="1.0.0")])
    assert await owners(tenant) == {"hello 1.0.0": "green", "hello 2.0.0": "blue"}
    assert (await tenant.latest())["alias"] == "2.0.0"
    await tenant.register(green, 3, jobs=[job(version="2.0.0")])
    assert (await owners(tenant), await displaced(tenant)) == ({"hello 2.0.0": "green"}, 1)
    assert await tenant.register(blue, 2, jobs=[job(version="3.0.0")]) == ["REGISTERED"]
    assert (await owners(tenant), await displaced(tenant)) == ({"hello 2.0.0": "green", "hello 3.0.0": "blue"}, 0)


async def test_other_content_is_asked_for_rather_than_given(tenant: Tenant) -> None:
    blue, teal, green = [await tenant.endpoint(slug) for slug in ("blue", "teal", "green")]
    mine: dict[str, Any] = {"jobs": [job(trigger=static_trigger("a.event"))], "sources": [source(params={"room": "a"})]}
    await tenant.register(blue, **mine)
    await tenant.register(teal, jobs=mine["jobs"])
    await tenant.register(green, jobs=[job(trigger=static_trigger("b.event"))], sources=[source(params={"room": "b"})])
    await tenant.disable_absent(green, 2)
    assert (await owners(tenant), await asked(tenant)) == ({}, ["blue", "teal"])
    assert (await tenant.latest())["enabled"] is False
    await tenant.register(blue, 2, **mine)
    assert await owners(tenant) == {"acme.room-http": "blue", "hello 1.0.0": "blue"}
    latest = await tenant.latest()
    assert (latest["enabled"], latest["event_names"]) == (True, ["a.event"])
    await tenant.disable_absent(blue, 3)
    assert await owners(tenant) == {"hello 1.0.0": "teal"}


async def test_what_others_offer_outlives_the_endpoint_that_had_it_with_what_hangs_on_it(tenant: Tenant) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    mine: dict[str, Any] = {"jobs": [job(trigger=static_trigger("a.event"))], "sources": [source(params={"room": "a"})]}
    await tenant.register(blue, **mine)
    await tenant.register(green, jobs=[job(trigger=static_trigger("b.event"))], sources=[source(params={"room": "b"})])
    await tenant.connection.execute("UPDATE event_dispatchers SET operator_disabled = true")
    await tenant.connection.execute("UPDATE trigger_sources SET active = true, channel_data = '{\"hook\": 1}'")
    kept = """
        SELECT
            v.id AS version_id, d.id AS dispatcher_id, d.operator_disabled, s.id, s.active, s.channel_data, x.ciphertext
        FROM job_versions v
        JOIN event_dispatchers d ON d.job_version_id = v.id, trigger_sources s
        JOIN trigger_source_secrets x ON x.source_id = s.id
    """
    before = await tenant.rows(kept)
    await delete(tenant, green)
    assert (await owners(tenant), await asked(tenant), await displaced(tenant)) == ({}, ["blue"], 0)
    await tenant.register(blue, 2, **mine)
    assert await owners(tenant) == {"acme.room-http": "blue", "hello 1.0.0": "blue"}
    assert await tenant.rows(kept) == before
    latest = await tenant.latest()
    assert (latest["alias"], latest["event_names"]) == ("1.0.0", ["a.event"])


async def test_old_versions_go_first_unless_something_of_them_is_left_to_others(tenant: Tenant) -> None:
    app, other = await tenant.endpoint("app"), await tenant.endpoint("other")
    for sequence, version in enumerate(("1.0.0", "2.0.0", "3.0.0"), start=1):
        await tenant.register(
            app, sequence, jobs=[job("kept", version), *([job("dropped"), job("shared")] if sequence == 1 else [])]
        )
        if sequence == 1:
            await tenant.connection.execute(
                "INSERT INTO event_dispatchers (id, origin, event_names, source, dispatchable_type, dispatchable_id,"
                " job_version_id, environment_id)"
                " SELECT gen_random_uuid(), 'API', '{a}', 's', 'JOB_VERSION', v.id, v.id, v.environment_id"
                " FROM job_versions v JOIN jobs j ON j.id = v.job_id WHERE j.slug <> 'dropped'"
            )
    await tenant.disable_absent(app, 4, jobs=[job("kept", "3.0.0")])
    await tenant.register(other, jobs=[job("shared", "2.0.0")])

    deleted = [await tenant.catalog.delete_disabled_versions(app, limit=1) for _ in range(3)]

    assert deleted == [True, True, False]
    stored = "SELECT j.slug, v.version FROM job_versions v JOIN jobs j ON j.id = v.job_id ORDER BY j.slug, v.version"
    assert [tuple(row.values()) for row in await tenant.rows(stored)] == [
        ("kept", "1.0.0"),
        ("kept", "3.0.0"),
        ("shared", "1.0.0"),
        ("shared", "2.0.0"),
    ]
    assert await tenant.connection.fetchval("SELECT count(*) FROM event_dispatchers WHERE origin = 'API'") == 2


async def test_what_a_newer_registration_took_over_meanwhile_stays_there(tenant: Tenant) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    late = tenant.queue_jobs(blue, 1, **SHARED)
    await tenant.register(green, **SHARED)
    await tenant.run(late)
    await tenant.disable_absent(green, 2)
    assert set((await owners(tenant)).values()) == {"blue"}


async def test_two_endpoints_register_a_source_for_the_first_time_at_once(tenant: Tenant, database_url: str) -> None:
    blue, green = await tenant.endpoint("blue"), await tenant.endpoint("green")
    async with (
        second_connection(tenant, database_url) as (other, waits),
        asyncio.TaskGroup() as tasks,
        tenant.connection.transaction(),
    ):
        await tenant.register(blue, sources=[source()])
        tasks.create_task(other.register(green, sources=[source()]))
        await eventually(waits)
    assert (await owners(tenant), await displaced(tenant)) == ({"acme.room-http": "green"}, 1)
    await tenant.disable_absent(green, 2)
    assert await owners(tenant) == {"acme.room-http": "blue"}


async def test_what_many_offer_costs_the_same_to_drop(tenant: Tenant) -> None:
    endpoints = [await tenant.endpoint(f"app-{n}") for n in range(40)]
    for endpoint in endpoints:
        await tenant.register(endpoint, **SHARED)
    await tenant.disable_absent(endpoints[-1], 2)
    assert set((await owners(tenant)).values()) == {"app-38"}
    looked_at = await tenant.connection.fetchval("SELECT count(*) FROM displaced_items WHERE xmax <> 0")
    assert 0 < looked_at < 10 * len(SHARED)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_endpoints_offer_and_drop_is_there_when_one_of_them_offers_it(tenant: Tenant, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test of its own
    endpoints: dict[str, tuple[UUID, int]] = {}
    offers: dict[str, set[str]] = {}
    for _ in range(60):
        slug = chance.choice(["blue", "green", "red"])
        if slug in endpoints and chance.random() < 0.1:
            await delete(tenant, endpoints.pop(slug)[0])
            del offers[slug]
        else:
            endpoint, sequence = endpoints.get(slug) or (await tenant.endpoint(slug), 0)
            endpoints[slug] = (endpoint, sequence + 1)
            versions = {f"job-{n}": f"{chance.randint(1, 2)}.0.0" for n in range(4) if chance.random() < 0.5}
            keys = [f"source-{n}" for n in range(2) if chance.random() < 0.5]
            lists = {"jobs": [job(*item) for item in versions.items()], "sources": [source(key) for key in keys]}
            async with tenant.connection.transaction():
                unchanged = await tenant.renumber(endpoint, sequence + 1, **lists)
                await tenant.disable_absent(endpoint, sequence + 1, **lists)
            changed = {
                name: [item for item in items if item.get("id", item.get("key")) not in unchanged]
                for name, items in lists.items()
            }
            await tenant.register(endpoint, sequence + 1, **changed)
            offers[slug] = {f"{key} {version}" for key, version in versions.items()} | set(keys)
        found = await owners(tenant)
        assert set(found) == set().union(*offers.values())
        assert [item for item, owner in found.items() if item not in offers[owner]] == []
    assert await asked(tenant) == []


class Deployments:
    """Two deployments of one app, of which green was registered last; the job differs in its event."""

    def __init__(self, operator: Operator, environment_id: str, blue: FakeEndpoint, green: FakeEndpoint) -> None:
        self.operator = operator
        self.environment_id = environment_id
        self.blue = blue
        self.green = green
        self.ids: dict[str, str] = {}

    async def register(self, endpoint: FakeEndpoint) -> None:
        request = endpoint_service_pb2.CreateEndpointRequest(
            environment_id=self.environment_id, slug=endpoint.slug, url=endpoint.url
        )
        created = await self.operator.caller.endpoints.CreateEndpoint(request)
        self.ids[endpoint.slug] = created.endpoint.id
        await self.operator.work_off()

    async def drop_green(self) -> None:
        self.green.index = EMPTY_INDEX
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=self.ids["green"], force=True)
        await self.operator.caller.endpoints.IndexEndpoint(request)
        await self.operator.work_off()

    async def keep_up(self) -> int:
        """Do what is due; return how many indexes were."""
        _, indexes = await self.operator.stage.service.operations.endpoint_upkeep.run_once()
        await self.operator.work_off()
        return indexes

    async def pass_time(self, by: timedelta) -> None:
        """Have what is owed be due so much sooner."""
        await self.operator.connection.execute("UPDATE endpoints SET owed_index_at = owed_index_at - $1::interval", by)

    async def job(self) -> tuple[str, str, list[str]]:
        request = catalog_service_pb2.ListJobsRequest(environment_id=self.environment_id)
        (shown,) = (await self.operator.caller.catalog.ListJobs(request)).jobs
        latest = shown.latest_version
        return latest.endpoint_slug, state_name(latest), list(latest.event_names)


@pytest.fixture(params=["development"])
async def deployments(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record], request: pytest.FixtureRequest
) -> AsyncIterator[Deployments]:
    def offer(event: str) -> dict[str, Any]:
        return {**EMPTY_INDEX, "jobs": [event_job("shared", event=event)]}

    environment, key = getattr(stage.ours, request.param), getattr(stage.ours, f"{request.param}_key")
    async with (
        FakeEndpoint(index=offer("a.event"), api_key=key, slug="blue") as blue,
        FakeEndpoint(index=offer("b.event"), api_key=key, slug="green") as green,
    ):
        both = Deployments(Operator(stage, connection), environment.id, blue, green)
        for endpoint in (blue, green):
            await both.register(endpoint)
        yield both


# In PRODUCTION both were indexed just now, which would put another index of them off for a quarter of an hour.
@pytest.mark.parametrize("deployments", ["development", "production"], indirect=True)
async def test_an_endpoint_that_offers_other_content_is_indexed_at_once(deployments: Deployments) -> None:
    assert await deployments.job() == ("green", "ACTIVE", ["b.event"])
    await deployments.drop_green()
    assert await deployments.job() == ("green", "DISABLED", ["b.event"])
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])
    newest = "SELECT reason FROM endpoint_indexes WHERE endpoint_id = $1 ORDER BY sequence DESC LIMIT 1"
    reason = await deployments.operator.connection.fetchval(newest, deployments.ids["blue"])
    assert reason == "Indexed anew because another endpoint may have dropped what this one offers."
    await deployments.pass_time(timedelta(hours=1))
    assert await deployments.keep_up() == 0


async def test_an_index_that_is_owed_is_asked_for_again_until_it_is_answered(deployments: Deployments) -> None:
    deployments.blue.behaviour = on("INDEX_ENDPOINT", status(404))
    await deployments.drop_green()
    assert [await deployments.keep_up() for _ in range(2)] == [1, 0]
    assert await deployments.job() == ("green", "DISABLED", ["b.event"])
    deployments.blue.behaviour = None
    await deployments.pass_time(timedelta(minutes=14))
    assert await deployments.keep_up() == 0
    await deployments.pass_time(timedelta(minutes=1))
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])


async def test_who_was_passed_by_because_its_deletion_failed_is_indexed_at_once(
    deployments: Deployments, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Half a deletion is made by hand: it has said what it is about to do, holds the endpoint, and fails."""
    blue, service = UUID(deployments.ids["blue"]), deployments.operator.stage.service
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'No.'; END $$;"
        " CREATE TRIGGER refuse BEFORE DELETE ON endpoints FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    await connection.execute(refuse)
    request = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=str(blue))
    with pytest.raises(grpc.aio.AioRpcError):
        await deployments.operator.caller.endpoints.DeleteEndpoint(request)
    async with service.store.transaction() as tx:
        await tx.connection.execute("SELECT FROM endpoints WHERE id = $1 FOR UPDATE", blue)
        await deployments.drop_green()
    assert await deployments.job() == ("green", "DISABLED", ["b.event"])
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])


async def test_a_suspended_endpoint_is_indexed_at_once_when_it_is_back(deployments: Deployments) -> None:
    connection, blue = deployments.operator.connection, deployments.ids["blue"]
    await connection.execute(
        "UPDATE endpoints SET state = 'SUSPENDED', next_probe_at = now() + interval '1 hour' WHERE id = $1", blue
    )
    await deployments.drop_green()
    assert await deployments.keep_up() == 0
    request = endpoint_service_pb2.ResumeEndpointRequest(endpoint_id=blue)
    await deployments.operator.caller.endpoints.ResumeEndpoint(request)
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])


async def test_what_others_drop_is_asked_for_where_nothing_is_indexed_by_schedule(deployments: Deployments) -> None:
    await deployments.drop_green()
    deployments.operator.stage.service.operations.endpoint_upkeep._policy = HealthPolicy(reindex_every=timedelta())
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])


async def test_what_was_displaced_before_that_was_kept_is_found_by_the_newest_answers(
    deployments: Deployments, database_url: str
) -> None:
    await runner.downgrade(database_url, "0012")
    await runner.upgrade(database_url)
    await deployments.drop_green()
    assert await deployments.keep_up() == 1
    assert await deployments.job() == ("blue", "ACTIVE", ["a.event"])


async def test_what_is_asked_for_at_once_is_asked_for_by_schedule_after_a_downgrade(
    deployments: Deployments, database_url: str
) -> None:
    connection, ours = deployments.operator.connection, deployments.operator.stage.ours
    await deployments.operator.stage.store_endpoint(environment_id=ours.production.id, slug="production")
    await connection.execute("UPDATE endpoints SET owed_index_at = now() WHERE slug <> 'green'")
    await runner.downgrade(database_url, "0012")
    due = await connection.fetch("SELECT slug, next_index_at <= now() AS is_due FROM endpoints ORDER BY slug")
    assert [tuple(row) for row in due] == [("blue", None), ("green", None), ("production", True)]
