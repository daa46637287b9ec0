from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.json_text import canonical_hash, parse_json
from services.endpoints.domain.registration import ENDPOINT_DELETED, NEWER_REGISTRATION
from tests.support.catalog import connected_tenant
from tests.support.offers import (
    cron_trigger,
    dynamic,
    dynamic_trigger_use,
    integration,
    interval_trigger,
    job,
    source,
    static_trigger,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.catalog import Tenant

LAST = datetime(2024, 1, 1, tzinfo=UTC)
NEXT = datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


async def test_a_static_job_gets_its_version_alias_and_dispatcher(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    offer = job(trigger=static_trigger(["a", "b"], payload={"plan": ["pro"]}))
    assert await tenant.register(app, jobs=[offer]) == ["REGISTERED"]
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"]) == ("1.0.0", "1.0.0")
    assert (latest["event_names"], latest["source"]) == (["a", "b"], "trigger.dev")
    assert json.loads(latest["filter"]) == {"plan": ["pro"]}
    assert (latest["manual"], latest["enabled"], latest["active"]) == (False, True, None)


async def test_versions_compare_as_numbers(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, jobs=[job(version="9.0.0")])
    await tenant.register(second, jobs=[job(version="10.0.0")])
    assert await tenant.versions() == {"9.0.0": "ACTIVE", "10.0.0": "ACTIVE"}
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"]) == ("10.0.0", "10.0.0")


async def test_a_lower_version_of_another_endpoint_moves_nothing(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, jobs=[job(version="10.0.0", trigger=static_trigger("new"))])
    await tenant.register(second, jobs=[job(version="9.0.0", trigger=static_trigger("old"))])
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"], latest["event_names"]) == ("10.0.0", "10.0.0", ["new"])


async def test_a_downgrade_moves_alias_and_dispatcher_back(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(version="2.0.0")])
    await tenant.register(app, 2, jobs=[job(version="1.0.0")])
    assert await tenant.versions() == {"2.0.0": "DISABLED", "1.0.0": "ACTIVE"}
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"]) == ("1.0.0", "1.0.0")


async def test_a_job_changes_from_schedule_to_event_and_back(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=interval_trigger(60))])
    latest = await tenant.latest()
    assert (latest["event_names"], latest["source"], latest["manual"]) == (
        ["dev.trigger.scheduled"],
        "trigger.dev",
        True,
    )
    assert (latest["active"], json.loads(latest["schedule"])) == (
        True,
        {"type": "interval", "options": {"seconds": 60}},
    )
    assert latest["next_event_at"] is None

    assert await tenant.register(app, 2, jobs=[job(trigger=static_trigger("x", payload={"a": [1]}))]) == ["CHANGED"]
    latest = await tenant.latest()
    assert (latest["event_names"], latest["manual"], latest["enabled"], latest["active"]) == (["x"], False, True, False)

    await tenant.register(app, 3, jobs=[job(trigger=cron_trigger("0 0 * * *"))])
    latest = await tenant.latest()
    assert (latest["event_names"], latest["filter"], latest["manual"]) == (["dev.trigger.scheduled"], "{}", True)
    assert (latest["active"], json.loads(latest["schedule"])["options"]) == (True, {"cron": "0 0 * * *"})


@pytest.mark.parametrize("trigger", [dynamic_trigger_use(), {"type": "invoke"}])
async def test_a_job_without_rule_or_schedule_stops_both(tenant: Tenant, trigger: dict[str, Any]) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=interval_trigger()), job("never", trigger=trigger)])
    await tenant.register(app, 2, jobs=[job(trigger=trigger)])
    latest = await tenant.latest()
    assert (latest["alias"], latest["enabled"], latest["active"]) == ("1.0.0", False, False)
    assert (await tenant.latest("never"))["enabled"] is None


async def test_an_unchanged_schedule_keeps_its_phase(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=interval_trigger(60))])
    await tenant.connection.execute("UPDATE schedule_sources SET last_event_at = $1, next_event_at = $2", LAST, NEXT)
    noted = {"type": "interval", "options": {"seconds": 60}, "metadata": {"note": 1}}
    await tenant.register(app, 2, jobs=[job(trigger={"type": "scheduled", "schedule": noted})])
    assert await tenant.connection.fetchval("SELECT metadata::text FROM schedule_sources") == '{"note": 1}'
    latest = await tenant.latest()
    assert (latest["last_event_at"], latest["next_event_at"]) == (LAST, NEXT)
    await tenant.register(app, 3, jobs=[job(trigger=interval_trigger(61))])
    latest = await tenant.latest()
    assert (latest["last_event_at"], latest["next_event_at"]) == (LAST, None)


async def test_absent_jobs_are_disabled_for_their_endpoint_only(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, 1, jobs=[job(version="2.0.0"), job("mine")])
    await tenant.register(second, 1, jobs=[job(version="1.0.0"), job("theirs")])
    assert await tenant.disable_absent(first, 2, jobs=[job("mine")]) == [(ItemKind.JOB, "hello")]
    assert await tenant.versions() == {"2.0.0": "DISABLED", "1.0.0": "ACTIVE"}
    assert await tenant.versions("mine") == await tenant.versions("theirs") == {"1.0.0": "ACTIVE"}
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"], latest["enabled"]) == ("1.0.0", "1.0.0", True)

    assert await tenant.disable_absent(second, 2, jobs=[job("theirs")]) == [(ItemKind.JOB, "hello")]
    latest = await tenant.latest()
    assert (latest["alias"], latest["enabled"]) == ("1.0.0", False)
    assert await tenant.disable_absent(second, 3, jobs=[job("theirs")]) == []


async def test_a_disabled_job_is_disabled_whatever_its_version_and_comes_back(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=interval_trigger())])
    await tenant.disable_absent(app, 2, jobs=[job(version="2.0.0", enabled=False)])
    assert await tenant.versions() == {"1.0.0": "DISABLED"}
    latest = await tenant.latest()
    assert (latest["enabled"], latest["active"]) == (False, False)
    assert await tenant.register(app, 3, jobs=[job(trigger=interval_trigger())]) == ["CHANGED"]
    latest = await tenant.latest()
    assert (latest["enabled"], latest["active"]) == (True, True)


async def test_a_newer_registration_takes_over_from_another_endpoint(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, 7, jobs=[job()], sources=[source()])
    assert await tenant.register(second, 1, jobs=[job()], sources=[source()]) == ["CHANGED", "CHANGED"]
    owners = await tenant.row(
        """
        SELECT v.endpoint_id, v.index_sequence, s.endpoint_id AS source_endpoint_id
        FROM job_versions v CROSS JOIN trigger_sources s
        """
    )
    assert owners == {"endpoint_id": second, "index_sequence": 1, "source_endpoint_id": second}
    assert await tenant.disable_absent(first, 8) == []
    assert await tenant.versions() == {"1.0.0": "ACTIVE"}


async def test_a_job_follows_its_endpoint_in_being_internal_and_in_its_title(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    for sequence, (is_internal, title) in enumerate([(False, "One"), (True, "One"), (True, "Two"), (False, "Two")], 1):
        await tenant.register(app, sequence, jobs=[job(internal=is_internal, name=title)])
        assert await tenant.row("SELECT internal, title FROM jobs") == {"internal": is_internal, "title": title}


async def test_an_older_registration_has_no_effect(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    everything = {"sources": [source()], "dynamicTriggers": [dynamic()], "dynamicSchedules": [dynamic("daily")]}
    await tenant.register(app, 5, jobs=[job(version="2.0.0", name="New")], **everything)
    older = tenant.queue_jobs(app, 4, jobs=[job(version="1.0.0", name="Old")], **everything)
    outcomes = await tenant.run(older)
    assert [(outcome.result.value, outcome.reason) for outcome in outcomes] == [("SUPERSEDED", NEWER_REGISTRATION)] * 4
    assert await tenant.versions() == {"2.0.0": "ACTIVE"}
    assert await tenant.connection.fetchval("SELECT title FROM jobs") == "New"


async def test_an_older_registration_cannot_bring_back_what_was_disabled(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    lists = {"jobs": [job()], "sources": [source()], "dynamicTriggers": [dynamic()], "dynamicSchedules": [dynamic("d")]}
    await tenant.register(app, 1, **lists)
    assert len(await tenant.disable_absent(app, 3)) == 4
    assert await tenant.register(app, 2, **lists) == ["SUPERSEDED"] * 4
    assert await tenant.versions() == {"1.0.0": "DISABLED"}
    assert await tenant.register(app, 4, **lists) == ["CHANGED"] * 4


async def test_of_two_registrations_in_one_batch_the_newer_counts(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    newer = tenant.queue_jobs(app, 2, jobs=[job(version="2.0.0")])
    older = tenant.queue_jobs(app, 1, jobs=[job(version="1.0.0")])
    outcomes = await tenant.run([*newer, *older])
    assert [outcome.result.value for outcome in outcomes] == ["REGISTERED", "SUPERSEDED"]
    assert await tenant.versions() == {"2.0.0": "ACTIVE"}


async def test_two_endpoints_may_offer_one_item_in_one_batch(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    lists = {"jobs": [job()], "sources": [source()]}
    outcomes = await tenant.run([*tenant.queue_jobs(first, 1, **lists), *tenant.queue_jobs(second, 1, **lists)])
    assert [outcome.result.value for outcome in outcomes] == ["REGISTERED", "REGISTERED", "CHANGED", "CHANGED"]
    assert await tenant.connection.fetchval("SELECT endpoint_id FROM job_versions") == second


async def test_repeating_a_registration_repeats_its_effect(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    lists = {"jobs": [job()], "sources": [source()], "dynamicTriggers": [dynamic()]}
    await tenant.register(app, 1, **lists)
    await tenant.connection.execute("UPDATE event_dispatchers SET event_names = '{other}'")
    assert await tenant.register(app, 1, **lists) == ["UNCHANGED"] * 3
    assert (await tenant.latest())["event_names"] == ["user.created"]


async def test_dynamic_triggers_may_come_before_their_jobs(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(
        app,
        dynamicTriggers=[
            dynamic("on-demand", [("a", "1.0.0"), ("b", "1.0.0")], registerSourceJob={"id": "r", "version": "0.1.0"})
        ],
        dynamicSchedules=[dynamic("on-demand", [("a", "1.0.0")])],
    )
    await tenant.register(app, jobs=[job("a", trigger=dynamic_trigger_use()), job("b", trigger=dynamic_trigger_use())])
    assert await tenant.register(app, 2, dynamicTriggers=[dynamic("on-demand", [("b", "2.0.0"), ("c", "1.0.0")])]) == [
        "CHANGED"
    ]
    triggers = await tenant.catalog.list_dynamic_triggers(
        tenant.environment_id, endpoint_id=None, limit=10, after_id=NIL_UUID
    )
    assert {(trigger.type, trigger.jobs, trigger.register_source_job_json) for trigger in triggers.rows} == {
        ("EVENT", (("b", "2.0.0"), ("c", "1.0.0")), None),
        ("SCHEDULE", (("a", "1.0.0"),), None),
    }


async def test_a_dynamic_schedule_has_a_dispatcher_that_follows_it(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    query = """
        SELECT event_names, source, manual, enabled, dispatchable_type, dispatchable_id = dynamic_trigger_id AS is_own
        FROM event_dispatchers
    """
    dispatcher = {
        "event_names": ["dev.trigger.scheduled"],
        "source": "trigger.dev",
        "manual": True,
        "enabled": True,
        "dispatchable_type": "DYNAMIC_TRIGGER",
        "is_own": True,
    }
    await tenant.register(app, 1, dynamicTriggers=[dynamic("t")], dynamicSchedules=[dynamic("s")])
    assert await tenant.rows(query) == [dispatcher]
    assert await tenant.disable_absent(app, 2, dynamicTriggers=[dynamic("t")]) == [(ItemKind.DYNAMIC_SCHEDULE, "s")]
    assert await tenant.rows(query) == [dispatcher | {"enabled": False}]
    await tenant.register(app, 3, dynamicSchedules=[dynamic("s")])
    assert await tenant.rows(query) == [dispatcher]


async def test_what_an_operator_disabled_stays_disabled(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job()])
    await tenant.connection.execute("UPDATE event_dispatchers SET operator_disabled = true")
    await tenant.register(app, 2, jobs=[job(trigger=static_trigger("other"))])
    await tenant.disable_absent(app, 3)
    await tenant.register(app, 4, jobs=[job()])
    latest = await tenant.latest()
    assert (latest["operator_disabled"], latest["enabled"]) == (True, True)


async def test_dispatchers_made_through_the_api_are_never_touched(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job()])
    await tenant.connection.execute(
        """
        INSERT INTO event_dispatchers (
            id, origin, event_names, source, dispatchable_type, dispatchable_id, job_version_id, environment_id
        )
        SELECT $1, 'API', '{mine}', 'me', dispatchable_type, dispatchable_id, job_version_id, environment_id
        FROM event_dispatchers
        """,
        uuid4(),
    )
    query = "SELECT d::text FROM event_dispatchers d WHERE origin = 'API'"
    before = await tenant.row(query)
    await tenant.register(app, 2, jobs=[job(version="2.0.0", trigger=interval_trigger())])
    await tenant.disable_absent(app, 3)
    assert await tenant.row(query) == before


async def test_source_params_and_options_follow_the_code_and_the_secret_stays(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, sources=[source(options={"event": ["a", "b"]})])
    secret = await tenant.row("SELECT source_id, ciphertext FROM trigger_source_secrets")
    environment, _, plain = secret["ciphertext"].decode().partition(":")
    assert (environment, len(bytes.fromhex(plain))) == (str(tenant.environment_id), 32)
    await tenant.connection.execute("UPDATE trigger_source_options SET registered = true")
    await tenant.connection.execute("UPDATE trigger_sources SET active = true")
    changed = source(options={"event": ["b", "c"], "room": ["x"]}, params={"room": "attic"})
    assert await tenant.register(app, 2, sources=[changed]) == ["CHANGED"]
    assert await tenant.rows("SELECT name, value, registered FROM trigger_source_options ORDER BY name, value") == [
        {"name": "event", "value": "b", "registered": True},
        {"name": "event", "value": "c", "registered": False},
        {"name": "room", "value": "x", "registered": False},
    ]
    sources = await tenant.catalog.list_sources(tenant.environment_id, endpoint_id=app, limit=10, after_key="")
    (stored,) = sources.rows
    assert (stored.params_json, stored.active, stored.enabled) == ('{"room": "attic"}', True, True)
    assert json.loads(stored.register_source_job_json or "") == {"id": "acme.room-http", "version": "0.1.0"}
    assert await tenant.row("SELECT source_id, ciphertext FROM trigger_source_secrets") == secret


async def test_an_existing_integration_stays_as_it_is(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    uses = {"a": integration("local"), "b": integration("hosted", "HOSTED"), "c": integration("own", "RESOLVER")}
    await tenant.register(app, 1, jobs=[job(integrations=uses)])
    query = "SELECT slug, title, auth_source, connection_type, setup_status FROM integrations ORDER BY slug"
    before = [tuple(row.values()) for row in await tenant.rows(query)]
    assert before == [
        ("hosted", "hosted", "HOSTED", "DEVELOPER", "MISSING_FIELDS"),
        ("local", "Acme", "LOCAL", "DEVELOPER", "COMPLETE"),
        ("own", "Acme", "RESOLVER", "EXTERNAL", "COMPLETE"),
    ]
    renamed = {"a": integration("local", "HOSTED", "Other"), "d": integration("own", "RESOLVER")}
    await tenant.register(app, 2, jobs=[job(integrations=renamed)])
    assert [tuple(row.values()) for row in await tenant.rows(query)] == before
    stored = await tenant.catalog.get_job(tenant.environment_id, "hello")
    assert stored is not None
    assert [(one.key, one.slug) for one in stored.latest.integrations] == [("a", "local"), ("d", "own")]


async def test_examples_follow_the_code(tenant: Tenant) -> None:
    app = await tenant.endpoint()

    def offer(*examples: dict[str, Any]) -> dict[str, Any]:
        return job(event={**job()["event"], "examples": list(examples)})

    await tenant.register(app, 1, jobs=[offer({"id": "a", "name": "A", "payload": 1}, {"id": "b", "name": "B"})])
    await tenant.register(app, 2, jobs=[offer({"id": "b", "name": "B2", "icon": "i", "payload": {"x": [1.0]}})])
    stored = await tenant.catalog.get_job(tenant.environment_id, "hello")
    assert stored is not None
    assert [(one.slug, one.name, one.icon, one.payload_json) for one in stored.latest.examples] == [
        ("b", "B2", "i", '{"x": [1.0]}')
    ]
    assert "examples" not in json.loads(stored.latest.event_specification_json)


async def test_queues_of_older_sdks_are_kept(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job("a", queue="slow"), job("b", queue={"name": "one", "maxConcurrent": 1})])
    query = "SELECT name, max_jobs FROM job_queues ORDER BY name"
    assert await tenant.rows(query) == [{"name": "one", "max_jobs": 1}, {"name": "slow", "max_jobs": 100}]
    await tenant.register(
        app, 2, jobs=[job("a", queue={"name": "slow", "maxConcurrent": 7}), job("b", queue="one"), job("c")]
    )
    assert await tenant.rows(query) == [{"name": "one", "max_jobs": 1}, {"name": "slow", "max_jobs": 7}]
    stored = {slug: await tenant.catalog.get_job(tenant.environment_id, slug) for slug in "ac"}
    assert [one.latest.queue and one.latest.queue.name for one in stored.values() if one] == ["slow", None]


async def test_unchanged_items_only_get_a_new_number(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    lists = {
        "jobs": [job("same"), job("bumped"), job("renamed"), job("gone")],
        "sources": [source()],
        "dynamicTriggers": [dynamic("x")],
        "dynamicSchedules": [dynamic("x")],
    }
    await tenant.register(app, 1, **lists)
    await tenant.disable_absent(app, 2, **{**lists, "jobs": lists["jobs"][:3]})
    query = "SELECT v.id, v.updated_at, v.state FROM job_versions v ORDER BY v.id"
    before = await tenant.rows(query)
    now = {**lists, "jobs": [job("same"), job("bumped", "2.0.0"), job("renamed", name="N"), job("gone")]}
    assert await tenant.renumber(app, 3, **now) == {"same", "acme.room-http", "x"}
    assert await tenant.rows(query) == before
    numbers = await tenant.rows(
        """
        SELECT j.slug AS key, v.index_sequence FROM job_versions v JOIN jobs j ON j.id = v.job_id
        UNION ALL SELECT key, index_sequence FROM trigger_sources
        UNION ALL SELECT type, index_sequence FROM dynamic_triggers
        """
    )
    assert {row["key"]: row["index_sequence"] for row in numbers} == {
        "same": 3,
        "bumped": 1,
        "renamed": 1,
        "gone": 2,
        "acme.room-http": 3,
        "EVENT": 3,
        "SCHEDULE": 3,
    }
    assert await tenant.renumber(app, 2, **now) == set()
    assert await tenant.renumber(await tenant.endpoint("b"), 9, **now) == set()


async def test_deleting_an_endpoint_leaves_the_jobs_dispatchers_to_the_others(tenant: Tenant) -> None:
    old, new = await tenant.endpoint("old"), await tenant.endpoint("new")
    await tenant.register(old, jobs=[job("hello", "1.0.0"), job("off", "2.0.0"), job("gone")])
    await tenant.register(new, jobs=[job("hello", "1.1.0"), job("off", "1.0.0")])
    await tenant.disable_absent(new, 2, jobs=[job("hello", "1.1.0")])
    written = await tenant.rows(
        """
        INSERT INTO event_dispatchers
            (id, origin, event_names, source, dispatchable_type, dispatchable_id, job_version_id, environment_id)
        SELECT
            gen_random_uuid(), 'API', ARRAY[j.slug], 'trigger.dev', 'JOB_VERSION', v.job_id, v.id, v.environment_id
        FROM job_versions v
        JOIN jobs j ON j.id = v.job_id
        WHERE v.endpoint_id = $1
        RETURNING event_names[1] AS job
        """,
        old,
    )
    assert len(written) == 3
    await tenant.connection.execute("UPDATE event_dispatchers SET operator_disabled = true WHERE origin = 'INDEX'")

    async with tenant.connection.transaction():
        await tenant.catalog.disable_endpoint(old)
        await tenant.connection.execute("DELETE FROM endpoints WHERE id = $1", old)

    left = await tenant.rows(
        """
        SELECT d.origin, j.slug, v.version, d.enabled, d.operator_disabled
        FROM event_dispatchers d
        JOIN job_versions v ON v.id = d.job_version_id
        JOIN jobs j ON j.id = v.job_id
        ORDER BY 1, 2
        """
    )
    assert [tuple(row.values()) for row in left] == [
        ("API", "hello", "1.1.0", True, False),
        ("API", "off", "1.0.0", True, False),
        ("INDEX", "hello", "1.1.0", True, True),
        ("INDEX", "off", "1.0.0", False, True),
    ]
    jobs = (await tenant.catalog.list_jobs(tenant.job_filter(), limit=9, after_slug="")).rows
    assert [(one.slug, one.latest.version, one.latest.is_active) for one in jobs] == [
        ("hello", "1.1.0", True),
        ("off", "1.0.0", False),
    ]


async def test_the_longest_keys_are_stored(tenant: Tenant) -> None:
    app, key = await tenant.endpoint(), "\U0001f600" * 500
    offer = job(key, queue=key, trigger=interval_trigger())
    assert (
        await tenant.register(
            app, jobs=[offer], sources=[source(key)], dynamicSchedules=[dynamic("\U0001f600" * 200, [(key, "1.0.0")])]
        )
        == ["REGISTERED"] * 3
    )
    stored = await tenant.catalog.get_job(tenant.environment_id, key)
    assert stored is not None
    assert stored.latest.queue is not None
    assert stored.latest.queue.name == key


async def test_registrations_of_a_deleted_endpoint_have_no_effect(tenant: Tenant) -> None:
    app, other = await tenant.endpoint("a"), await tenant.endpoint("b")
    lists = {"jobs": [job()], "sources": [source()], "dynamicTriggers": [dynamic()]}
    queue_jobs = [*tenant.queue_jobs(app, 1, **lists), *tenant.queue_jobs(other, 1, jobs=[job("b")])]
    await tenant.connection.execute("DELETE FROM endpoints WHERE id = $1", app)
    outcomes = await tenant.run(queue_jobs)
    assert [(outcome.result.value, outcome.reason) for outcome in outcomes] == [
        *[("SUPERSEDED", ENDPOINT_DELETED)] * 3,
        ("REGISTERED", None),
    ]


async def test_deleting_an_endpoint_leaves_its_jobs_to_the_others(tenant: Tenant) -> None:
    first, second = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(first, 1, jobs=[job(version="2.0.0", trigger=static_trigger("two"))], sources=[source()])
    await tenant.register(second, 1, jobs=[job(version="1.0.0", trigger=interval_trigger())])
    async with tenant.connection.transaction():
        disabled = await tenant.catalog.disable_endpoint(first)
        await tenant.connection.execute("DELETE FROM endpoints WHERE id = $1", first)
    assert disabled == [(ItemKind.JOB, "hello"), (ItemKind.SOURCE, "acme.room-http")]
    latest = await tenant.latest()
    assert (latest["alias"], latest["dispatched"], latest["enabled"]) == ("1.0.0", "1.0.0", True)
    assert (latest["manual"], latest["active"]) == (True, True)


@pytest.mark.parametrize(
    "text", ["[1e16, -0.0, 1.50, 1e-7, 1.5e30, 5e-32]", '{"b": 1, "a": {"d": null, "c": "\\u00e9"}}']
)
async def test_the_hash_of_a_payload_survives_the_ledger(tenant: Tenant, text: str) -> None:
    stored = await tenant.connection.fetchval("SELECT $1::text::jsonb::text", text)
    assert canonical_hash(parse_json(stored)) == canonical_hash(parse_json(text))


async def test_a_batch_of_200_takes_few_statements(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    queue_jobs = tenant.queue_jobs(
        app,
        1,
        jobs=[
            job(f"job-{n}", integrations={"a": integration()}, queue="q", trigger=cron_trigger()) for n in range(100)
        ],
        sources=[source(f"source-{n}") for n in range(50)],
        dynamicTriggers=[dynamic(f"trigger-{n}", [("a", "1.0.0")]) for n in range(25)],
        dynamicSchedules=[dynamic(f"schedule-{n}") for n in range(25)],
    )
    await tenant.register(app, jobs=[job(queue="q")], sources=[source()], dynamicSchedules=[dynamic()])
    statements: list[str] = []
    with tenant.connection.query_logger(lambda record: statements.append(record.query)):
        outcomes = await tenant.run(queue_jobs)
    assert {outcome.result.value for outcome in outcomes} == {"REGISTERED"}
    assert [outcome.queue_job_id for outcome in outcomes] == [queue_job.id for queue_job in queue_jobs]
    assert len([statement for statement in statements if statement.startswith("--")]) == 19
