"""Says of an event which dispatchers want it, which do not and why, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.endpoints.domain.ports.store import Store


class EventExplanations:
    """Says of an event which dispatchers want it, which do not and why, and what came of it."""

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store
