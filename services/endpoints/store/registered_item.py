"""What the registrations of all kinds share: where an item belongs and what is stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.endpoints.domain.registration import StoredItem

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ports.catalog import ItemRegistration


@dataclass(frozen=True, slots=True)
class PlacedRegistration:
    """A registration and the tenant its endpoint belongs to."""

    registration: ItemRegistration
    environment_id: UUID
    organization_id: UUID
    project_id: UUID


def stored_item(row: asyncpg.Record) -> StoredItem | None:
    """Return what a row of an outer join says is stored, or None when it found nothing."""
    if row["endpoint_id"] is None:
        return None
    return StoredItem(row["endpoint_id"], is_enabled=row["is_enabled"], content_hash=row["content_hash"])
