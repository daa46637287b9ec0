"""Asks for what endpoints are due: probes of those that fail, and new indexes that are owed or due by schedule."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.catalog import PROBE_ENDPOINT, new_queue_job
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import DatabaseDefectError, KongflowError
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Priority
from services.endpoints.operations.index_requests import IndexWish

if TYPE_CHECKING:
    from services.endpoints.domain.endpoint_health import HealthPolicy
    from services.endpoints.domain.ports.clock import Jitter, NewId
    from services.endpoints.domain.ports.endpoints import DueEndpoint
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.operations.index_requests import IndexRequests
    from services.endpoints.operations.rounds import Rounds

_log = structlog.get_logger(__name__)

MAX_PROBES_AT_ONCE: Final = 200
MAX_INDEXES_AT_ONCE: Final = 20
OWED_AGAIN_IN: Final = timedelta(minutes=15)
_EVERY: Final = timedelta(seconds=5)
_BY_SCHEDULE: Final = "Indexed anew by schedule."
_OWED: Final = "Indexed anew because another endpoint may have dropped what this one offers."


class EndpointUpkeep:
    """Looks every few seconds for endpoints that something is due for; any number of servers may."""

    def __init__(
        self, *, store: Store, requests: IndexRequests, policy: HealthPolicy, new_id: NewId, jitter: Jitter
    ) -> None:
        """Hold the ports."""
        self._store = store
        self._requests = requests
        self._policy = policy
        self._new_id = new_id
        self._jitter = jitter

    async def run_once(self) -> tuple[int, int]:
        """Ask for due probes and indexes; return how many of each, at most 200, and 20 owed and 20 by schedule."""
        return await self.ask_for_probes(), await self.ask_for_indexes()

    async def ask_for_probes(self) -> int:
        """Enqueue a probe for each endpoint that is due one and has none; return how many."""

        async def work(tx: Transaction) -> int:
            due = await tx.endpoints.due_probes(limit=MAX_PROBES_AT_ONCE)
            if not due:
                return 0
            ids = {endpoint.id: self._new_id() for endpoint in due}
            await tx.endpoints.note_probes(ids)
            await tx.ledger.enqueue(
                [
                    new_queue_job(
                        PROBE_ENDPOINT,
                        {"id": str(endpoint.id)},
                        queue_job_id=ids[endpoint.id],
                        lane=endpoint_lane(endpoint.id),
                        environment_id=endpoint.environment_id,
                    )
                    for endpoint in due
                ]
            )
            return len(due)

        return await self._store.transact(work, Pool.RELAY)

    async def ask_for_indexes(self) -> int:
        """Ask for an index of each endpoint that is owed one, or due one by schedule; return how many."""
        async with self._store.reading(Pool.RELAY) as tx:
            owed = await tx.endpoints.owed_indexes(limit=MAX_INDEXES_AT_ONCE)
            due = await tx.endpoints.due_indexes(limit=MAX_INDEXES_AT_ONCE) if self._policy.reindex_every else []
        asked = 0
        works = [(each, self._ask_for_owed) for each in owed] + [(each, self._ask_for_due) for each in due]
        for endpoint, work in works:
            try:
                asked += await self._store.transact(partial(work, due=endpoint), Pool.RELAY)
            except (KongflowError, DatabaseDefectError) as error:
                # The others are not to wait for one that somebody holds.
                _log.warning(
                    "due_index_waits", endpoint_id=str(endpoint.id), error=type(error).__name__, message=str(error)
                )
        return asked

    async def _ask_for_owed(self, tx: Transaction, due: DueEndpoint) -> bool:
        """Ask for the index that an endpoint is owed, past its window, and again unless it has answered by then."""
        await self._requests.serialize(tx, due.environment_id, due.slug)
        if not await tx.endpoints.is_index_owed(due.id):
            return False
        wish = IndexWish(IndexSource.INTERNAL, _OWED, priority=Priority.LOW, past_window=True)
        is_asked = await self._ask(tx, due, wish)
        await tx.endpoints.owe_index(due.id, asked_in=OWED_AGAIN_IN)
        return is_asked

    async def _ask_for_due(self, tx: Transaction, due: DueEndpoint) -> bool:
        """Ask for an index by schedule and put the next one off; a suspended endpoint is passed over until then."""
        await self._requests.serialize(tx, due.environment_id, due.slug)
        # Asked for by another server since, it may have run: a second request would wait for its window's end.
        if not await tx.endpoints.is_index_due(due.id):
            return False
        is_asked = await self._ask(tx, due, IndexWish(IndexSource.INTERNAL, _BY_SCHEDULE, priority=Priority.LOW))
        await tx.endpoints.schedule_index(due.id, next_in=self._policy.next_index_in(jitter=self._jitter()))
        return is_asked

    async def _ask(self, tx: Transaction, due: DueEndpoint, wish: IndexWish) -> bool:
        endpoint = await tx.endpoints.get(due.id)
        credential = await tx.endpoints.credential(due.environment_id)
        if endpoint is None or credential is None or endpoint.state is EndpointState.SUSPENDED:
            return False
        await self._requests.request(tx, endpoint, credential.environment.type, wish)
        return True

    async def run(self, rounds: Rounds) -> None:
        """Look every five seconds until cancelled."""
        while True:
            await rounds.complete(self.run_once)
            await asyncio.sleep(_EVERY.total_seconds())
