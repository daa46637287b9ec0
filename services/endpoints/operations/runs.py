"""What callers read of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.endpoints.domain.ports.store import Store


class RunOperations:
    """What callers read of runs."""

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store
