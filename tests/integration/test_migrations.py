from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text

from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.migrations import runner
from services.endpoints.store.migrations.runner import MigrationStatus
from services.endpoints.store.postgres import DEFAULT_POOLS

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "0015"

# Everything a migration may make, with its full definition, alembic's own table left out.
SCHEMA = """
SELECT format('%s %s', c.relkind, c.relname), coalesce(array_to_string(c.reloptions, ','), '')
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic%'
UNION ALL
SELECT format('column %s.%s', c.relname, a.attname),
       concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                 pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic%' AND a.attnum > 0
UNION ALL
SELECT format('constraint %s on %s', conname, conrelid::regclass), pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE 'alembic%'
UNION ALL
SELECT format('index %s', indexname), indexdef
FROM pg_indexes
WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'
UNION ALL
SELECT format('routine %s', oid::regprocedure), prosrc
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT format('type %s', typname), typtype::text
FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype <> 'c' AND typelem = 0
UNION ALL
SELECT format('trigger %s', tgname), pg_get_triggerdef(oid)
FROM pg_trigger
WHERE NOT tgisinternal
"""


async def read_schema(url: str) -> dict[str, str]:
    connection = await asyncpg.connect(url)
    try:
        return {row[0]: row[1] for row in await connection.fetch(SCHEMA)}
    finally:
        await connection.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_upgrade_makes_the_ledger_and_the_catalog(empty_database_url: str) -> None:
    await runner.upgrade(empty_database_url)

    schema = await read_schema(empty_database_url)
    assert {"r endpoints", "r queue_jobs", "r queue_lanes", "r jobs", "S queue_claims"} <= schema.keys()


async def test_downgrade_leaves_nothing_behind(empty_database_url: str) -> None:
    await runner.upgrade(empty_database_url)
    await runner.downgrade(empty_database_url, "base")

    assert await read_schema(empty_database_url) == {}


async def test_schema_is_the_same_after_down_and_up_again(empty_database_url: str) -> None:
    await runner.upgrade(empty_database_url)
    first = await read_schema(empty_database_url)
    await runner.downgrade(empty_database_url, "base")
    await runner.upgrade(empty_database_url)

    assert await read_schema(empty_database_url) == first


async def test_endpoint_that_fails_is_probed_again_after_down_and_up(empty_database_url: str) -> None:
    await runner.upgrade(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "INSERT INTO endpoints"
            " (id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id,"
            " state, next_probe_at)"
            " SELECT id, 'a', 'http://a/', 'abcdefghij', id, id, id, 'FAILING', now() FROM gen_random_uuid() AS id"
        )
        await runner.downgrade(empty_database_url, "0006")
        await runner.upgrade(empty_database_url)
        assert await connection.fetchval("SELECT state FROM endpoints") == "HEALTHY"
    finally:
        await connection.close()


async def test_concurrent_upgrades_wait_for_each_other(empty_database_url: str) -> None:
    upgrades = (runner.upgrade(empty_database_url) for _ in range(5))

    assert await asyncio.gather(*upgrades, return_exceptions=True) == [None] * 5
    assert (await runner.status(empty_database_url)).is_current


async def test_upgrade_of_a_current_database_keeps_its_rows(database_url: str) -> None:
    await execute(database_url, "INSERT INTO queue_pauses (queue) VALUES ('default')")
    await runner.upgrade(database_url)

    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM queue_pauses") == 1
    finally:
        await connection.close()


async def test_failed_upgrade_changes_nothing(empty_database_url: str) -> None:
    # The last table of the script stands in its way, so all statements before it have run.
    await execute(empty_database_url, "CREATE TABLE queue_pauses ()")
    before = await read_schema(empty_database_url)

    with pytest.raises(asyncpg.DuplicateTableError):
        await runner.upgrade(empty_database_url)

    assert await read_schema(empty_database_url) == before
    assert await runner.status(empty_database_url) == MigrationStatus(current=None, head=HEAD)


async def test_failed_upgrade_lets_the_next_one_pass(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE TABLE queue_pauses ()")
    with pytest.raises(asyncpg.DuplicateTableError):
        await runner.upgrade(empty_database_url)
    await execute(empty_database_url, "DROP TABLE queue_pauses")

    await runner.upgrade(empty_database_url)

    assert (await runner.status(empty_database_url)).is_current


async def test_downgrade_waits_for_who_holds_a_table_and_holds_up_nobody(database_url: str) -> None:
    """A table in use for a while: others get at it meanwhile, and the migration when it is free."""
    holder, reader = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT FROM queue_pauses")
        downgrade = asyncio.create_task(runner.downgrade(database_url, "0007"))
        async with asyncio.timeout(30):
            while not await reader.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not downgrade.done()
        # Stands behind the waiting step, which gives way before a caller of the server would give up.
        await reader.execute("SET lock_timeout = '2s'")
        await reader.fetch("SELECT FROM queue_pauses")
        assert not downgrade.done()

        await held.commit()
        await downgrade
    finally:
        await holder.close()
        await reader.close()
    assert (await runner.status(database_url)).current == "0007"


@pytest.mark.parametrize("wraps", [False, True], ids=["a-script", "a-statement-of-alembic"])
async def test_migration_gives_up_on_a_table_that_is_never_free(
    database_url: str, monkeypatch: pytest.MonkeyPatch, *, wraps: bool
) -> None:
    if wraps:
        monkeypatch.setattr(
            command,
            "downgrade",
            lambda configuration, _: configuration.attributes["connection"].execute(text("LOCK TABLE queue_pauses")),
        )
    before = await read_schema(database_url)
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM queue_pauses")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await runner.downgrade(database_url, "0007", patience=timedelta(seconds=1))
    finally:
        await holder.close()

    assert await read_schema(database_url) == before
    assert (await runner.status(database_url)).is_current


async def test_some_tries_are_shorter_than_a_deadlock_and_some_long_enough_for_an_autovacuum_to_give_way(
    database_url: str,
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        setting = "SELECT setting::integer FROM pg_settings WHERE name = 'deadlock_timeout'"
        deadlock_timeout = timedelta(milliseconds=await connection.fetchval(setting))
    finally:
        await connection.close()
    callers = DEFAULT_POOLS[Pool.CALLERS].lock_timeout
    assert min(runner.LOCK_TIMEOUTS) < deadlock_timeout < max(runner.LOCK_TIMEOUTS) < callers


async def test_status_follows_the_database(empty_database_url: str) -> None:
    assert await runner.status(empty_database_url) == MigrationStatus(current=None, head=HEAD)
    await runner.upgrade(empty_database_url)
    assert await runner.status(empty_database_url) == MigrationStatus(current=HEAD, head=HEAD)
    await runner.downgrade(empty_database_url, "base")
    assert await runner.status(empty_database_url) == MigrationStatus(current=None, head=HEAD)


async def test_unreachable_database_is_the_drivers_error(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await runner.status(f"postgresql:///kongflow?host={directory}")


async def test_database_that_refuses_who_asks_is_the_drivers_error(empty_database_url: str) -> None:
    where = urlsplit(empty_database_url)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await runner.status(where._replace(netloc=f"{where.username}:wrong@{where.hostname}:{where.port}").geturl())


@pytest.mark.parametrize(
    "address", ["postgresql://kongflow:a/secret@127.0.0.1:5432/kongflow", "postgresql://127.0.0.1:99999/kongflow"]
)
async def test_address_that_cannot_be_read_is_the_drivers_error_and_is_not_quoted(address: str) -> None:
    with pytest.raises(asyncpg.InterfaceError) as refused:
        await runner.status(address)
    assert "secret" not in str(refused.value)
