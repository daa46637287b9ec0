"""Fixtures of the integration tests: a store on a database of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from services.endpoints.store.postgres import PostgresStore
from tests.support.ledger import World
from tests.support.pair import running_pair
from tests.support.rpc import new_tenant, running_service
from tests.support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.pair import Pair


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    """An open store."""
    store = PostgresStore(database_url=database_url, on_ledger_change=lambda: None)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own, to look and to meddle."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def world(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> World:
    """A ledger with handlers of the test's own."""
    return World(store, connection)


@pytest.fixture
async def pair(database_url: str, redis_url: str) -> AsyncIterator[Pair]:
    """Both services in this process, one worker."""
    async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
        yield pair


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """The endpoints service with two tenants and no worker."""
    async with running_service(database_url) as service:
        yield Stage(service, await new_tenant(service, "ours"), await new_tenant(service, "theirs"))
