"""The names by which events find their dispatchers follow the dispatchers, whoever writes these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.catalog import connected_tenant
from tests.support.offers import dynamic, interval_trigger, job, static_trigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.catalog import Tenant

_NAMES = """
SELECT n.event_name, n.source
FROM event_dispatcher_names n
JOIN event_dispatchers d ON d.id = n.dispatcher_id AND d.environment_id = n.environment_id
ORDER BY n.event_name, n.source
"""
# Where each row is and who wrote it: another answer means that something was written.
_VERSIONS = "SELECT ctid::text, xmin::text FROM event_dispatcher_names ORDER BY event_name"


@pytest.fixture
async def tenant(database_url: str) -> AsyncIterator[Tenant]:
    async with connected_tenant(database_url) as one:
        yield one


async def names(tenant: Tenant) -> list[tuple[str, str]]:
    assert await tenant.connection.fetchval("SELECT count(*) FROM event_dispatcher_names") == len(
        await tenant.rows(_NAMES)
    )
    return [(row["event_name"], row["source"]) for row in await tenant.rows(_NAMES)]


async def test_registrations_list_every_name_once(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, jobs=[job(trigger=static_trigger(["b", "a", "b"], source="shop"))])
    assert await names(tenant) == [("a", "shop"), ("b", "shop")]


async def test_names_follow_each_registration(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=static_trigger(["a", "b"]))])
    await tenant.register(app, 2, jobs=[job(trigger=static_trigger(["b", "c"]))])
    assert await names(tenant) == [("b", "trigger.dev"), ("c", "trigger.dev")]
    await tenant.register(app, 3, jobs=[job(trigger=static_trigger(["b", "c"], source="shop"))])
    assert await names(tenant) == [("b", "shop"), ("c", "shop")]
    await tenant.register(app, 4, jobs=[job(trigger=interval_trigger())])
    assert await names(tenant) == [("dev.trigger.scheduled", "trigger.dev")]
    await tenant.register(app, 5, jobs=[job(version="2.0.0", trigger=static_trigger("d"))])
    assert await names(tenant) == [("d", "trigger.dev")]


async def test_dynamic_schedules_listen_to_their_ticks(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, dynamicSchedules=[dynamic("s")], dynamicTriggers=[dynamic("t")])
    assert await names(tenant) == [("dev.trigger.scheduled", "trigger.dev")]


async def test_disabled_dispatchers_keep_their_names(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=static_trigger("a"))])
    await tenant.disable_absent(app, 2)
    assert not (await tenant.latest())["enabled"]
    assert await names(tenant) == [("a", "trigger.dev")]


@pytest.mark.parametrize(
    "change",
    [
        "enabled = NOT enabled",
        "operator_disabled = true, updated_at = now()",
        "payload_filter = '{\"a\": [1]}'",
        "event_names = event_names, source = source",
    ],
)
async def test_other_changes_write_no_names(tenant: Tenant, change: str) -> None:
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=static_trigger(["a", "b"]))])
    before = await tenant.rows(_VERSIONS)
    assert await tenant.connection.execute(f"UPDATE event_dispatchers SET {change}") == "UPDATE 1"
    assert await tenant.rows(_VERSIONS) == before
    await tenant.connection.execute("UPDATE event_dispatchers SET event_names = '{a,c}'")
    assert await tenant.rows(_VERSIONS) != before


async def test_unchanged_registrations_write_no_names(tenant: Tenant) -> None:
    app = await tenant.endpoint()
    offered = [job(trigger=static_trigger(["a", "b"]))]
    await tenant.register(app, 1, jobs=offered)
    before = await tenant.rows(_VERSIONS)
    await tenant.register(app, 2, jobs=offered)
    assert await tenant.rows(_VERSIONS) == before


async def test_names_go_with_their_dispatcher(tenant: Tenant) -> None:
    app, other = await tenant.endpoint("a"), await tenant.endpoint("b")
    await tenant.register(app, 1, jobs=[job("one", trigger=static_trigger(["a", "b"]))])
    await tenant.register(other, 1, jobs=[job("two", trigger=static_trigger("b"))])
    await tenant.connection.execute("DELETE FROM endpoints WHERE id = $1", app)
    assert await names(tenant) == [("b", "trigger.dev")]


async def test_names_that_no_event_can_have_are_left_out(tenant: Tenant) -> None:
    """Dispatchers of before may hold names of up to 500 characters, which the index of names could not."""
    app = await tenant.endpoint()
    await tenant.register(app, 1, jobs=[job(trigger=static_trigger("a", source="s"))])
    long = "".join(chr(0x10000 + number**3 % 0xFFFF1) for number in range(2_000, 2_500))  # does not compress
    update = "UPDATE event_dispatchers SET event_names = $1, source = $2"
    await tenant.connection.execute(update, ["a", long, long[:256]], "s")
    assert await names(tenant) == [("a", "s"), (long[:256], "s")]
    await tenant.connection.execute(update, ["a", long], long)
    assert await names(tenant) == []
    await tenant.connection.execute(update, [long[:256]], long[-256:])
    assert await names(tenant) == [(long[:256], long[-256:])]
