"""What callers do with dispatchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.store import Store


class DispatcherOperations:
    """What callers do with dispatchers."""

    def __init__(self, *, store: Store, new_id: NewId) -> None:
        """Hold the ports."""
        self._store = store
        self._new_id = new_id
