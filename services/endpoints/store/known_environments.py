"""Which environments there are and whose they are: it never changes, and nearly every call asks."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from services.endpoints.domain.tenancy import Environment

LIFETIME: Final = timedelta(seconds=5)
MOST: Final = 10_000


class KnownEnvironments:
    """Remembers environments for 5 seconds, as long as their credentials are trusted; `monotonic` counts seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with none."""
        self._monotonic = monotonic
        self._known: dict[UUID, tuple[Environment, float]] = {}

    def get(self, environment_id: UUID) -> Environment | None:
        """Return an environment that was read within the lifetime."""
        environment, good_until = self._known.get(environment_id, (None, 0.0))
        return environment if self._monotonic() < good_until else None

    def put(self, environment: Environment) -> None:
        """Remember an environment that was just read."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[environment.id] = environment, self._monotonic() + LIFETIME.total_seconds()
