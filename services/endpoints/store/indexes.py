"""Endpoint indexes on PostgreSQL; the statements are in `sql/indexes.sql`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint_index import (
    ABSENT,
    EndpointIndex,
    EndpointIndexItem,
    IndexOrigin,
    IndexSource,
    IndexState,
    ItemKind,
    ItemState,
)
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import changed_rows, decided, load

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ports.indexes import ItemKey, ItemResult, NewItem

_SQL: Final = load("indexes")
# How many old indexes are looked at for each that may be deleted.
_LOOKED_AT_FOR_EACH: Final = 10


class PostgresIndexes:
    """Statements about endpoint indexes on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def insert(
        self,
        *,
        index_id: UUID,
        endpoint_id: UUID,
        source: IndexSource,
        source_data_json: str | None,
        reason: str | None,
        queue_job_id: UUID,
    ) -> EndpointIndex:
        """Insert a PENDING index."""
        rows = await self._fetch("insert", index_id, endpoint_id, source.value, source_data_json, reason, queue_job_id)
        return _index(rows[0])

    async def join(
        self, queue_job_id: UUID, *, source_data_json: str | None, reason: str | None
    ) -> EndpointIndex | None:
        """Give a waiting index the last request's reason and source data."""
        return _one(await self._fetch("join", queue_job_id, source_data_json, reason))

    async def begin(self, index_id: UUID, *, sequence: int) -> EndpointIndex | None:
        """Make an index FETCHING."""
        return _one(await self._fetch("begin", index_id, sequence))

    async def wait_again(self, index_id: UUID, *, error: str) -> None:
        """Make an index wait for its next attempt."""
        await self._fetch("wait_again", index_id, error)

    async def fail(self, index_id: UUID, *, error: str) -> None:
        """End an index whose fetch failed for good."""
        await self._fetch("fail", index_id, error)

    async def store_answer(
        self, index_id: UUID, *, data_json: str, stats: Mapping[str, int], items: Sequence[NewItem]
    ) -> None:
        """Store what the endpoint answered."""
        await self._fetch("store_answer", index_id, data_json, json.dumps(stats))
        await self._fetch(
            "insert_items",
            index_id,
            [item.ordinal for item in items],
            [item.kind.value for item in items],
            [item.key for item in items],
            [item.version for item in items],
            [item.state.value for item in items],
            [item.reason for item in items],
        )

    async def supersede_older(self, endpoint_id: UUID, *, sequence: int) -> list[UUID]:
        """End the PENDING items of older indexes."""
        older = [row["id"] for row in await self._fetch("older_unsettled", endpoint_id, sequence)]
        if older:
            await self._fetch("supersede_items", older)
        return older

    async def set_items(self, results: Sequence[ItemResult]) -> None:
        """Store what became of PENDING items."""
        await self._fetch(
            "set_items",
            [result.index_id for result in results],
            [result.kind.value for result in results],
            [result.key for result in results],
            [result.state.value for result in results],
            [result.reason for result in results],
        )

    async def lock(self, index_ids: Sequence[UUID]) -> list[UUID]:
        """Lock indexes by id; return those that are there."""
        return [row["id"] for row in await self._fetch("lock", index_ids)]

    async def sequences(self, index_ids: Sequence[UUID]) -> dict[UUID, int | None]:
        """Read the numbers of indexes."""
        return {row["id"]: row["sequence"] for row in await self._fetch("sequences", index_ids)}

    async def fetch_again(self, index_ids: Sequence[UUID]) -> None:
        """Make indexes wait for another fetch."""
        await self._fetch("fetch_again", index_ids)

    async def register_again(self, items: Sequence[ItemKey]) -> None:
        """Make items and their indexes register again."""
        await self.lock(sorted({item.index_id for item in items}))
        rows = await self._fetch(
            "open_items",
            [item.index_id for item in items],
            [item.kind.value for item in items],
            [item.key for item in items],
        )
        await self._fetch("register_again", sorted({row["index_id"] for row in rows}))

    async def settle(self, index_ids: Sequence[UUID]) -> list[UUID]:
        """Recompute indexes from their items; return the queue jobs of those that became FAILED."""
        rows = await self._fetch("settle", index_ids, ABSENT)
        return [row["queue_job_id"] for row in rows if row["state"] == "FAILED"]

    async def get(
        self, index_id: UUID, *, with_data: bool = False, with_source_data: bool = True
    ) -> EndpointIndex | None:
        """Read one index."""
        return _one(await self._fetch("get", index_id, with_data, with_source_data))

    async def endpoint_of(self, index_id: UUID) -> UUID | None:
        """Read which endpoint an index is of."""
        rows = await self._fetch("endpoint_of", index_id)
        return rows[0]["endpoint_id"] if rows else None

    async def origin(self, index_id: UUID) -> IndexOrigin | None:
        """Read where an index comes from."""
        rows = await self._fetch("origin", index_id)
        return IndexOrigin(**rows[0]) if rows else None

    async def revisions(self, index_ids: Collection[UUID]) -> dict[UUID, int]:
        """Read the revisions of indexes."""
        return {row["id"]: row["revision"] for row in await self._fetch("revisions", list(index_ids))}

    async def get_by_queue_job(self, queue_job_id: UUID) -> EndpointIndex | None:
        """Read the index that a queue job carries out."""
        return _one(await self._fetch("get_by_queue_job", queue_job_id))

    async def list_indexes(self, endpoint_id: UUID, *, limit: int, before: UUID | None) -> list[EndpointIndex]:
        """Read an endpoint's indexes, newest first."""
        return [_index(row) for row in await self._fetch("list_indexes", endpoint_id, before, limit)]

    async def delete_old(
        self, *, older_than: timedelta, keep_last: int, limit: int, after: datetime | None
    ) -> tuple[int, datetime | None]:
        """Delete final indexes that are old."""
        looked = _LOOKED_AT_FOR_EACH * limit
        (old,) = await self._fetch("look_at_old", older_than, after, keep_last, looked, limit)
        locked = [row["id"] for row in await self._fetch("lock_surplus", old["surplus"])]
        deleted = await self._delete(locked, limit=limit)
        return deleted, after if deleted >= limit else old["looked_to"]

    async def list_items(
        self,
        index_id: UUID,
        *,
        kind: ItemKind | None,
        state: ItemState | None,
        limit: int,
        after_ordinal: int,
    ) -> list[EndpointIndexItem]:
        """Read an index's items."""
        rows = await self._fetch(
            "list_items",
            index_id,
            kind.value if kind else None,
            state.value if state else None,
            after_ordinal,
            limit,
        )
        return [_item(row) for row in rows]

    async def delete_final(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete final indexes of one endpoint."""
        locked = [row["id"] for row in await self._fetch("lock_final", endpoint_id, limit)]
        if locked:
            await self._delete(locked, limit=limit)
        return bool(locked)

    async def _delete(self, locked: Sequence[UUID], *, limit: int) -> int:
        with translated():
            items = await self._connection.execute(_SQL["delete_items"], locked, limit)
        return changed_rows(items) + len(await self._fetch("delete_emptied", locked))

    async def _fetch(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(decided(_SQL[block], arguments), *arguments)


def _one(rows: Sequence[asyncpg.Record]) -> EndpointIndex | None:
    return _index(rows[0]) if rows else None


def _index(row: asyncpg.Record) -> EndpointIndex:
    return EndpointIndex(
        id=row["id"],
        endpoint_id=row["endpoint_id"],
        state=IndexState(row["state"]),
        stats=json.loads(row["stats"]),
        data_json=row["data"],
        source=IndexSource(row["source"]),
        source_data_json=row["source_data"],
        reason=row["reason"],
        error=row["error"],
        sequence=row["sequence"],
        revision=row["revision"],
        queue_job_id=row["queue_job_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        items=row["items"],
        pending_items=row["pending_items"],
    )


def _item(row: asyncpg.Record) -> EndpointIndexItem:
    return EndpointIndexItem(
        index_id=row["index_id"],
        ordinal=row["ordinal"],
        kind=ItemKind(row["kind"]),
        key=row["key"],
        version=row["version"],
        state=ItemState(row["state"]),
        reason=row["reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
