"""Says whether a server can do its work, and tells gRPC health whenever that changes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from services.endpoints.domain.errors import DatabaseDefectError, KongflowError
from services.endpoints.operations.shared_reads import SharedReads

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.operations.rounds import Rounds

_LOOK_EVERY: Final = timedelta(seconds=1)


class Health(Protocol):
    """Where the answer is shown."""

    async def set_serving(self, *, is_serving: bool = True) -> None:
        """Show that calls will be answered, or that they will not."""
        ...


class Database(Protocol):
    """What is looked at."""

    async def why_not_serving(self) -> str | None:
        """Return in one sentence what it refuses, None when it serves; raise KongflowError when it is away."""
        ...


class Readiness:
    """Looks at what a server needs; liveness is not asked here, because a restart would not bring it back."""

    def __init__(self, *, database: Database, health: Health, finding: Callable[[], str | None]) -> None:
        """Hold the database, where health is shown, and what else may be wrong, in one sentence or None."""
        self._database = database
        self._health = health
        self._finding = finding
        self._looks: SharedReads[None, str | None] = SharedReads()
        self._is_draining = False
        self._is_serving = False

    def drain(self) -> None:
        """Be ready no more: this server stops."""
        self._is_draining = True

    async def why_not(self) -> str | None:
        """Return in one sentence why this server is not ready, None when it is."""
        return "This server is stopping." if self._is_draining else await self._database_away() or self._finding()

    async def run_once(self) -> None:
        """Look at the database, and show it by health when it went or came back; a drain is shown by itself."""
        is_serving = await self._database_away() is None
        if is_serving is not self._is_serving and not self._is_draining:
            self._is_serving = is_serving
            await self._health.set_serving(is_serving=is_serving)

    async def run(self, rounds: Rounds) -> None:
        """Look every second until cancelled."""
        while True:
            await rounds.complete(self.run_once)
            await asyncio.sleep(_LOOK_EVERY.total_seconds())

    async def _database_away(self) -> str | None:
        """Ask the database; many who ask at once share an answer, because anybody may."""
        try:
            return await self._looks.read(None, self._database.why_not_serving)
        except KongflowError as error:
            return error.message
        except DatabaseDefectError as error:
            return str(error)
