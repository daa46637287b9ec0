"""What reading an index of very many items costs: its items are counted once, and only for who is shown the count."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kongflow.v1 import endpoint_service_pb2 as endpoints

from services.endpoints.domain.errors import NotFoundError, PermissionDeniedError
from services.endpoints.domain.tenancy import Principal, PrincipalKind
from services.endpoints.store.indexes import PostgresIndexes
from services.endpoints.store.queries import load
from tests.support.fake_endpoint import FakeEndpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import asyncpg

    from services.endpoints.domain.endpoint_index import EndpointIndex
    from tests.support.stage import Stage

ITEMS = 2_000
WATCHERS = 100
SOURCE_DATA = '{"commit": "a1b2c3"}'
_INSERT = """
INSERT INTO endpoint_index_items (index_id, ordinal, kind, key, state)
SELECT $1, n, 'JOB', n::text, CASE WHEN n % 4 = 0 THEN 'PENDING' ELSE 'REGISTERED' END
FROM generate_series(1, $2::integer) AS n
"""


@pytest.fixture
async def index_id(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> UUID:
    """An index that registers very many items."""
    endpoint = await stage.store_endpoint()
    request = endpoints.IndexEndpointRequest(endpoint_id=endpoint.id, source_data_json=SOURCE_DATA)
    index_id = UUID((await stage.writer.endpoints.IndexEndpoint(request)).index.id)
    await connection.execute("UPDATE endpoint_indexes SET state = 'REGISTERING'")
    await connection.execute(_INSERT, index_id, ITEMS)
    return index_id


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements about indexes, as they are sent."""
    sent: list[str] = []
    fetch = PostgresIndexes._fetch

    async def noted(self: PostgresIndexes, block: str, *arguments: object) -> list[asyncpg.Record]:
        sent.append(block)
        return await fetch(self, block, *arguments)

    monkeypatch.setattr(PostgresIndexes, "_fetch", noted)
    return sent


def _rows_read(node: dict[str, Any], table: str) -> float:
    """Count the rows that scans of a table and its indexes handed on or threw away."""
    rows: float = sum(_rows_read(child, table) for child in node.get("Plans", ()))
    if node.get("Relation Name") == table:
        rows += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return rows


async def test_an_index_is_read_with_one_count_of_its_items(
    stage: Stage, index_id: UUID, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {load('indexes')['get']}", index_id, False, True
    )
    assert _rows_read(json.loads(explained)[0]["Plan"], "endpoint_index_items") == ITEMS

    request = endpoints.GetEndpointIndexRequest(index_id=str(index_id))
    index = (await stage.reader.endpoints.GetEndpointIndex(request)).index
    assert (index.items, index.pending_items, index.source_data_json) == (ITEMS, ITEMS // 4, SOURCE_DATA)
    listed = endpoints.ListEndpointIndexesRequest(endpoint_id=index.endpoint_id)
    (index,) = (await stage.reader.endpoints.ListEndpointIndexes(listed)).indexes
    assert (index.items, index.pending_items, index.source_data_json) == (ITEMS, ITEMS // 4, "")


async def test_a_page_of_items_counts_none(stage: Stage, index_id: UUID, blocks: list[str]) -> None:
    request = endpoints.ListEndpointIndexItemsRequest(index_id=str(index_id), page_size=10)
    page = await stage.reader.endpoints.ListEndpointIndexItems(request)

    assert [item.key for item in page.items] == [str(n) for n in range(1, 11)]
    assert blocks == ["endpoint_of", "list_items"]


async def test_a_repeated_create_counts_none(stage: Stage, blocks: list[str]) -> None:
    async with FakeEndpoint(api_key=stage.ours.development_key) as endpoint:
        request = endpoints.CreateEndpointRequest(
            environment_id=stage.ours.development.id, slug=endpoint.slug, url=endpoint.url, request_id=str(uuid4())
        )
        first = await stage.writer.endpoints.CreateEndpoint(request)
        blocks.clear()
        again = await stage.writer.endpoints.CreateEndpoint(request)

    assert again.index_id == first.index_id
    assert set(blocks) == {"origin"}


async def test_all_who_watch_an_index_share_what_is_read_of_each_revision(
    stage: Stage, index_id: UUID, connection: asyncpg.Connection[asyncpg.Record], blocks: list[str]
) -> None:
    async with AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(aclosing(_watch(stage, _ours(stage), index_id))) for _ in range(WATCHERS)
        ]
        for revision in range(1, 4):
            blocks.clear()
            async with asyncio.timeout(30):
                seen = await asyncio.gather(*map(anext, watchers))

            assert {index.revision for index in seen} == {revision}
            assert {(index.items, index.pending_items) for index in seen} == {(ITEMS, ITEMS // 4)}
            assert {index.source_data_json for index in seen} == {None}
            # Who is a moment late shares the next one.
            assert blocks.count("get") <= 3, blocks
            await connection.execute("UPDATE endpoint_indexes SET revision = revision + 1")


async def test_who_shares_a_read_is_asked_for_its_own_rights(stage: Stage, index_id: UUID) -> None:
    theirs = Principal(PrincipalKind.SERVICE, "theirs", UUID(stage.theirs.organization_id))
    elsewhere = Principal(
        PrincipalKind.ENVIRONMENT,
        "elsewhere",
        UUID(stage.ours.organization_id),
        UUID(stage.ours.production.id),
    )
    watches = [_watch(stage, principal, index_id) for principal in (_ours(stage), theirs, elsewhere)]
    index, not_found, denied = await asyncio.gather(*map(anext, watches), return_exceptions=True)

    assert not isinstance(index, BaseException)
    assert index.id == index_id
    assert isinstance(not_found, NotFoundError)
    assert str(index_id) in not_found.message
    assert isinstance(denied, PermissionDeniedError)
    await watches[0].aclose()


def _ours(stage: Stage) -> Principal:
    return Principal(PrincipalKind.SERVICE, "ours", UUID(stage.ours.organization_id))


def _watch(stage: Stage, principal: Principal, index_id: UUID) -> AsyncGenerator[EndpointIndex, None]:
    async def readmit() -> None:
        """Let everybody go on."""

    return stage.service.operations.indexing.watch(principal, index_id, readmit=readmit)
