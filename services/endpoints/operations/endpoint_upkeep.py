"""Asks for what endpoints are due: probes of those that fail, and new indexes by schedule or at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.catalog import PROBE_ENDPOINT, new_queue_job
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.errors import DatabaseDefectError, KongflowError
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Priority
from services.endpoints.domain.tenancy import EnvironmentType
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
_EVERY: Final = timedelta(seconds=5)
_BY_SCHEDULE: Final = "Indexed anew by schedule."
_AT_ONCE: Final = "Indexed anew because another endpoint dropped what this one offers with other content."


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
        """Ask for due probes and due indexes; return how many of each, at most 200 and 20."""
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
        """Ask for an index of each endpoint that is due one, by schedule through its window; return how many."""
        is_scheduled = bool(self._policy.reindex_every)
        async with self._store.reading(Pool.RELAY) as tx:
            due = await tx.endpoints.due_indexes(limit=MAX_INDEXES_AT_ONCE, is_scheduled=is_scheduled)
        asked = 0
        for endpoint in due:
            try:
                asked += await self._ask_for_index(endpoint)
            except (KongflowError, DatabaseDefectError) as error:
                # The others are not to wait for one that somebody holds.
                _log.warning(
                    "due_index_waits", endpoint_id=str(endpoint.id), error=type(error).__name__, message=str(error)
                )
        return asked

    async def _ask_for_index(self, due: DueEndpoint) -> bool:
        """Ask for one endpoint's index and put its next one off.

        A suspended one is passed over until then, and one that is due at once until it is back.
        """

        async def work(tx: Transaction) -> bool:
            await self._requests.serialize(tx, due.environment_id, due.slug)
            endpoint = await tx.endpoints.get(due.id)
            credential = await tx.endpoints.credential(due.environment_id)
            # Asked for by another server since, it may have run: a second request would wait for its window's end.
            if endpoint is None or credential is None or not await tx.endpoints.is_index_due(due.id):
                return False
            is_wanted = endpoint.state is not EndpointState.SUSPENDED
            if due.at_once and not is_wanted:
                return False
            if is_wanted:
                reason = _AT_ONCE if due.at_once else _BY_SCHEDULE
                wish = IndexWish(IndexSource.INTERNAL, reason, priority=Priority.LOW, past_window=due.at_once)
                await self._requests.request(tx, endpoint, credential.environment.type, wish)
            has_schedule = credential.environment.type is EnvironmentType.PRODUCTION
            next_in = self._policy.next_index_in(jitter=self._jitter()) if has_schedule else None
            return await tx.endpoints.schedule_index(due.id, next_in=next_in) and is_wanted

        return await self._store.transact(work, Pool.RELAY)

    async def run(self, rounds: Rounds) -> None:
        """Look every five seconds until cancelled."""
        while True:
            await rounds.complete(self.run_once)
            await asyncio.sleep(_EVERY.total_seconds())
