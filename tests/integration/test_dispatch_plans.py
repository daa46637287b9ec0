"""What finding the listeners of an event, and the runs of an event, reads where there is much else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from services.endpoints.domain.catalog import DELIVER_EVENT
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ports.dispatch import EventKind
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.queries import decided, load
from tests.support.dispatching import Scene, new_scene
from tests.support.ledger_plans import keep_plans

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

OTHERS = 10_000
LISTENING = 10
RUNS = 5_000

_DISPATCHERS = """
INSERT INTO event_dispatchers
    (id, origin, event_names, source, dispatchable_type, dispatchable_id, job_version_id, environment_id)
SELECT gen_random_uuid(), 'API', ARRAY['other-' || n % 500, 'another'], 'trigger.dev', 'JOB_VERSION', $1, $1, $2
FROM generate_series(1, $3::integer) AS n
"""
_ACCOUNTS = """
INSERT INTO external_accounts (id, identifier, organization_id, environment_id)
SELECT gen_random_uuid(), 'account-' || n, $1, $2 FROM generate_series(1, $3::integer) AS n
"""
_DISPATCHERS_OF_ACCOUNTS = """
INSERT INTO event_dispatchers
    (id, origin, event_names, source, dispatchable_type, dispatchable_id, job_version_id, environment_id,
    external_account_id)
SELECT gen_random_uuid(), 'API', ARRAY['wanted'], 'trigger.dev', 'JOB_VERSION', $1, $1, $2, id
FROM external_accounts WHERE identifier LIKE 'account-%'
"""
_RUNS = """
INSERT INTO job_runs
    (id, number, job_id, version_id, event_record_id, dispatcher_id, endpoint_id, environment_id, organization_id,
    project_id)
SELECT gen_random_uuid(), 1000 + n, v.job_id, v.id, $1, gen_random_uuid(), v.endpoint_id, v.environment_id,
    v.organization_id, v.project_id
FROM job_versions AS v CROSS JOIN generate_series(1, $2::integer) AS n
"""


@pytest.fixture
async def scene(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    scene = await new_scene(store, connection)
    await scene.register("welcome", event="registered")
    return scene


async def _plan(
    connection: asyncpg.Connection[asyncpg.Record], block: str, *arguments: str, noun: str = "dispatch"
) -> dict[str, Any]:
    """Run a block as its pool does, with a plan made before the arguments were known; return what it did."""
    statement = decided(load(noun)[block], [None if each == "NULL" else each for each in arguments])
    await connection.execute(f"PREPARE explained AS {statement}")
    try:
        explained = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained({', '.join(arguments)})"
        )
    finally:
        await connection.execute("DEALLOCATE explained")
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


def _rows_read(plan: dict[str, Any], table: str) -> float:
    """Count the rows that scans of a table and its indexes handed on or threw away."""
    rows: float = sum(_rows_read(child, table) for child in plan.get("Plans", ()))
    scanned = plan.get("Relation Name") or plan.get("Index Name", "")
    if "Scan" in plan["Node Type"] and scanned.startswith(table):
        rows += plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    return rows


def _quoted(*ids: object) -> str:
    return "ARRAY[" + ", ".join(f"'{each}'" for each in ids) + "]"


@pytest.mark.parametrize("is_analyzed", [True, False])
async def test_ten_of_ten_thousand_dispatchers_cost_like_ten(scene: Scene, is_analyzed: bool) -> None:
    version_id = await scene.version_id("welcome")
    listening = {await scene.dispatcher("wanted", "other-7", version_id=version_id) for _ in range(LISTENING)}
    await keep_plans(scene.connection)
    environment = scene.tenant.environment_id
    arguments = (f"{_quoted(environment)}::uuid[]", _quoted("wanted"), _quoted("trigger.dev"), "'{}'")
    alone = await _plan(scene.connection, "find_listeners", *arguments)
    await scene.connection.execute(_DISPATCHERS, version_id, environment, OTHERS)
    if is_analyzed:
        await scene.connection.execute("ANALYZE")

    plan = await _plan(scene.connection, "find_listeners", *arguments)
    filters = await _plan(scene.connection, "read_filters", f"{_quoted(*listening)}::uuid[]")
    async with scene.store.reading(Pool.CALL_BACKS) as tx:
        found = await tx.dispatch.find_listeners([EventKind(environment, "wanted", "trigger.dev")], [])

    (listeners,) = found.values()
    assert {listener.dispatcher_id for listener in listeners} == listening
    assert _rows_read(filters, "event_dispatcher") == LISTENING, filters
    assert _rows_read(plan, "event_dispatcher") <= 2 * LISTENING, plan
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 6 * LISTENING, plan
    assert _rows_read(alone, "event_dispatcher") == _rows_read(plan, "event_dispatcher")


async def test_dispatchers_of_other_accounts_are_not_handed_on(scene: Scene) -> None:
    version_id, environment = await scene.version_id("welcome"), scene.tenant.environment_id
    ours = await scene.account("ours")
    of_all = await scene.dispatcher("wanted", version_id=version_id)
    of_ours = await scene.dispatcher("wanted", version_id=version_id, account_id=ours)
    await scene.connection.execute(_ACCOUNTS, scene.tenant.organization_id, environment, OTHERS)
    await scene.connection.execute(_DISPATCHERS_OF_ACCOUNTS, version_id, environment)
    await keep_plans(scene.connection)

    arguments = (f"{_quoted(environment)}::uuid[]", _quoted("wanted"), _quoted("trigger.dev"))
    plans = [
        await _plan(scene.connection, "find_listeners", *arguments, f"ARRAY[{account}]::uuid[]")
        for account in (f"'{ours}'", "")
    ]
    async with scene.store.reading(Pool.CALL_BACKS) as tx:
        found = await tx.dispatch.find_listeners([EventKind(environment, "wanted", "trigger.dev")], [ours])

    assert [plan["Actual Rows"] for plan in plans] == [2, 1]
    (listeners,) = found.values()
    # Ids of one millisecond are in any order.
    expected = sorted([(of_all, None), (of_ours, ours)])
    assert [(listener.dispatcher_id, listener.account_id) for listener in listeners] == expected


async def test_a_dispatcher_that_listens_to_many_names_is_handed_on_once(scene: Scene) -> None:
    version_id, environment = await scene.version_id("welcome"), scene.tenant.environment_id
    names = [f"name-{number}" for number in range(100)]
    listening = [await scene.dispatcher(*names, version_id=version_id) for _ in range(LISTENING)]
    one_more = await scene.dispatcher("name-7", version_id=version_id)
    await keep_plans(scene.connection)

    plan = await _plan(
        scene.connection,
        "find_listeners",
        f"{_quoted(*[environment] * len(names))}::uuid[]",
        _quoted(*names),
        _quoted(*["trigger.dev"] * len(names)),
        "'{}'",
    )
    async with scene.store.reading(Pool.CALL_BACKS) as tx:
        found = await tx.dispatch.find_listeners([EventKind(environment, name, "trigger.dev") for name in names], [])

    assert plan["Actual Rows"] == LISTENING + 1, plan
    assert _rows_read(plan, "event_dispatchers") == LISTENING + 1, plan
    for kind, listeners in found.items():
        # Ids of one millisecond are in any order.
        expected = [*listening, one_more] if kind.name == "name-7" else listening
        assert [listener.dispatcher_id for listener in listeners] == sorted(expected), kind


async def test_making_and_ending_runs_reads_none_of_the_others(scene: Scene) -> None:
    busy, event = await scene.send("busy"), await scene.send("registered")
    await scene.connection.execute(_RUNS, busy, RUNS)
    await scene.connection.execute(
        "INSERT INTO event_invocations (event_record_id, dispatcher_id, queue_job_id)"
        " SELECT $1, gen_random_uuid(), gen_random_uuid() FROM generate_series(1, $2::integer)",
        busy,
        RUNS,
    )
    async with scene.store.transaction() as tx:
        await scene.deliver.run(tx, await scene.pulled(DELIVER_EVENT.name))
    dispatcher = (await scene.invocation(event))["dispatcher_id"]
    version = await scene.version_id("welcome")
    await scene.connection.execute("INSERT INTO job_counters SELECT id, 10000 FROM jobs")
    await keep_plans(scene.connection)

    key = (f"{_quoted(event)}::uuid[]", f"{_quoted(dispatcher)}::uuid[]")
    plans = {
        "lock_invocations": await _plan(scene.connection, "lock_invocations", *key),
        "read_invocation_states": await _plan(scene.connection, "read_invocation_states", *key),
        "insert_runs": await _plan(
            scene.connection, "insert_runs", f"{_quoted(new_uuid7())}::uuid[]", *key, f"{_quoted(version)}::uuid[]"
        ),
        "settle_invocations": await _plan(
            scene.connection, "settle_invocations", *key, "ARRAY['COMPLETED']", "ARRAY[1]", "ARRAY[NULL]::text[]"
        ),
        "reopen_invocations": await _plan(scene.connection, "reopen_invocations", *key),
    }

    for block, plan in plans.items():
        assert _rows_read(plan, "event_invocations") + _rows_read(plan, "job_runs") <= 4, (block, plan)
    assert ("welcome", 10_001, "1.0.0") in await scene.runs()


async def test_a_bite_of_an_endpoints_runs_reads_no_more_than_it_deletes(scene: Scene) -> None:
    event = await scene.send("busy")
    await scene.connection.execute(_RUNS, event, RUNS)
    other = await scene.tenant.endpoint("other")
    await scene.connection.execute(
        "UPDATE job_runs SET endpoint_id = $1 WHERE id IN (SELECT id FROM job_runs LIMIT 100)", other
    )
    await scene.connection.execute("VACUUM ANALYZE job_runs")
    await keep_plans(scene.connection)

    plans = {
        rows: await _plan(scene.connection, "delete_runs_of_endpoint", f"'{endpoint}'", limit)
        for endpoint, limit, rows in ((scene.endpoint_id, "1000", 1000), (other, "1000", 100))
    }

    # Once to find them, once to delete them.
    assert {rows: _rows_read(plan, "job_runs") for rows, plan in plans.items()} == {1000: 2000, 100: 200}, plans


async def test_whether_an_endpoint_has_many_runs_is_known_from_so_many(scene: Scene) -> None:
    await scene.connection.execute(_RUNS, await scene.send("busy"), RUNS)
    other = await scene.tenant.endpoint("other")
    await scene.connection.execute(
        "UPDATE job_runs SET endpoint_id = $1 WHERE id IN (SELECT id FROM job_runs LIMIT 100)", other
    )
    await scene.connection.execute("VACUUM ANALYZE job_runs")
    await keep_plans(scene.connection)

    plans = {
        rows: await _plan(scene.connection, "has_long_history", f"'{endpoint}'", "1000", noun="endpoints")
        for endpoint, rows in ((scene.endpoint_id, 1001), (other, 100))
    }

    assert {rows: _rows_read(plan, "job_runs") for rows, plan in plans.items()} == {1001: 1001, 100: 100}, plans


async def test_lists_of_runs_read_a_page_by_the_index_that_has_it(scene: Scene) -> None:
    await scene.register("seldom", event="seldom.happens")
    busy, quiet = await scene.send("busy"), await scene.send("seldom.happens")
    await scene.work_off()
    await scene.connection.execute(f"{_RUNS} WHERE v.id = '{await scene.version_id('welcome')}'", busy, RUNS)
    await keep_plans(scene.connection)
    environment = f"'{scene.tenant.environment_id}'::uuid"

    def arguments(job: str, event: str) -> tuple[str, ...]:
        return (environment, job, event, "'PENDING'", "NULL", "NULL", "NULL", "51")

    plans = {
        "of all": await _plan(scene.connection, "list_runs", *arguments("NULL", "NULL")),
        "of a busy job": await _plan(scene.connection, "list_runs", *arguments("'welcome'", "NULL")),
        "of a quiet job": await _plan(scene.connection, "list_runs", *arguments("'seldom'", "NULL")),
        "of a quiet event": await _plan(scene.connection, "list_runs", *arguments("NULL", f"'{quiet}'")),
        "of no job": await _plan(scene.connection, "list_runs", *arguments("'unheard-of'", "NULL")),
    }

    rows = {"of all": 51, "of a busy job": 51, "of a quiet job": 1, "of a quiet event": 1, "of no job": 0}
    for what, plan in plans.items():
        assert plan["Actual Rows"] == rows[what], (what, plan)
        assert _rows_read(plan, "job_runs") <= 2 * rows[what] + 1, (what, plan)
