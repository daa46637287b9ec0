"""Renews the leases of the calls that this server has in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from services.endpoints.domain.ports.store import Pool

if TYPE_CHECKING:
    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.operations.rounds import Rounds

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Holds the claims of running calls and renews all of them with one statement."""

    def __init__(self, *, store: Store, settings: LedgerSettings) -> None:
        """Hold nothing yet."""
        self._store = store
        self._settings = settings
        self._claims: set[int] = set()

    def hold(self, claim: int) -> None:
        """Renew this claim from now on."""
        self._claims.add(claim)

    def drop(self, claim: int) -> None:
        """Stop renewing this claim; unknown ones are no mistake."""
        self._claims.discard(claim)

    async def run_once(self) -> None:
        """Renew all held claims; those that a newer owner has are dropped, and their effects will be refused.

        Raises:
            KongflowError: the database refused or was away.
            TimeoutError: it did not answer within a fraction of the lease.
        """
        held = sorted(self._claims)
        if not held:
            return
        async with (
            asyncio.timeout(self._settings.renewal_takes.total_seconds()),
            self._store.reading(Pool.LEASES) as tx,
        ):
            renewed = await tx.ledger.renew(held, lease=self._settings.lease)
        lost = self._claims.intersection(held) - renewed
        self._claims -= lost
        if lost:
            _log.warning("leases_lost", claims=sorted(lost))

    async def run(self, rounds: Rounds) -> None:
        """Renew every few seconds until cancelled; what failed is tried again soon, on a new connection."""
        while True:
            await asyncio.sleep(self._settings.renew_every.total_seconds())
            await rounds.complete(self.run_once, longest_pause=self._settings.renewal_takes / 4)
