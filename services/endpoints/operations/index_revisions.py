"""Tells watches that their index has changed: one statement for all of them, whatever else the ledger's changes are."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import DatabaseDefectError, KongflowError, NoConnectionFreeError
from services.endpoints.domain.flag import Flag

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.domain.ports.publisher import WakeUps
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.operations.rounds import Rounds

_POLL: Final = timedelta(seconds=1)
_REST: Final = timedelta(milliseconds=20)


class IndexFollower(Flag):
    """A `WakeUp` for one index, raised while its revision is above `seen`, and when it is gone."""

    def __init__(self, followers: set[IndexFollower], index_id: UUID, *, seen: int) -> None:
        """Join `followers` until closed."""
        super().__init__()
        self.index_id = index_id
        self.seen = seen
        self._followers = followers
        followers.add(self)

    def close(self) -> None:
        """Leave the followers."""
        self._followers.discard(self)


class IndexRevisions:
    """Looks which of the indexes that are followed here have changed, after a wake-up and every second."""

    def __init__(self, *, store: Store, wake_ups: WakeUps) -> None:
        """Follow nothing yet."""
        self._store = store
        self._wake_ups = wake_ups
        self._followers: set[IndexFollower] = set()

    def follow(self, index_id: UUID, *, seen: int) -> IndexFollower:
        """Return a new follower, its flag down."""
        return IndexFollower(self._followers, index_id, seen=seen)

    async def run_once(self) -> None:
        """Wake whose index has changed; everybody when the database is away, because each is told why.

        Raises:
            KongflowError, DatabaseDefectError: the database is away, or answers with an error that nobody expects.
        """
        followers = tuple(self._followers)
        if not followers:
            return
        try:
            async with self._store.reading() as tx:
                revisions = await tx.indexes.revisions({follower.index_id for follower in followers})
        except NoConnectionFreeError:
            # Who looks by himself would find none either.
            return
        except (KongflowError, DatabaseDefectError):
            for follower in followers:
                follower.wake()
            raise
        for follower in followers:
            if revisions.get(follower.index_id, math.inf) > follower.seen:
                follower.wake()

    async def run(self, rounds: Rounds) -> None:
        """Look until cancelled, at most fifty times a second."""
        wake_up = self._wake_ups.subscribe()
        try:
            while True:
                await wake_up.wait(_POLL)
                await rounds.complete(self.run_once)
                await asyncio.sleep(_REST.total_seconds())
        finally:
            wake_up.close()
