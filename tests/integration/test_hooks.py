"""The deployment hook over HTTP: who is let in, what is read, and what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from services.endpoints.http.server import HttpServer, hooks_and_health
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
    application = hooks_and_health(deployed=stage.service.operations.indexing.deployed, not_ready=ready)
    server = HttpServer(application, host="127.0.0.1", port=0)
    port = await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.close()


async def test_hook_of_a_suspended_endpoint_is_answered_and_asks_for_nothing(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record], http: aiohttp.ClientSession
) -> None:
    stored = await stage.store_endpoint()
    hook = f"/api/v1/endpoints/{stored.environment_id}/app/index/{stored.indexing_hook_identifier}"
    await connection.execute("UPDATE endpoints SET state = 'SUSPENDED'")
    async with nothing_stored(connection), http.post(hook, json={}) as response:
        assert (response.status, await response.json()) == (200, {"ok": True})
    await connection.execute("UPDATE endpoints SET state = 'FAILING'")
    async with http.post(hook, json={}) as response:
        assert response.status == 200

    assert await connection.fetchval("SELECT count(*) FROM endpoint_indexes") == 1
