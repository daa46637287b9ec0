"""What callers do with events: send, read, cancel and replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.store import Store


class EventOperations:
    """What callers do with events: send, read, cancel and replay."""

    def __init__(self, *, store: Store, new_id: NewId) -> None:
        """Hold the ports."""
        self._store = store
        self._new_id = new_id
