"""When credentials were last used: noted as they are recognised, written together in the background."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.store import Pool

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.domain.ports.store import Store
    from services.endpoints.operations.rounds import Rounds

WRITE_EVERY: Final = timedelta(seconds=10)
MAX_NOTED: Final = 10_000


class CredentialUses:
    """Notes which tokens and API keys were used, off the path of their callers.

    At most 10,000 of each are kept until they are written; what does not fit is noted again with the next use.
    """

    def __init__(self, *, store: Store) -> None:
        """Begin with nothing to write."""
        self._store = store
        self._tokens: set[UUID] = set()
        self._environments: set[UUID] = set()

    def note_token(self, token_id: UUID) -> None:
        """Note that a token was used."""
        if len(self._tokens) < MAX_NOTED:
            self._tokens.add(token_id)

    def note_api_key(self, environment_id: UUID) -> None:
        """Note that an environment's API key was used."""
        if len(self._environments) < MAX_NOTED:
            self._environments.add(environment_id)

    async def run_once(self) -> None:
        """Write what was noted; what was written less than a minute ago stays as it is.

        Raises:
            KongflowError: PostgreSQL is away or refused.
        """
        tokens, environments = sorted(self._tokens), sorted(self._environments)
        if not tokens and not environments:
            return
        async with self._store.transaction(Pool.RELAY) as tx:
            await tx.tenancy.note_used_tokens(tokens)
            await tx.tenancy.note_used_api_keys(environments)
        self._tokens.difference_update(tokens)
        self._environments.difference_update(environments)

    async def run(self, rounds: Rounds) -> None:
        """Write every 10 seconds until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY.total_seconds())
            await rounds.complete(self.run_once)
