"""What operations ask of endpoint indexes and their items, inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from services.endpoints.domain.endpoint_index import (
        EndpointIndex,
        EndpointIndexItem,
        IndexOrigin,
        IndexSource,
        ItemKind,
        ItemState,
    )


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item of an answer as it is stored first."""

    ordinal: int
    kind: ItemKind
    key: str
    version: str | None
    state: ItemState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item that was PENDING."""

    index_id: UUID
    kind: ItemKind
    key: str
    state: ItemState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ItemKey:
    """Names one item of an index."""

    index_id: UUID
    kind: ItemKind
    key: str


class Indexes(Protocol):
    """Statements about endpoint indexes."""

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
        ...

    async def join(
        self, queue_job_id: UUID, *, source_data_json: str | None, reason: str | None
    ) -> EndpointIndex | None:
        """Give the waiting index of a queue job the last request's reason and source data."""
        ...

    async def begin(self, index_id: UUID, *, sequence: int) -> EndpointIndex | None:
        """Make an index FETCHING with the endpoint's next number; None when it is gone."""
        ...

    async def wait_again(self, index_id: UUID, *, error: str) -> None:
        """Make an index PENDING again because its fetch failed and will be repeated."""
        ...

    async def fail(self, index_id: UUID, *, error: str) -> None:
        """Make an index FAILED because its fetch failed for good."""
        ...

    async def store_answer(
        self, index_id: UUID, *, data_json: str, stats: Mapping[str, int], items: Sequence[NewItem]
    ) -> None:
        """Make an index REGISTERING with what its endpoint answered."""
        ...

    async def supersede_older(self, endpoint_id: UUID, *, sequence: int) -> list[UUID]:
        """Make the PENDING items of the endpoint's older indexes SUPERSEDED; return those indexes."""
        ...

    async def set_items(self, results: Sequence[ItemResult]) -> None:
        """Store what became of PENDING items."""
        ...

    async def lock(self, index_ids: Sequence[UUID]) -> list[UUID]:
        """Lock indexes by id; return those that are there."""
        ...

    async def sequences(self, index_ids: Sequence[UUID]) -> dict[UUID, int | None]:
        """Read the numbers of those of `index_ids` that are there; None of one that was not fetched yet."""
        ...

    async def fetch_again(self, index_ids: Sequence[UUID]) -> None:
        """Make locked indexes PENDING once more and forget what they had found."""
        ...

    async def register_again(self, items: Sequence[ItemKey]) -> None:
        """Make items PENDING once more and their indexes REGISTERING; what is not kept any more is passed over."""
        ...

    async def settle(self, index_ids: Sequence[UUID]) -> list[UUID]:
        """Recompute locked indexes from their items; return the queue jobs of those that became FAILED."""
        ...

    async def get(
        self, index_id: UUID, *, with_data: bool = False, with_source_data: bool = True
    ) -> EndpointIndex | None:
        """Read one index and count its items, of which there may be 20,000."""
        ...

    async def endpoint_of(self, index_id: UUID) -> UUID | None:
        """Read which endpoint an index is of, and nothing else of it; None when it is gone."""
        ...

    async def origin(self, index_id: UUID) -> IndexOrigin | None:
        """Read where an index comes from, and nothing else of it; None when it is gone."""
        ...

    async def revisions(self, index_ids: Collection[UUID]) -> dict[UUID, int]:
        """Read the revisions of those of `index_ids` that are there."""
        ...

    async def get_by_queue_job(self, queue_job_id: UUID) -> EndpointIndex | None:
        """Read the index that a queue job carries out."""
        ...

    async def list_indexes(self, endpoint_id: UUID, *, limit: int, before: UUID | None) -> list[EndpointIndex]:
        """Read an endpoint's indexes, newest first."""
        ...

    async def delete_old(
        self, *, older_than: timedelta, keep_last: int, limit: int, after: datetime | None
    ) -> tuple[int, datetime | None]:
        """Delete final indexes that are old, but of each endpoint never the `keep_last` newest, and their items.

        At most `limit` of them and `limit` of their items: what has more items than that goes over several calls. Ten
        times `limit` are looked at, the oldest created after `after` or, with None, of all, and those created at the
        same time as the last one. Returns how many rows went, of both together, and the `after` of the next call.
        """
        ...

    async def delete_final(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete final indexes of one endpoint, bounded as in `delete_old`; return False once there were none."""
        ...

    async def list_items(
        self,
        index_id: UUID,
        *,
        kind: ItemKind | None,
        state: ItemState | None,
        limit: int,
        after_ordinal: int,
    ) -> list[EndpointIndexItem]:
        """Read an index's items in the order of the answer."""
        ...
