"""The deployment hook over HTTP: who is let in, what is read, and what is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from services.endpoints.http.server import HttpServer, hooks_and_health
from services.endpoints.rpc.memory import PLENTY
from tests.support.stage import nothing_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.stage import Stage


async def ready() -> str | None:
    return None


@pytest.fixture
async def http(stage: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the hooks of the stage's service."""
    application = hooks_and_health(
        deployed=stage.service.operations.indexing.deployed, not_ready=ready, admit=PLENTY.admit
    )
    server = HttpServer(application, host="127.0.0.1", port=0)
    port = await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.close()


async def test_hook_of_an_endpoint_that_fails_makes_its_probe_due_with_the_index_it_asks_for(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record], http: aiohttp.ClientSession
) -> None:
    stored = await stage.store_endpoint()
    hook = f"/api/v1/endpoints/{stored.environment_id}/app/index/{stored.indexing_hook_identifier}"
    for state in ("SUSPENDED", "FAILING"):
        await connection.execute("UPDATE endpoints SET state = $1, next_probe_at = now() + interval '1 hour'", state)
        async with http.post(hook, json={}) as response:
            assert (response.status, await response.json()) == (200, {"ok": True})
        wait = await connection.fetchval("SELECT next_probe_at - clock_timestamp() FROM endpoints")
        assert timedelta() < wait < timedelta(minutes=1)

    assert await connection.fetchval("SELECT count(*) FROM endpoint_indexes") == 1


async def test_every_hook_that_is_not_there_is_refused_in_the_same_words(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record], http: aiohttp.ClientSession
) -> None:
    stored = await stage.store_endpoint()
    environment, right = stored.environment_id, stored.indexing_hook_identifier
    hooks = {
        "absent slug": f"{environment}/absent/index/{right}",
        "NUL in the slug": f"{environment}/app%00/index/{right}",
        "wrong identifier": f"{environment}/app/index/0000000000",
        "NUL in the identifier": f"{environment}/app/index/000000000%00",
        "no letters of the alphabet": f"{environment}/app/index/%E2%82%AC",
        "other environment": f"{stage.ours.production.id}/app/index/{right}",
        "UUID without dashes": f"{environment.replace('-', '')}/app/index/{right}",
    }
    answers = {}
    async with nothing_stored(connection):
        for name, hook in hooks.items():
            async with http.post(URL(f"/api/v1/endpoints/{hook}", encoded=True), json={}) as response:
                answers[name] = (response.status, await response.text())

    assert answers == dict.fromkeys(hooks, (404, '{"error": "There is no such indexing hook."}'))


@pytest.mark.parametrize(("identifier", "expected"), [("right", 413), ("0000000000", 404)])
async def test_body_that_is_too_large_is_refused_as_json_to_those_only_who_know_the_hook(
    stage: Stage, http: aiohttp.ClientSession, identifier: str, expected: int
) -> None:
    stored = await stage.store_endpoint()
    known = stored.indexing_hook_identifier if identifier == "right" else identifier
    hook = f"/api/v1/endpoints/{stored.environment_id}/app/index/{known}"
    async with http.post(hook, data=b" " * (512 * 1024 + 1)) as response:
        assert (response.status, response.content_type) == (expected, "application/json")
        assert list(await response.json()) == ["error"]
