"""Finds lanes whose lease ran out and rings them again, giving back what a dead owner was running."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.errors import KongflowError
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.relay import messages_of

if TYPE_CHECKING:
    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import OpenLane
    from services.endpoints.domain.ports.observer import LedgerObserver
    from services.endpoints.domain.ports.publisher import Publisher
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.operations.finality import Finality

_log = structlog.get_logger(__name__)

_LANES_AT_ONCE: Final = 1_000


class Rescue:
    """Sweeps overdue lanes; any number of sweeps may run at once."""

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        finality: Finality,
        observer: LedgerObserver,
        settings: LedgerSettings,
    ) -> None:
        """Hold the ports."""
        self._observer = observer
        self._store = store
        self._publisher = publisher
        self._finality = finality
        self._settings = settings

    async def run_once(self) -> int:
        """Ring overdue lanes again; return how many.

        No more messages go out than the queue's window takes, so that messages do not pile up while workers are away:
        a lane without a message is overdue again later.

        Raises:
            KongflowError: the database refused or was away.
            QueueUnavailableError: Redis is away; the lanes are overdue again after their new lease.
        """
        rung = await self._store.transact(self._sweep, Pool.RELAY)
        room = await self._publisher.room(sorted({lane.queue.value for lane in rung}))
        for queue in Queue:
            lanes = [lane for lane in rung if lane.queue is queue]
            together = messages_of(queue, [lane.name for lane in lanes if not lane.alone], self._settings)
            messages = [*together, *([lane.name] for lane in lanes if lane.alone)]
            if messages:
                crash_point("after_rescue_before_publish")
                await self._publisher.publish(queue.value, messages[: room[queue.value]])
        if rung:
            _log.warning("lanes_rung_again", lanes=len(rung))
            self._observer.count_rung_again(len(rung))
        return len(rung)

    async def run(self) -> None:
        """Sweep every second until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_every.total_seconds())
            try:
                await self.run_once()
            except (KongflowError, QueueUnavailableError) as error:
                _log.warning("rescue_waits", error=type(error).__name__, message=str(error))

    async def _sweep(self, tx: Transaction) -> list[OpenLane]:
        overdue = await tx.ledger.overdue_lanes(limit=_LANES_AT_ONCE)
        if not overdue:
            return []
        running = [(queue, lane) for queue, lane, is_running in overdue if is_running]
        if running:
            ended = await tx.ledger.rescue_running(running, max_rescues=self._settings.max_rescues)
            await self._finality.settle(tx, ended, isolating=True)
        return await tx.ledger.ring_again(
            [(queue, lane) for queue, lane, _ in overdue], answer_within=self._settings.ring_answered_within
        )
